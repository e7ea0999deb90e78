"""The few layers that the network is made of, for images and volumes alike.

Outside pre-training a normalisation layer is an affine map with frozen statistics, so it
is folded into the convolution before it: one pass and one tensor less. In-place steps
touch only tensors made in the same call, which autograd allows.
"""

import math
from collections.abc import Iterable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}

ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]

NATIVE_VALUES = 20480
"""Up to so many values, but for the last axis of volumes, torch leaves the backward pass of a
convolution of a single input to its own code, up to ten times slower than oneDNN's."""


SAFE_EDGE = 3
"""Below this edge oneDNN's gradient of a bfloat16 kernel holds memory that nobody wrote (torch
2.13 on AVX-512)."""

SLAB = 8
"""Planes of a window that are computed at once where its finest maps need not be whole; even."""

PARTS = 8
"""Parts of a map that are made one after the other where two maps join, to hold less."""


def laid_out(x: Tensor) -> Tensor:
    """Return ``(N, C, *spatial)`` in the memory order that its device computes in.

    On a CPU that is channels last, in which oneDNN is twice as fast as in any other; else
    it is contiguous.
    """
    if x.device.type != "cpu":
        return x.contiguous()
    if x.shape[1] == 1:  # both orders at once; only strides of 1 tell oneDNN
        return x.contiguous().view(len(x), *x.shape[2:], 1).movedim(-1, 1)
    return x.contiguous(memory_format=CHANNELS_LAST[x.dim() - 2])


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    dilation: int = 1,
    inner: bool = False,
) -> Tensor:
    """Convolve with kernel 3 and zeros around the window, which keeps its shape.

    Parameters
    ----------
    x
        ``(N, I, *spatial)``.
    weight, bias
        ``(O, I, *[3] * dim)`` and ``(O,)``.
    dilation
        Voxels between two taps.
    inner
        Whether the first and the last plane along the first spatial axis are there for their
        neighbours alone: the result has none of theirs.

    Returns
    -------
    Tensor
        ``(N, O, *spatial)``, laid out.

    Notes
    -----
    A small single input that is trained on goes in as a batch of its two halves, with the
    planes that they need of each other: see `NATIVE_VALUES`.
    """
    padding = [dilation] * (x.dim() - 2)
    if inner:
        return _convolution(x, weight, bias, padding=[0, *padding[1:]], dilation=dilation)
    small = x.device.type == "cpu" and math.prod(x.shape[:4]) <= NATIVE_VALUES
    learns = torch.is_grad_enabled() and weight.requires_grad
    if not (small and learns and len(x) == 1 and x.shape[2] % 2 == 0):
        return _convolution(x, weight, bias, padding=padding, dilation=dilation)
    half = x.shape[2] // 2
    halves = [_planes(x, start, half, dilation) for start in (0, half)]
    y = _convolution(torch.cat(halves), weight, bias, padding=[0, *padding[1:]], dilation=dilation)
    return torch.cat(y.chunk(2), dim=2)


