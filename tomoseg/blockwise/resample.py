"""One grid read on another: which voxels a box needs, and what they give. Pure.

A value is a function of the source alone: its taps, their weights and the order of its
sums follow from its place on the whole grid, never from the box that asks for it.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tomoseg.blockwise.grid import Grid
from tomoseg.config import BLOCK
from tomoseg.geometry import Box, Index, Lattice
from tomoseg.io.volume import Triple

Kernel = Literal["lanczos", "linear"]
Values = NDArray[np.float32]
Lanes = Callable[[Callable[[Box], None], Iterable[Box]], Iterable[None]]
"""``map``, or a pool's: runs a function over boxes, in any order."""

_SMALLEST_TILE = 8


def _lanczos(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Lanczos' kernel of three lobes."""
    inside = np.abs(distance) < 3
    return np.asarray(np.where(inside, np.sinc(distance) * np.sinc(distance / 3), 0.0))


def _linear(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(0.0, 1.0 - np.abs(distance))


_KERNELS = {"lanczos": (3, _lanczos), "linear": (1, _linear)}
"""Radius in voxels and shape. Where voxels grow, a kernel is stretched by as much: what the
new grid cannot show is suppressed and does not come back as something else."""


@dataclass(frozen=True)
class Resampling:
    """The voxels of a target grid as weighted sums of those of a source grid.

    Both cover the same space corner on corner: the centre of target voxel i lies at source
    coordinate ``(i + 1/2) * step - 1/2``. Beyond its faces the source is reflected, as the
    network's windows are.

    Parameters
    ----------
    source, target
        Shapes in voxels.
    step
        Source voxels per target voxel, along z, y, x.
    kernel
        ``lanczos`` keeps detail: for densities. ``linear`` stays within the range of its
        source: for saliency.
    """

    source: Index
    target: Index
    step: Triple
    kernel: Kernel

    @classmethod
    def between(cls, source: Grid, target: Grid, kernel: Kernel) -> "Resampling":
        """Return the resampling from one grid onto another that covers the same space."""
        z, y, x = (
            to / of
            for to, of in zip(target.voxel_size_angstrom, source.voxel_size_angstrom, strict=True)
        )
        return cls(source.shape, target.shape, (z, y, x), kernel)

    def source_box(self, box: Box) -> Box:
        """Return what a box of the target needs of the source; both lie in their volumes."""
        taps = [
            index[a:b] for (index, _), a, b in zip(self._taps, box.start, box.stop, strict=True)
        ]
        return Box(
            tuple(int(index.min()) for index in taps),
            tuple(int(index.max()) + 1 for index in taps),
        )

    def span(self, edges: Index) -> Index:
        """Return how much of the source a target box of such edges needs at most."""
        radius, _ = _KERNELS[self.kernel]
        return tuple(
            min(n, math.ceil(edge * step) + 2 * math.ceil(radius * max(1.0, step)))
            for n, edge, step in zip(self.source, edges, self.step, strict=True)
        )

    def tiles(self, box: Box) -> Iterator[Box]:
        """Yield the parts of a target box that are computed at once, in few megabytes."""
        for tile in Lattice(box.shape, self.tile_edge):
            yield tile.shift(box.start)

    @property
    def tile_edge(self) -> int:
        """Edge in target voxels of what is computed at once."""
        return max(_SMALLEST_TILE, BLOCK // math.ceil(max(self.step)))

    def apply(self, values: Values, box: Box) -> Values:
        """Return the voxels of a target box.

        Parameters
        ----------
        values
            float32 voxels of ``source_box(box)``, finite.
        box
            In target voxels.
        """
        seen = self.source_box(box)
        for axis, (index, weights) in enumerate(self._taps):
            part = slice(box.start[axis], box.stop[axis])
            values = _along(values, axis, index[part] - seen.start[axis], weights[part])
        return values

    @property
    def _taps(self) -> "list[Taps]":
        return [
            _taps(source, target, step, self.kernel)
            for source, target, step in zip(self.source, self.target, self.step, strict=True)
        ]


def regrid(
    resampling: Resampling,
    box: Box,
    read: Callable[[Box], NDArray[Any]],
    convert: Callable[[NDArray[Any]], Values],
    lanes: Lanes = map,
) -> Values:
    """Return a box of the target, read at once and resampled tile by tile.

    Parameters
    ----------
    resampling
        From the grid that `read` knows.
    box
        In target voxels.
    read
        Returns a box of the source as it is stored.
    convert
        Makes finite float32 values of it, voxel by voxel.
    lanes
        Runs tiles side by side; the bits do not depend on it.
    """
    seen = resampling.source_box(box)
    stored = read(seen)
    result = np.empty(box.shape, np.float32)

    def one(tile: Box) -> None:
        part = resampling.source_box(tile).relative_to(seen)
        result[tile.relative_to(box).slices] = resampling.apply(convert(stored[part.slices]), tile)

    for _ in lanes(one, resampling.tiles(box)):
        pass
    return result


Taps = tuple[NDArray[np.int64], Values]


@functools.lru_cache(maxsize=16)
def _taps(source: int, target: int, step: float, kernel: Kernel) -> Taps:
    """Return indices into the source, and weights, both ``(target, taps)``, of a whole axis."""
    radius, shape = _KERNELS[kernel]
    stretch = max(1.0, step)
    reach = math.ceil(radius * stretch)
    centres = (np.arange(target)[:, None] + 0.5) * step - 0.5
    positions = np.floor(centres) + np.arange(1 - reach, reach + 1)
    weights = shape((positions - centres) / stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    return _reflected(positions.astype(np.int64), source), weights.astype(np.float32)


def _reflected(positions: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Return positions within an axis that is mirrored at its first and last voxel."""
    period = max(1, 2 * (length - 1))
    folded = positions % period
    return np.asarray(np.minimum(folded, period - folded) if length > 1 else folded)


def _along(values: Values, axis: int, index: NDArray[np.int64], weights: Values) -> Values:
    """Sum the taps of one axis, first to last; never a matrix product, whose order varies."""
    column = [1] * values.ndim
    column[axis] = len(index)
    total = np.take(values, index[:, 0], axis) * weights[:, 0].reshape(column)
    for tap in range(1, index.shape[1]):
        total += np.take(values, index[:, tap], axis) * weights[:, tap].reshape(column)
    return np.asarray(total)
