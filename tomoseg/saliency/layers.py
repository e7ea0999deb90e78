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
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> Tensor:
    """Convolve, on a CPU always by oneDNN.

    For one thread torch would take an unfolding convolution wherever a heuristic says so,
    ten times slower and with 27 copies of the input in memory; channels-last inputs never
    take it.

    Parameters
    ----------
    x
        ``(N, I, *spatial)``.
    weight, bias
        ``(O, I, *kernel)`` and ``(O,)``.
    stride, padding, dilation
        The same along every axis.

    Returns
    -------
    Tensor
        ``(N, O, *spatial_out)``, contiguous.
    """
    function = F.conv3d if x.dim() == 5 else F.conv2d
    if x.device.type == "cpu":
        x = x.contiguous(memory_format=CHANNELS_LAST[x.dim() - 2])
        if x.shape[1] == 1:  # both layouts at once: say which
            x = x.as_strided(x.shape, (x[0].numel(), 1, *x.stride()[2:]))
    return function(x, weight, bias, stride, padding, dilation).contiguous()


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
    return product.unflatten(2, x.shape[2:])


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
        y = y.unflatten(1, self.weight.shape[:-1])  # (N, O, 2, ..., *spatial)
        pairs = [axis for i in range(dim) for axis in (2 + dim + i, 2 + i)]
        y = y.permute(0, 1, *pairs)  # (N, O, z, 2, y, 2, x, 2)
        return y.reshape(*y.shape[:2], *(2 * n for n in x.shape[2:]))


class ConvNorm(nn.Module):
    """Convolution, normalisation, ReLU; a residual joins before the normalisation."""

    def __init__(
        self, dim: int, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1
    ) -> None:
        super().__init__()
        self.geometry = {"stride": stride, "padding": kernel // 2 if stride == 1 else 0}
        self.weight = nn.Parameter(torch.empty(outputs, inputs, *[kernel] * dim))
        self.norm = NORM[dim](outputs)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Map ``(N, inputs, *spatial)`` to ``(N, outputs, *(spatial / stride))``."""
        if self.norm.training:
            y = convolve(x, self.weight, **self.geometry)
            normalised: Tensor = self.norm(y if residual is None else y + residual)
            return normalised.relu_()
        dim = x.dim() - 2
        scale, shift = frozen_affine(self.norm)
        y = convolve(x, self.weight * per_channel(scale, dim + 1), shift, **self.geometry)
        if residual is not None:
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
        first, second, bias = self.first, self.second, self.bias
        folded = self.norm is not None and not self.norm.training
        if self.norm is not None and folded:
            scale, shift = frozen_affine(self.norm)
            first, second, bias = first * scale[:, None], second * scale[:, None], bias * scale
            bias = bias + shift
        y = pointwise(a, first, bias)
        y.flatten(2).baddbmm_(second.expand(len(b), -1, -1), b.flatten(2))
        if self.norm is not None and not folded:
            y = self.norm(y)
        return y.relu_()
