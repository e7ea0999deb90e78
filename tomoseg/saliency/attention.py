"""Global and local attention over pixels or voxels (PUB-SalNet, after PiCANet).

Both weigh features by a softmax that the features themselves make. Global attention sums
over a fixed grid of positions, local attention over ``k**d`` neighbours of each voxel.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tomoseg.saliency.layers import Pointwise, convolve, mixed, single

# Voxels that local attention works on at once: what stays in a CPU's cache, and enough to
# fill a GPU. Both are constants, so the order of every sum is a function of the shape.
SLAB_VOXELS = {"cpu": 2**15, "cuda": 2**22}


def averaging_matrix(cells: int, length: int) -> Tensor:
    """Return the matrix that averages `length` samples into `cells` equal intervals.

    Returns
    -------
    Tensor
        ``(cells, length)``, float32 on the CPU. Entry ``(i, j)`` is the share of cell i
        that sample j covers; rows sum to 1. The identity where both numbers are equal.
    """
    edges = torch.arange(cells, dtype=torch.float64) * (length / cells)
    samples = torch.arange(length, dtype=torch.float64)
    starts = torch.maximum(edges[:, None], samples[None, :])
    stops = torch.minimum(edges[:, None] + length / cells, samples[None, :] + 1)
    return ((stops - starts).clamp(min=0) * (cells / length)).float()


def pool_to_grid(x: Tensor, grid: int) -> Tensor:
    """Average-pool every spatial axis to `grid` cells, by matrices (deterministic backward).

    Parameters
    ----------
    x
        ``(N, C, *spatial)``.
    grid
        Cells along each spatial axis.

    Returns
    -------
    Tensor
        ``(N, C, *[grid] * dim)``.
    """
    for axis in range(2, x.dim()):
        matrix = averaging_matrix(grid, x.shape[axis]).to(x)
        x = (x.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return x


class Sweeps(nn.Module):
    """ReNet: a bi-directional LSTM along each axis in turn, so that each voxel sees all.

    Maps ``(N, inputs, *spatial)`` to ``(N, 2 * hidden, *spatial)``.
    """

    def __init__(self, dim: int, inputs: int, hidden: int) -> None:
        super().__init__()
        sizes = [inputs] + [2 * hidden] * (dim - 1)
        self.axes = nn.ModuleList(
            nn.LSTM(size, hidden, batch_first=True, bidirectional=True) for size in sizes
        )

    def train(self, mode: bool = True) -> "Sweeps":
        """Leave the LSTMs in training mode: they hold no dropout, and cuDNN asks for it."""
        self.training = mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Sweep along the first spatial axis, then the next."""
        y = x.movedim(1, -1)
        for axis, sweep in enumerate(self.axes, start=1):
            lines = y.movedim(axis, -2)
            swept, _ = sweep(lines.flatten(0, -3))
            y = swept.unflatten(0, lines.shape[:-2]).movedim(-2, axis)
        return y.movedim(-1, 1)