def _planes(x: Tensor, start: int, count: int, margin: int) -> Tensor:
    """Return planes of the first spatial axis and `margin` more on both sides, or zeros."""
    first, last = max(0, start - margin), min(x.shape[2], start + count + margin)
    missing = [first - (start - margin), start + count + margin - last]
    return F.pad(x[:, :, first:last], [0, 0] * (x.dim() - 3) + missing)


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    padding: list[int],
    stride: int = 1,
    dilation: int = 1,
) -> Tensor:
    """Convolve, laid out; by oneDNN on a CPU, which torch by itself asks for large inputs only.

    Weights follow the precision of `x`.
    """
    dim = x.dim() - 2
    if x.device.type == "cpu" and mixed(x) and min(x.shape[2:]) < SAFE_EDGE:
        with torch.autocast("cpu", enabled=False):
            return _convolution(
                x.float(), weight, bias, padding=padding, stride=stride, dilation=dilation
            )
    x = laid_out(x)
    weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
    if x.device.type == "cpu" and ONEDNN and not mixed(x):
        return torch.mkldnn_convolution(
            x, weight, bias, padding, [stride] * dim, [dilation] * dim, 1
        )
    function = F.conv3d if dim == 3 else F.conv2d
    return function(x, weight, bias, stride, padding, dilation)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve with kernel 1.

    Parameters
    ----------
    x
        ``(N, I, *spatial)``.
    weight, bias
        ``(O, I)`` and ``(O,)``.

    Returns
    -------
    Tensor
        ``(N, O, *spatial)``, laid out.

    Notes
    -----
    What learns in float32 on a CPU is a matrix product: oneDNN's gradient of a kernel of 1 takes
    several times as long.
    """
    dim = x.dim() - 2
    if torch.is_grad_enabled() and x.device.type == "cpu" and not mixed(x):
        return F.linear(laid_out(x).movedim(1, -1), weight, bias).movedim(-1, 1)
    return _convolution(x, weight.view(*weight.shape, *[1] * dim), bias, padding=[0] * dim)


def mixed(x: Tensor) -> bool:
    """Tell whether autocast mixes precisions, which in-place steps do not take."""
    return torch.is_autocast_enabled(x.device.type)


def single(x: Tensor) -> Tensor:
    """Return `x` in float32 if it is coarser."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def frozen_affine(norm: nn.BatchNorm2d | nn.BatchNorm3d) -> tuple[Tensor, Tensor]:
    """Return scale and shift, ``(C,)`` each, of a normalisation with frozen statistics."""
    assert norm.running_var is not None  # our layers track their statistics
    assert norm.running_mean is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def per_channel(values: Tensor, dim: int) -> Tensor:
    """Return ``(C,)`` values as ``(C, 1, ...)``, to meet channels or rows of weights."""
    return values.view(-1, *[1] * dim)


class Pointwise(nn.Module):
    """Convolution of kernel 1 with bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, inputs, *spatial)`` to ``(N, outputs, *spatial)``."""
        return pointwise(x, self.weight, self.bias)


def halve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve with kernel 2 and stride 2.

    Parameters
    ----------
    x
        ``(N, I, *spatial)``, even edges.
    weight, bias
        ``(O, I, *[2] * dim)`` and ``(O,)``.

    Returns
    -------
    Tensor
        ``(N, O, *(spatial / 2))``, laid out.
    """
    return _convolution(x, weight, bias, padding=[0] * (x.dim() - 2), stride=2)


class Up(nn.Module):
    """Transposed convolution with kernel 2 and stride 2, as one matrix product.

    Parameters
    ----------
    dim
        2 or 3.
    inputs, outputs
        Channels before and after.
    """

    def __init__(self, dim: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, *[2] * dim, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, inputs, *spatial)`` to ``(N, outputs, *(2 * spatial))``."""
        dim = x.dim() - 2
        weight = self.weight.movedim(0, -2)  # (2, 2, 2, O, I)
        y = pointwise(x, weight.flatten(0, -2), self.bias.repeat(2**dim))
        y = y.movedim(1, -1).view(len(x), *x.shape[2:], *weight.shape[:-1])
        pairs = [axis for i in range(1, 1 + dim) for axis in (i, dim + i)]
        y = y.permute(0, *pairs, -1)  # (N, z, y, x, 2, 2, 2, O) to (N, z, 2, y, 2, x, 2, O)
        return laid_out(y.reshape(len(x), *(2 * n for n in x.shape[2:]), -1).movedim(-1, 1))


class ConvNorm(nn.Module):
    """Convolution, normalisation, ReLU; a residual joins before the normalisation.

    Kernel 3, or with `down` kernel 2 and stride 2.
    """

    def __init__(self, dim: int, inputs: int, outputs: int, *, down: bool = False) -> None:
        super().__init__()
        kernel = 2 if down else 3
        self.down = down
        self.weight = nn.Parameter(torch.empty(outputs, inputs, *[kernel] * dim))
        self.norm = NORM[dim](outputs)

    def forward(self, x: Tensor, residual: Tensor | None = None, *, inner: bool = False) -> Tensor:
        """Map ``(N, inputs, *spatial)`` to ``(N, outputs, *spatial)``, halved by `down`.

        Without the first and the last plane where `inner` (see `convolve`).
        """
        function = halve if self.down else partial(convolve, inner=inner)
        weight: Tensor = self.weight
        if residual is x:  # then it is one more tap at the kernel's middle
            weight, residual = weight + _identity(weight), None
        if self.norm.training:
            y = function(x, weight)
            normalised: Tensor = self.norm(y if residual is None else y + residual)
            return normalised.relu_()
        dim = x.dim() - 2
        scale, shift = frozen_affine(self.norm)
        y = function(x, weight * per_channel(scale, dim + 1), shift)
        if residual is not None and mixed(x):
            y = y + residual * per_channel(scale, dim)
        elif residual is not None:
            y.addcmul_(residual, per_channel(scale, dim).to(y.dtype))
        return y.relu_()


