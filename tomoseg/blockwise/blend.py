"""Overlapping windows blended into one saliency, exactly: what each adds, in whole numbers.

A window's weight falls linearly to zero across the planes that it shares with its
neighbours, from `width` voxels inside its core to `width` voxels outside, so that what
overlaps adds up to one. Sums are integers: neither the order of windows nor the shard that
they are summed in changes a bit. Pure but for `BlendReader`, which reads an image.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomoseg.geometry import Box, Index, Lattice, Window, whole
from tomoseg.io.omezarr import ArrayStore, Layout

STEPS = 16
"""Steps of a sum for each step of the saliency, 0-255."""

FULL = 255 * STEPS
"""The sum of a voxel of saliency 1; rounding adds a few steps at most, within uint16."""

LARGEST_CHUNK = 96
"""Edge in voxels of the chunks of a part at most: each costs Zarr a millisecond, whatever it holds,
and where a neighbour reads a face it decodes whole ones."""

Sums = NDArray[np.uint16]


@dataclass(frozen=True)
class Parts:
    """What each shard's windows add, over the shard and `width` voxels around it.

    Neighbouring parts overlap in the volume; as they are stored, they lie side by side.

    Parameters
    ----------
    shape
        Of the volume in voxels (z, y, x).
    shard
        Edge of a shard in voxels.
    width
        Voxels on both sides of a block's face over which windows are blended, at most half
        a block; 0 crops them.
    """

    shape: Index
    shard: int
    width: int

    @property
    def edge(self) -> int:
        """Edge of a part as it is stored."""
        return self.shard + 2 * self.width

    @property
    def stored_shape(self) -> Index:
        """Shape of all parts as they are stored, side by side in the shards' order."""
        return tuple(
            n + self.width * (2 * count - 1)
            for n, count in zip(self.shape, self._shards.cells_per_axis, strict=True)
        )

    @property
    def _shards(self) -> Lattice:
        return Lattice(self.shape, self.shard)

    def box(self, number: int) -> Box:
        """Return the voxels of the volume that the windows of a shard add to."""
        return self._shards.cell(number).grow(self.width).intersect(whole(self.shape))

    def stored(self, number: int, box: Box) -> Box:
        """Return where a box of the volume lies in the stored part of a shard."""
        start = self._shards.cell(number).start
        offset = tuple(2 * self.width * (a // self.shard) + self.width for a in start)
        return box.shift(offset)

    def needed_for(self, box: Box) -> list[int]:
        """Return the numbers of the shards that add to a box of the volume."""
        return self._shards.numbers_in(box.grow(self.width))

    def layout(self, path: str) -> Layout:
        """Return the image at `path` that keeps the parts."""
        edge = self.edge
        return Layout(
            path=path,
            shape=self.stored_shape,
            voxel_size_angstrom=None,
            name="parts",
            dtype="uint16",
            label=False,
            chunk=max(n for n in range(1, LARGEST_CHUNK + 1) if edge % n == 0),
            shard=edge,
            passing=True,
        )


def contribution(
    saliency: NDArray[np.float32], window: Window, shape: Index, width: int
) -> tuple[Box, Sums]:
    """Return what a window adds to the volume, and where.

    Parameters
    ----------
    saliency
        Of every voxel of the window, in [0, 1].
    window
        The halo of its core is at least `width`.
    shape
        Of the volume.
    width
        See `Parts`.
    """
    box = window.core.grow(width).intersect(whole(shape))
    first, *others = (
        _weights(axis, box, window.core, shape[axis], width) for axis in range(saliency.ndim)
    )
    added = saliency[window.inside(box).slices] * (first * np.float32(FULL))[:, None, None]
    added *= functools.reduce(np.multiply.outer, others)
    added += np.float32(0.5)  # and cut: rounded
    return box, added.astype(np.uint16)


def _weights(axis: int, box: Box, core: Box, length: int, width: int) -> NDArray[np.float32]:
    """Return the weights of a window along an axis of `box`."""
    start, stop = core.start[axis], core.stop[axis]
    centres = np.arange(box.start[axis], box.stop[axis], dtype=np.float32) + np.float32(0.5)
    weights = np.ones_like(centres)
    if width and start > 0:
        weights = np.minimum(weights, (centres - (start - width)) / (2 * width))
    if width and stop < length:
        weights = np.minimum(weights, ((stop + width) - centres) / (2 * width))
    return weights


class BlendReader:
    """Reads the saliency that the parts of all shards add up to.

    Parameters
    ----------
    parts
        Of the volume.
    layout
        Of the image that keeps them.
    """

    def __init__(self, parts: Parts, layout: Layout) -> None:
        self._parts = parts
        self._store = ArrayStore(layout, "image", 0)

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return the saliency, 0-255, of a box of the volume."""
        total = np.zeros(box.shape, np.uint16)
        for number in self._parts.needed_for(box):
            shared = self._parts.box(number).intersect(box)
            stored = self._store.read(self._parts.stored(number, shared))
            total[shared.relative_to(box).slices] += stored
        total += STEPS // 2  # and cut: rounded
        total //= STEPS
        return total.astype(np.uint8)
