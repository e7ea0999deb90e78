"""SLIC on a lattice, in torch: supervoxels of many windows at once, on a CPU or a GPU.

Knows tensors only. Every step is elementwise, a sum of whole numbers, or a product of one
window's own, so that no bit depends on what shares a batch, on lanes or on chunks.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from tomoseg.errors import RequestError
from tomoseg.intensity import CLIP
from tomoseg.saliency.lanes import lane_setup

EDGES = (1, 2, 4, 8, 16)
"""Edges of a cell that `slic` takes: those that divide a block and the network's stride."""

FIXED = 2**26
"""Steps of a unit of intensity in sums: whole numbers add up to the same in any order."""

ABOVE = CLIP + 1
"""Added to intensities in sums, so that none is negative."""

COUNT = 46
"""Bit from which a sum of intensities counts its voxels: 2^16 fit, 27 cells of edge 16 hold
14,000 in an update."""

FIELD = 21
"""Bits of a sum of coordinates, three of which share a whole number."""

FAR = 1e15
"""Where the seeds beyond a window's rim lie; nothing is nearest to them."""

CPU_CHUNK = 2**18
"""Distances that are computed at once on a CPU: 1 MiB, which stays in a core's cache."""

GPU_CHUNK = 2**28
"""The same on a GPU: 1 GiB of its memory."""


