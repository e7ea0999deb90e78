"""The few layers that the network is made of, for images and volumes alike.

Outside pre-training a normalisation layer is an affine map with frozen statistics, so it
is folded into the convolution before it: one pass and one tensor less. In-place steps
touch only tensors made in the same call, which autograd allows.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}
SLAB_VOXELS = 2**16
"""Voxels of half a slab of a convolution on a CPU; measured the fastest of 2^13 to 2^17."""

CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, dilation: int = 1) -> Tensor:
    """Convolve with kernel 3 and zeros around the window, which keeps its shape.

    Parameters
    ----------
    x
        ``(N, I, *spatial)``.
    weight, bias
        ``(O, I, *[3] * dim)`` and ``(O,)``.
    dilation
        Voxels between two taps.

    Returns
    -------
    Tensor
        ``(N, O, *spatial)``, contiguous.

    Notes
    -----
    On a CPU, torch unfolds a small single input (27 copies of it, up to ten times slower)
    and leaves a batch to oneDNN. So a single input goes in slab by slab, each as a batch
    of its two halves with the planes that they need of their neighbours; what is copied
    for that stays in the cache. A batch that is trained on goes in channels last: oneDNN's
    backward pass is then three to five times faster at full resolution.
    """
    function = F.conv3d if x.dim() == 5 else F.conv2d
    depth = x.shape[2]
    dim = x.dim() - 2
    if x.device.type == "cpu" and len(x) > 1 and weight.requires_grad and torch.is_grad_enabled():
        x = x.contiguous(memory_format=CHANNELS_LAST[dim])
        return function(x, weight, bias, 1, dilation, dilation).contiguous()
    if x.device.type != "cpu" or len(x) > 1 or depth % 2:
        return function(x, weight, bias, 1, dilation, dilation)
    padding = [0] + [dilation] * (dim - 1)
    half = max(1, min(depth // 2, SLAB_VOXELS // x[0, 0, 0].numel()))
    slabs: list[Tensor] = []
    for start in range(0, depth, 2 * half):
        planes = min(half, (depth - start) // 2)
        halves = [_planes(x, start + k * planes, planes, dilation) for k in (0, 1)]
        batch = torch.cat(halves).contiguous(memory_format=CHANNELS_LAST[dim])
        slabs.extend(function(batch, weight, bias, 1, padding, dilation).contiguous().chunk(2))
    return torch.cat(slabs, dim=2)


def _planes(x: Tensor, start: int, count: int, margin: int) -> Tensor:
    """Return planes of the first spatial axis and `margin` more on both sides, or zeros."""
    first, last = max(0, start - margin), min(x.shape[2], start + count + margin)
    missing = [first - (start - margin), start + count + margin - last]
    return F.pad(x[:, :, first:last], [0, 0] * (x.dim() - 3) + missing)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve with kernel 1, as one matrix product.

    Parameters
    ----------
    x
        ``(N, I, *spatial)``.
    weight, bias
        ``(O, I)`` and ``(O,)``.

    Returns
    -------
    Tensor
        ``(N, O, *spatial)``.
    """
    product = torch.baddbmm(bias[None, :, None], weight.expand(len(x), -1, -1), x.flatten(2))
    return product.view(*product.shape[:2], *x.shape[2:])


def mixed(x: Tensor) -> bool:
    """Tell whether autocast mixes precisions, which in-place steps do not take."""
    return torch.is_autocast_enabled(x.device.type)


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
    """Convolve with kernel 2 and stride 2, as one matrix product.

    Parameters
    ----------
    x
        ``(N, I, *spatial)``, even edges.
    weight, bias
        ``(O, I, *[2] * dim)`` and ``(O,)``.

    Returns
    -------
    Tensor
        ``(N, O, *(spatial / 2))``.
    """
    dim = x.dim() - 2
    x = x.reshape(*x.shape[:2], *(m for n in x.shape[2:] for m in (n // 2, 2)))
    x = x.permute(0, 1, *range(3, 3 + 2 * dim, 2), *range(2, 2 + 2 * dim, 2))
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    return pointwise(x.flatten(1, 1 + dim), weight.flatten(1), bias)


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
        bias = self.bias.repeat_interleave(2**dim)
        y = pointwise(x, self.weight.flatten(0, -2), bias)  # (N, O * 2**d, *spatial)
        y = y.view(len(x), *self.weight.shape[:-1], *x.shape[2:])  # (N, O, 2, 2, 2, z, y, x)
        pairs = [axis for i in range(dim) for axis in (2 + dim + i, 2 + i)]
        y = y.permute(0, 1, *pairs)  # (N, O, z, 2, y, 2, x, 2)
        return y.reshape(*y.shape[:2], *(2 * n for n in x.shape[2:]))


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

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Map ``(N, inputs, *spatial)`` to ``(N, outputs, *spatial)``, halved by `down`."""
        function = halve if self.down else convolve
        if self.norm.training:
            y = function(x, self.weight)
            normalised: Tensor = self.norm(y if residual is None else y + residual)
            return normalised.relu_()
        dim = x.dim() - 2
        scale, shift = frozen_affine(self.norm)
        y = function(x, self.weight * per_channel(scale, dim + 1), shift)
        if residual is not None and mixed(x):
            y = y + residual * per_channel(scale, dim)
        elif residual is not None:
            y.addcmul_(residual, per_channel(scale, dim))
        return y.relu_()


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
        y = pointwise(a, first, bias)
        if mixed(y):
            y = y + pointwise(b, second, torch.zeros_like(bias))
        else:
            y.flatten(2).baddbmm_(second.expand(len(b), -1, -1), b.flatten(2))
        if self.norm is not None and not folded:
            y = self.norm(y)
        return y.relu_()