class Rolling:
    """Convolutions of a window that comes slab by slab, in order along its first axis.

    Each keeps the two planes that it needs again, so that nothing is computed twice, and no
    map between them is ever whole. For networks that don't learn.

    Parameters
    ----------
    convolutions
        One after the other, with whether its input joins its result.
    """

    def __init__(self, convolutions: Iterable[tuple[nn.Module, bool]]) -> None:
        self._convolutions = list(convolutions)
        self._kept: list[Tensor | None] = [None] * len(self._convolutions)

    def __call__(self, slab: Tensor, *, last: bool) -> Tensor:
        """Return the planes of the result that `slab` completes: of the `last`, all of them."""
        for number, (convolution, residual) in enumerate(self._convolutions):
            outside = torch.zeros_like(slab[:, :, :1])
            before = self._kept[number]
            planes = [outside if before is None else before, slab]
            slab = torch.cat([*planes, outside] if last else planes, dim=2)
            del planes, before
            self._kept[number] = None if last else slab[:, :, -2:].clone()
            slab = convolution(slab, slab if residual else None, inner=True)
        return slab


def in_slabs(x: Tensor) -> bool:
    """Tell whether the finest maps of a window need not be whole: on a CPU, unless it learns."""
    return x.dim() == 5 and x.device.type == "cpu" and not (torch.is_grad_enabled() or mixed(x))


def slabs(planes: int) -> Iterator[tuple[slice, bool]]:
    """Yield slices of `SLAB` planes, and whether it is the last."""
    for start in range(0, planes, SLAB):
        yield slice(start, start + SLAB), start + SLAB >= planes


def gathered(parts: Iterable[Tensor], planes: int) -> Tensor:
    """Return the parts of a volume's map, in order along z, as one of so many planes, on a CPU."""
    whole: Tensor | None = None
    start = 0
    for part in parts:
        if whole is None:
            shape = (*part.shape[:2], planes, *part.shape[3:])
            whole = torch.empty(shape, dtype=part.dtype, memory_format=CHANNELS_LAST[3])
        whole[:, :, start : start + part.shape[2]] = part
        start += part.shape[2]
    assert whole is not None  # a window has planes
    return whole


class Join(nn.Module):
    """Concatenation of two maps, 1x1 convolution, (normalisation,) ReLU.

    The concatenation is never made: each map meets its own half of the weights.
    """

    def __init__(self, dim: int, first: int, second: int, outputs: int, *, norm: bool) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.empty(outputs, first))
        self.second = nn.Parameter(torch.empty(outputs, second))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.norm = NORM[dim](outputs) if norm else None

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Map ``(N, first, *spatial)`` and ``(N, second, *spatial)`` to ``(N, outputs, ...)``."""
        first: Tensor = self.first
        second: Tensor = self.second
        bias: Tensor = self.bias
        folded = self.norm is not None and not self.norm.training
        if self.norm is not None and folded:
            scale, shift = frozen_affine(self.norm)
            first, second, bias = first * scale[:, None], second * scale[:, None], bias * scale
            bias = bias + shift
        if a is b:  # a level that does not attend
            y = pointwise(a, first + second, bias)
        else:
            y = _add(pointwise(a, first, bias), b, second)
        if self.norm is not None and not folded:
            y = self.norm(y)
        return y.relu_()


def _add(y: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Return ``y + pointwise(x, weight)``; where nothing learns, in place and part by part."""
    if torch.is_grad_enabled():
        return y + pointwise(x, weight)
    for part, of_x in zip(y.chunk(PARTS, 2), x.chunk(PARTS, 2), strict=True):
        part += pointwise(of_x, weight)
    return y


def _identity(weight: Tensor) -> Tensor:
    """Return the kernel of `weight`'s shape, of edge 3, that changes nothing."""
    dim = weight.dim() - 2
    eye = torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
    return F.pad(eye.view(*eye.shape, *[1] * dim), [1] * 2 * dim)