@dataclass(frozen=True)
class Cells:
    """Windows cut into cells, one seed in each; a row is a cell's voxels along the last axis.

    Parameters
    ----------
    edge
        Of a cell in voxels, one of `EDGES`.
    grid
        Windows, then cells along each axis.
    device
        Of all tensors.
    """

    edge: int
    grid: tuple[int, ...]
    device: torch.device

    @property
    def dim(self) -> int:
        """Axes of a window."""
        return len(self.grid) - 1

    @property
    def count(self) -> int:
        """Cells of all windows."""
        return math.prod(self.grid)

    @property
    def layer(self) -> int:
        """Cells of a window side by side: all those with one place along the first axis."""
        return math.prod(self.grid[2:])

    @property
    def updates(self) -> int:
        """How often seeds move: the larger a cell, the longer their way."""
        return self.edge + 2

    @property
    def turns(self) -> int:
        """Updates that see all rows of a cell, each another share of them.

        In an image a cell has so few voxels that all are needed.
        """
        return max(1, self.edge // 2) if self.dim == 3 else 1

    def rows(self) -> Tensor:
        """Return ``(edge^(dim - 1), dim - 1)``: where rows start in a cell, by their turn."""
        starts = _product(range(self.edge), self.dim - 1).to(self.device)
        return starts[torch.argsort(starts.sum(1) % self.turns, stable=True)]

    def steps(self) -> Tensor:
        """Return ``(3^dim, dim)``: the way to each neighbour, and none, in cells."""
        return _product((-1, 0, 1), self.dim).to(self.device)

    def jumps(self) -> list[int]:
        """Return the ways of `steps` in the flat order of cells."""
        strides = [math.prod(self.grid[axis + 2 :]) for axis in range(self.dim)]
        return [
            sum(n * stride for n, stride in zip(way, strides, strict=True))
            for way in self.steps().tolist()
        ]

    def split(self, windows: Tensor) -> Tensor:
        """Return ``(N, *spatial)`` as ``(rows, edge, count)``."""
        pairs = [n for cells in self.grid[1:] for n in (cells, self.edge)]
        order = (*range(2, 2 * self.dim + 1, 2), 0, *range(1, 2 * self.dim, 2))
        voxels = windows.reshape(self.grid[0], *pairs).permute(order)
        return voxels[self.rows().unbind(1)].reshape(-1, self.edge, self.count).contiguous()

    def join(self, values: Tensor) -> Tensor:
        """Undo `split`."""
        voxels = values.new_empty([self.edge] * self.dim + list(self.grid))
        voxels[self.rows().unbind(1)] = values.view(-1, self.edge, *self.grid)
        order = [n for axis in range(self.dim) for n in (self.dim + 1 + axis, axis)]
        spatial = [cells * self.edge for cells in self.grid[1:]]
        return voxels.permute(self.dim, *order).reshape(self.grid[0], *spatial)


@torch.no_grad()
def slic(
    windows: Tensor, *, edge: int, compactness: float, sigma: float, chunk: int | None = None
) -> Tensor:
    """Return the supervoxel of each voxel.

    Parameters
    ----------
    windows
        ``(N, z, y, x)`` or ``(N, y, x)`` float32, finite, in robust standard deviations of
        the whole volume.
    edge
        Of the lattice of seeds in voxels, one of `EDGES`, and a divisor of each edge of a
        window. Where it divides the windows' origins as well, their seeds lie on one lattice.
    compactness
        How many robust standard deviations of intensity weigh as much as one `edge` of
        distance. Large values give cubes.
    sigma
        Gaussian smoothing in voxels before SLIC.
    chunk
        Distances to compute at once; decides no bit. None for what suits the device.

    Returns
    -------
    Tensor
        int32, of the shape and on the device of `windows`: in each window the numbers of
        cells in C order, less those whose seed no voxel chose. A supervoxel may have pieces.

    Raises
    ------
    RequestError
        Where `edge` does not fit.

    Notes
    -----
    Achanta et al. (TPAMI 2012), with the distances of scikit-image's. A voxel chooses among the
    seeds of its own cell and of those around it, 27 or 9; of equally near ones the first in C
    order. Seeds move ``edge + 2`` times, to the mean of the voxels that chose them. In a volume a
    share of the rows of voxels chooses each time (as in S-SLIC, Hong et al., DAC 2016): 2 of
    `edge` and others in turn. At the end all voxels choose.
    """
    lane_setup()
    cells = _cells(windows, edge)
    smooth = torch.stack([_smooth(window.clamp(-CLIP, CLIP), sigma) for window in windows])
    values = cells.split(smooth)
    whole = (values + ABOVE).mul_(FIXED).round_().long().add_(1 << COUNT)
    worth = edge / compactness
    values *= worth  # now a difference of 1 is as far as a voxel
    centre = torch.full((cells.dim, cells.count), (edge - 1) / 2, device=cells.device)
    seeds = torch.cat([centre, _mean(whole.sum((0, 1)))[None] * worth])
    limit = chunk or (CPU_CHUNK if cells.device.type == "cpu" else GPU_CHUNK)
    share = len(values) // cells.turns
    for update in range(cells.updates):
        first = share * (update % cells.turns)
        sums = Sums(cells)
        for part, span, nearest in _nearest(cells, values, seeds, (first, first + share), limit):
            sums.add(part, span, nearest, whole)
        seeds = sums.means(seeds, worth)
    return cells.join(_labels(cells, values, seeds, limit))


def _labels(cells: Cells, values: Tensor, seeds: Tensor, limit: int) -> Tensor:
    """Let all voxels choose; return ``(rows, edge, count)`` int32."""
    labels = torch.empty_like(values, dtype=torch.int32)
    jumps = torch.tensor(cells.jumps(), device=cells.device, dtype=torch.int32)
    own = torch.arange(cells.count, dtype=torch.int32, device=cells.device)
    own %= cells.count // cells.grid[0]
    for part, span, nearest in _nearest(cells, values, seeds, (0, len(values)), limit):
        torch.add(jumps.take(nearest), own[span], out=labels[part, :, span])
    return labels


def _product(values: range | tuple[int, ...], repeat: int) -> Tensor:
    return torch.tensor(list(itertools.product(values, repeat=repeat)))


def _cells(windows: Tensor, edge: int) -> Cells:
    spatial = windows.shape[1:]
    if edge not in EDGES or any(n % edge for n in spatial):
        raise RequestError(
            f"supervoxels: expected an edge of {', '.join(map(str, EDGES))} that divides a window "
            f"of {' x '.join(map(str, spatial))} voxels, got {edge}."
        )
    return Cells(edge, (windows.shape[0], *(n // edge for n in spatial)), windows.device)


def _smooth(window: Tensor, sigma: float) -> Tensor:
    """Blur a window as scipy does: each axis comes first in turn, and goes last."""
    for edge in window.shape if sigma else ():
        blur = ndimage.gaussian_filter1d(np.eye(edge), sigma, axis=0).astype(np.float32)
        lines = window.reshape(edge, -1).T @ torch.from_numpy(blur).to(window.device).T
        window = lines.reshape(*window.shape[1:], edge)
    return window


def _mean(sums: Tensor) -> Tensor:
    """Return the mean intensity of voxels summed up as whole numbers that count them."""
    counts = (sums >> COUNT).clamp(min=1)
    total = (sums & ((1 << COUNT) - 1)).double()
    return (total / (counts * FIXED) - ABOVE).float()


def _nearest(
    cells: Cells, values: Tensor, seeds: Tensor, rows: tuple[int, int], limit: int
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield some rows, a span of cells, and the neighbour whose seed is nearest to each voxel.

    Nearest is what has the largest x.s - |s|^2 / 2, x a voxel's place and value, s a seed's.
    """
    starts = cells.rows()[slice(*rows), :, None, None].float()
    row = cells.edge * 3**cells.dim
    layers = min(cells.grid[1], max(1, limit // (4 * row * cells.layer)))
    together = min(len(starts), max(1, limit // (row * layers * cells.layer)))
    buffer = values.new_empty(together * row * layers * cells.layer)
    for span, around in _spans(cells, seeds, layers):
        *places, value = around
        base = torch.zeros_like(value)
        for axis in around:
            base.addcmul_(axis, axis, value=-0.5)
        for first in range(0, len(starts), together):
            begin = starts[first : first + together]
            part = slice(rows[0] + first, rows[0] + first + len(begin))
            head = base
            for axis in range(cells.dim - 1):
                head = torch.addcmul(head, begin[:, axis], places[axis])
            near = buffer[: len(begin) * cells.edge * value.numel()]
            near = near.view(len(begin), cells.edge, *value.shape)
            for step in range(cells.edge):
                torch.add(head, places[-1], alpha=step, out=near[:, step])
            near.addcmul_(values[part, :, None, span], value)
            yield part, span, _first_largest(near)


def _spans(cells: Cells, seeds: Tensor, layers: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield spans of cells, each with the seeds around them, seen from them.

    Those are ``(dim + 1, 3^dim, cells)``: place and value.
    """
    grids = seeds.view(-1, *cells.grid)
    margin = [1, 1] * cells.dim
    around = functional.pad(grids, margin, value=FAR)
    around[-1] = functional.pad(grids[-1], margin)
    for axis in range(cells.dim):
        around = around.unfold(axis + 2, 3, 1)
    order = (1, 0, *range(cells.dim + 2, 2 * cells.dim + 2), *range(2, cells.dim + 2))
    shift = functional.pad(cells.steps() * cells.edge, (0, 1)).T.float()
    shift = shift.view(-1, *[3] * cells.dim, *[1] * cells.dim)
    for number, window in enumerate(around.permute(order)):
        for low in range(0, cells.grid[1], layers):
            seen = window.narrow(cells.dim + 1, low, min(layers, cells.grid[1] - low))
            first = (number * cells.grid[1] + low) * cells.layer
            at = torch.add(seen, shift, out=seeds.new_empty(seen.shape))
            at = at.view(len(seeds), 3**cells.dim, -1)
            yield slice(first, first + at.shape[-1]), at


def _first_largest(near: Tensor) -> Tensor:
    """Return ``(rows, edge, cells)``: the lowest index of the largest along the third axis.

    By pooling, whose kernel for channels-last images is ten times as fast as `torch.max`.
    """
    rows, edge, candidates, width = near.shape
    image = near.view(rows * edge, candidates, 1, width).permute(0, 3, 1, 2)
    _, index = functional.max_pool2d(image, (candidates, 1), return_indices=True)
    return index.permute(0, 2, 3, 1).view(rows, edge, width)


class Sums:
    """Sums over voxels of what moves the seeds, by the neighbour that they chose and their cell.

    Parameters
    ----------
    cells
        Of the windows.
    """

    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        self.own = torch.arange(cells.count, device=cells.device)
        shape = (3**cells.dim, cells.count)
        self.places = torch.zeros(shape, dtype=torch.int64, device=cells.device)
        self.values = torch.zeros_like(self.places)
        fields = FIELD * torch.arange(cells.dim, device=cells.device)
        line = torch.arange(cells.edge, device=cells.device) << fields[-1]
        self.packed = (cells.rows() << fields[:-1]).sum(1)[:, None, None] + line[:, None]
        self.ways = ((1 - cells.steps()) << fields).sum(1).tolist()

    def add(self, part: slice, span: slice, nearest: Tensor, whole: Tensor) -> None:
        """Add the voxels of some rows and a span of cells.

        Parameters
        ----------
        part, span, nearest
            As `_nearest` yields them.
        whole
            ``(rows, edge, count)`` int64, intensities as whole numbers that count voxels.
        """
        bins = torch.add(self.own[span], nearest, alpha=self.cells.count).view(-1)
        places = self.packed[part].expand_as(nearest).reshape(-1)
        self.places.view(-1).index_add_(0, bins, places)
        self.values.view(-1).index_add_(0, bins, whole[part, :, span].reshape(-1))

    def means(self, seeds: Tensor, worth: float) -> Tensor:
        """Return `seeds` where their voxels have their mean; a seed without any stays.

        In the flat order of cells a neighbour is a jump away. Where that leads across the rim
        of a window there is nothing to add, for nobody chose what lies beyond it.
        """
        cells = self.cells
        totals = [torch.zeros_like(self.own) for _ in range(3)]
        for k, (jump, way) in enumerate(zip(cells.jumps(), self.ways, strict=True)):
            length = max(0, cells.count - abs(jump))
            here, there = (slice(max(0, low), max(0, low) + length) for low in (-jump, jump))
            values = self.values[k, here]
            parts = (values, self.places[k, here], (values >> COUNT) * way)
            for total, part in zip(totals, parts, strict=True):
                total[there] += part
        values, places, ways = totals
        counts = values >> COUNT
        centres = [
            (_field(places, axis) + cells.edge * (_field(ways, axis) - counts)).float()
            / counts.clamp(min=1)
            for axis in range(cells.dim)
        ]
        return torch.where(counts > 0, torch.stack([*centres, _mean(values) * worth]), seeds)


def _field(packed: Tensor, axis: int) -> Tensor:
    field: Tensor = (packed >> (FIELD * axis)) & (2**FIELD - 1)
    return field
