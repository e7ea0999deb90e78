"""Connected components of one shard, and what is needed to join them with its neighbours'.

Arrays in, arrays out; knows no files and no executors. A shard is labelled together with
one voxel more on the high side of each axis, so that any two voxels that touch are seen
together by one shard: labels of neighbours then meet in voxels that both have labelled.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tomoseg.config import Connectivity
from tomoseg.geometry import Box, Index, whole

Integers = NDArray[np.int64]
Labels = NDArray[np.uint32]

LAYER = 8
"""Planes of a shard whose voxels are summed at once: bounds the memory of a dense mask."""

_PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
"""Axes of the second moments."""


@dataclass(frozen=True)
class Sums:
    """Exact sums over the voxels of objects, a row for each; those of parts can be added.

    Parameters
    ----------
    added
        ``(N, 11)``: voxels; sums of z, y, x; of zz, yy, xx, zy, zx, yx; of saliency (0-255).
    lowest
        ``(N, 3)``: smallest z, y, x.
    highest
        ``(N, 4)``: largest z, y, x, and the largest saliency.
    """

    added: Integers
    lowest: Integers
    highest: Integers

    def __len__(self) -> int:
        return len(self.added)

    @property
    def voxels(self) -> Integers:
        """Voxels of each object."""
        count: Integers = self.added[:, 0]
        return count

    def of(self, rows: NDArray[Any]) -> "Sums":
        """Return the rows that are chosen."""
        return Sums(self.added[rows], self.lowest[rows], self.highest[rows])

    def by(self, group: Integers, count: int) -> "Sums":
        """Add up rows by their group, 0 to below `count`; a group without any has no voxels."""
        result = empty_sums(count)
        if not len(group):
            return result
        order = np.argsort(group, kind="stable")
        present, starts = np.unique(group[order], return_index=True)
        result.added[present] = np.add.reduceat(self.added[order], starts)
        result.lowest[present] = np.minimum.reduceat(self.lowest[order], starts)
        result.highest[present] = np.maximum.reduceat(self.highest[order], starts)
        return result


def empty_sums(count: int) -> Sums:
    """Return the sums of objects without voxels."""
    return Sums(
        np.zeros((count, 11), np.int64),
        np.full((count, 3), np.iinfo(np.int64).max),
        np.full((count, 4), -1, np.int64),
    )


def joined(parts: Sequence[Sums]) -> Sums:
    """Return the rows of several sums, one after the other."""
    rows = [empty_sums(0), *parts]
    return Sums(
        np.concatenate([part.added for part in rows]),
        np.concatenate([part.lowest for part in rows]),
        np.concatenate([part.highest for part in rows]),
    )


def label(mask: NDArray[Any], connectivity: Connectivity) -> tuple[Labels, int]:
    """Label the connected components of what is not 0, and count them.

    Parameters
    ----------
    mask
        Voxels z, y, x.
    connectivity
        26, 18 or 6 neighbours.
    """
    labels, count = cc3d.connected_components(
        mask != 0, connectivity=connectivity, return_N=True, binary_image=True, out_dtype=np.uint32
    )
    return labels.astype(np.uint32, copy=False), int(count)


def extended(shard: Box, volume: Index) -> Box:
    """Return a shard with one voxel more on the high side of each axis, within the volume."""
    return Box(shard.start, tuple(b + 1 for b in shard.stop)).intersect(whole(volume))


def sum_voxels(
    labels: NDArray[Any], saliency: NDArray[np.uint8] | None, start: Index, count: int
) -> Sums:
    """Sum over the voxels of each label.

    Parameters
    ----------
    labels
        0 where there is no object, else 1 to `count`.
    saliency
        Of the same shape, 0-255; None where there is none.
    start
        Position of the first voxel in the volume.
    count
        Of labels.

    Returns
    -------
    Sums
        A row for each label, label 1 first.
    """
    total = empty_sums(count)
    for z in range(0, len(labels), LAYER):
        layer = labels[z : z + LAYER]
        inside = np.flatnonzero(layer)
        if not len(inside):
            continue
        place = np.unravel_index(inside, layer.shape)
        levels = saliency[z : z + LAYER].ravel()[inside] if saliency is not None else 0
        found = _voxels(place, (start[0] + z, *start[1:]), levels)
        group = layer.ravel()[inside].astype(np.int64) - 1
        names, compact = np.unique(group, return_inverse=True)
        sums = found.by(compact, len(names))
        total.added[names] += sums.added
        total.lowest[names] = np.minimum(total.lowest[names], sums.lowest)
        total.highest[names] = np.maximum(total.highest[names], sums.highest)
    return total


def _voxels(place: Sequence[NDArray[Any]], start: Index, saliency: Any) -> Sums:
    """Return sums in which every voxel is an object."""
    at = np.stack([axis + first for axis, first in zip(place, start, strict=True)], 1)
    levels = np.broadcast_to(np.asarray(saliency, np.int64), len(at))[:, None]
    products = np.stack([at[:, a] * at[:, b] for a, b in _PAIRS], 1)
    ones = np.ones((len(at), 1), np.int64)
    return Sums(np.hstack([ones, at, products, levels]), at, np.hstack([at, levels]))


def edges(
    labels: Labels, shard: Box, volume: Index
) -> tuple[tuple[Integers, Integers], tuple[Integers, Integers]]:
    """Return the labelled voxels that a shard shares with its neighbours.

    Parameters
    ----------
    labels
        Of the extended shard.
    shard
        The shard itself.
    volume
        Shape of the volume.

    Returns
    -------
    low, high
        Each (place, label): the number of a voxel in the volume, in C order, and its label
        from 0; of the shard's own low faces, and of its neighbours' that it has seen.
    """
    box = extended(shard, volume)
    own = shard.relative_to(box)  # what lies in the extension is the neighbour's own
    low = [_face(own, axis, 0) for axis in range(3) if shard.start[axis] > 0]
    high = [
        _face(whole(labels.shape), axis, own.stop[axis])
        for axis in range(3)
        if box.stop[axis] > shard.stop[axis]
    ]
    return _places(labels, low, box.start, volume), _places(labels, high, box.start, volume)


def _face(box: Box, axis: int, place: int) -> Box:
    """Return one plane of a box."""
    start = tuple(place if k == axis else a for k, a in enumerate(box.start))
    stop = tuple(place + 1 if k == axis else b for k, b in enumerate(box.stop))
    return Box(start, stop)


def _places(
    labels: Labels, faces: Sequence[Box], start: Index, volume: Index
) -> tuple[Integers, Integers]:
    """Return the labelled voxels of faces, each once, in C order."""
    places, names = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for face in faces:
        at = np.argwhere(labels[face.slices]) + np.array(face.start)
        places.append(np.ravel_multi_index(tuple((at + np.array(start)).T), volume))
        names.append(labels[tuple(at.T)].astype(np.int64) - 1)
    place, first = np.unique(np.concatenate(places), return_index=True)
    return place, np.concatenate(names)[first]


Edges = Callable[[int], tuple[Integers, Integers]]
"""Returns (place, label) of a shard."""


def join(
    counts: Sequence[int], low: Edges, high: Edges, neighbours: Callable[[int], Sequence[int]]
) -> tuple[Integers, int]:
    """Join labels of shards that meet in a voxel.

    Parameters
    ----------
    counts
        Labels of each shard.
    low, high
        What `edges` returned for a shard.
    neighbours
        Shards that have seen low faces of a shard.

    Returns
    -------
    component, count
        Component of each label of each shard, one shard after the other, and their number.
    """
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    pairs = [np.zeros((0, 2), np.int64)]
    for number in range(len(counts)):
        place, mine = low(number)
        if not len(place):
            continue
        for other in neighbours(number):
            seen, theirs = high(other)
            _, a, b = np.intersect1d(place, seen, assume_unique=True, return_indices=True)
            pair = np.stack([mine[a] + offsets[number], theirs[b] + offsets[other]], 1)
            pairs.append(np.unique(pair, axis=0))
    rows, columns = np.concatenate(pairs).T
    size = int(offsets[-1])
    if not size:
        return np.zeros(0, np.int64), 0
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(size, size))
    count, component = connected_components(graph, directed=False)
    return component.astype(np.int64), int(count)