class GlobalAttention(nn.Module):
    """Weighted sum over a fixed grid of ``grid**dim`` positions, its weights from sweeps.

    The positions are the feature map average-pooled to the grid, so that the number of
    weights does not fix the size of the window; where the map is the grid, this is the
    paper's sum over all positions.
    """

    def __init__(self, dim: int, channels: int, grid: int) -> None:
        super().__init__()
        self.grid = grid
        hidden = max(1, channels // 4)
        self.sweeps = Sweeps(dim, channels, hidden)
        self.attend = Pointwise(2 * hidden, grid**dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, *spatial)`` to the same shape."""
        exact = x if mixed(x) else single(x)
        weights = torch.softmax(self.attend(self.sweeps(exact)).flatten(2), dim=1)  # (N, D, P)
        positions = pool_to_grid(exact, self.grid).flatten(2)  # (N, C, D)
        return torch.bmm(positions, weights).view(x.shape).to(x.dtype)


class LocalAttention(nn.Module):
    """Weighted sum over ``kernel**dim`` neighbours, `dilation` apart, of each voxel."""

    def __init__(
        self, dim: int, channels: int, *, kernel: int, dilation: int, generator: int
    ) -> None:
        super().__init__()
        self.kernel, self.dilation = kernel, dilation
        self.weight = nn.Parameter(torch.empty(generator, channels, *[3] * dim))
        self.bias = nn.Parameter(torch.zeros(generator))
        self.attend = Pointwise(generator, kernel**dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, *spatial)`` to the same shape."""
        attend = self.attend
        looked = convolve(x, self.weight, self.bias, dilation=self.dilation).relu_()
        return local_attention(
            x, looked, attend.weight, attend.bias, kernel=self.kernel, dilation=self.dilation
        )


def local_attention(
    x: Tensor, looked: Tensor, weight: Tensor, bias: Tensor, *, kernel: int, dilation: int
) -> Tensor:
    """Weigh the neighbours of each voxel by ``softmax(weight @ looked + bias)`` and sum.

    Parameters
    ----------
    x
        ``(N, C, *spatial)`` features; zero outside the window.
    looked
        ``(N, G, *spatial)``, what the weights are made from; overwritten where no gradient is
        asked for.
    weight, bias
        ``(K, G)`` and ``(K,)``, ``K = kernel**dim``; neighbours in lexicographic order,
        from ``-dilation * (kernel // 2)`` upwards along each axis.
    kernel, dilation
        Neighbours along each axis, and the voxels between two of them.

    Returns
    -------
    Tensor
        ``(N, C, *spatial)``. The K weights of a voxel sum to 1; they are made slab by
        slab, here and again in the backward pass, and never held for the whole window.
    """
    if mixed(x):  # its sums are float32 throughout
        with torch.autocast(x.device.type, enabled=False):
            return local_attention(
                x.float(), looked.float(), weight, bias, kernel=kernel, dilation=dilation
            )
    if not torch.is_grad_enabled():
        return _attend(x, looked, weight, bias, kernel, dilation, out=looked)
    result: Tensor = _LocalAttention.apply(x, looked, weight, bias, kernel, dilation)  # type: ignore[no-untyped-call]
    return result


def _attend(
    x: Tensor,
    looked: Tensor,
    weight: Tensor,
    bias: Tensor,
    kernel: int,
    dilation: int,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Return the attended features, in `out` if that has their shape; it may be `looked`."""
    if out is None or out.shape != x.shape:
        out = torch.empty_like(x)
    # channel by channel: a weight meets them all
    x = single(x).contiguous()
    for slab in _slabs(x):
        weights, total = _weights(single(looked[slab]), weight, bias), torch.zeros_like(x[slab])
        for k, here, there in _neighbours(slab, x.shape, kernel, dilation):
            total[here].addcmul_(x[there], weights[:, k : k + 1][here])
        out[slab] = total
    return out


class _LocalAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        looked: Tensor,
        weight: Tensor,
        bias: Tensor,
        kernel: int,
        dilation: int,
    ) -> Tensor:
        ctx.save_for_backward(x, looked, weight, bias)
        ctx.neighbourhood = kernel, dilation
        return _attend(x, looked, weight, bias, kernel, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, looked, weight, bias = ctx.saved_tensors
        x, grad = x.contiguous(), grad.contiguous()
        grad_x, grad_looked = torch.zeros_like(x), torch.empty_like(looked)
        grad_weight, grad_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        for slab in _slabs(x):
            weights, g = _weights(looked[slab], weight, bias), grad[slab]
            grad_weights = torch.zeros_like(weights)
            for k, here, there in _neighbours(slab, x.shape, *ctx.neighbourhood):
                products = g[here] * x[there]
                torch.sum(products, dim=1, keepdim=True, out=grad_weights[:, k : k + 1][here])
                grad_x[there].addcmul_(g[here], weights[:, k : k + 1][here])
            mean = (weights * grad_weights).sum(dim=1, keepdim=True)
            grad_logits = grad_weights.sub_(mean).mul_(weights)  # backwards through softmax
            grad_looked[slab] = _product(weight.T, torch.zeros_like(weight[0]), grad_logits)
            flat = grad_logits.transpose(0, 1).flatten(1)
            grad_weight.addmm_(flat, looked[slab].transpose(0, 1).flatten(1).T)
            grad_bias.add_(flat.sum(dim=1))
        return grad_x, grad_looked, grad_weight, grad_bias, None, None


Place = tuple[slice, ...]


def _slabs(x: Tensor) -> Iterator[Place]:
    """Yield whole planes of the first spatial axis, a few at a time."""
    depth, plane = x.shape[2], x[:, :1, :1].numel()
    step = max(1, SLAB_VOXELS.get(x.device.type, SLAB_VOXELS["cpu"]) // plane)
    for start in range(0, depth, step):
        yield slice(None), slice(None), slice(start, min(start + step, depth))


def _weights(looked: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.softmax(_product(weight, bias, looked), dim=1)


def _product(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """Map ``(N, I, *spatial)`` to ``(N, O, *spatial)``, contiguous."""
    y = torch.baddbmm(bias[None, :, None], weight.expand(len(x), -1, -1), x.flatten(2))
    return y.view(*y.shape[:2], *x.shape[2:])


def _neighbours(
    slab: Place, shape: torch.Size, kernel: int, dilation: int
) -> Iterator[tuple[int, Place, Place]]:
    """Yield, per offset in lexicographic order, its number and two boxes of one shape.

    The first box holds the voxels of the slab whose neighbour lies in the window, counted
    from the slab's start; the second holds those neighbours, counted from the window's.
    """
    starts = (slab[2].start, *[0] * (len(shape) - 3))
    stops = (slab[2].stop, *shape[3:])
    reach = dilation * (kernel // 2)
    steps = range(-reach, reach + 1, dilation)
    for k, offsets in enumerate(itertools.product(steps, repeat=len(starts))):
        here, there = [slice(None)] * 2, [slice(None)] * 2
        for start, stop, length, o in zip(starts, stops, shape[2:], offsets, strict=True):
            first, last = max(start, -o), min(stop, length - o)
            here.append(slice(first - start, max(first, last) - start))
            there.append(slice(first + o, max(first, last) + o))
        yield k, tuple(here), tuple(there)
