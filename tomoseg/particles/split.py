"""Touching particles told apart: local maxima of a field, and the voxels around each.

Arrays in, arrays out. Everything that is decided in a box depends only on voxels within a
halo, so that boxes of any size agree.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tomoseg.config import Split
from tomoseg.geometry import Box, Index, Lattice, whole
from tomoseg.particles.components import Integers

TILE = 128
"""Edge in voxels of the boxes in which a shard's field is computed: bounds the memory."""

SIGMA = 1 / 6
"""Gaussian that smooths saliency, in diameters."""

_EARLIER = [(z, y, x) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1)][:13]
"""Neighbours that come before a voxel in C order."""


@dataclass(frozen=True)
class Peaks:
    """Local maxima within objects.

    Parameters
    ----------
    places
        ``(N, 3)`` voxels z, y, x.
    heights
        ``(N,)``: squared distance from the mask's surface in voxels, or smoothed saliency.
    """

    places: Integers
    heights: NDArray[np.float64]


def halo_voxels(split: Split, diameter: float) -> int:
    """Return how far around a voxel it is decided whether it is a peak.

    Parameters
    ----------
    split
        ``distance`` or ``saliency``.
    diameter
        Of a particle, in voxels.
    """
    if split == "distance":
        return int(np.ceil(diameter)) + 1
    return _taps(diameter) + 1


def find_peaks(
    mask: NDArray[np.bool_],
    saliency: NDArray[np.uint8] | None,
    core: Box,
    split: Split,
    diameter: float,
) -> Peaks:
    """Find the maxima in a box among 26 neighbours; of equal ones in touch the first in C order.

    Parameters
    ----------
    mask, saliency
        Of the core and `halo_voxels` around it, as far as the volume goes. Saliency is
        needed for ``saliency`` alone.
    core
        Where peaks are wanted, in coordinates of `mask`.
    split
        The field: ``distance`` from the surface, at most a diameter, or ``saliency``,
        smoothed.
    diameter
        Of a particle, in voxels.
    """
    halo = halo_voxels(split, diameter)
    found: list[tuple[Integers, NDArray[np.float64]]] = []
    for tile in _tiles(core):
        if not mask[tile.slices].any():
            continue
        seen = tile.grow(halo).intersect(whole(mask.shape))
        inside = mask[seen.slices]
        if split == "distance":
            field = _squared_distance(inside, diameter)
        else:
            assert saliency is not None
            field = _smoothed(saliency[seen.slices], inside, diameter)
        places = _maxima(field, inside, tile.relative_to(seen))
        heights = field[tuple(places.T)].astype(np.float64)
        found.append((places + np.array(seen.start), heights))
    places = np.concatenate([np.zeros((0, 3), np.int64), *(p for p, _ in found)])
    return Peaks(places, np.concatenate([np.zeros(0), *(h for _, h in found)]))


def _tiles(core: Box) -> Iterator[Box]:
    return (tile.shift(core.start) for tile in Lattice(core.shape, TILE))


def _squared_distance(inside: NDArray[np.bool_], diameter: float) -> NDArray[Any]:
    """Return the squared distance from what is outside, whole numbers, at most a diameter's.

    Axis by axis, the least sum of what the axes before have found and a step's square; what
    lies beyond the array is unknown, and not outside.
    """
    reach = int(np.ceil(diameter))
    square = np.where(inside, np.int32(reach * reach), np.int32(0))
    for axis in range(square.ndim):
        before = np.moveaxis(square, axis, 0)
        nearest = before.copy()
        for step in range(1, reach):
            if step * step >= nearest.max():
                break
            moved = before + np.int32(step * step)
            np.minimum(nearest[step:], moved[:-step], out=nearest[step:])
            np.minimum(nearest[:-step], moved[step:], out=nearest[:-step])
        square = np.moveaxis(nearest, 0, axis)
    return np.ascontiguousarray(square)


def _taps(diameter: float) -> int:
    """Return the radius of the Gaussian, cut at three sigma, in voxels."""
    return max(1, int(3 * SIGMA * diameter + 0.5))


def _smoothed(
    saliency: NDArray[np.uint8], inside: NDArray[np.bool_], diameter: float
) -> NDArray[Any]:
    values = np.where(inside, saliency, 0).astype(np.float64)
    sigma = max(SIGMA * diameter, 0.3)
    smooth: NDArray[Any] = ndimage.gaussian_filter(
        values, sigma, mode="constant", radius=_taps(diameter)
    )
    return smooth


def _maxima(field: NDArray[Any], inside: NDArray[np.bool_], core: Box) -> Integers:
    """Return the places of maxima in `core`, in coordinates of `field`."""
    near = core.grow(1).intersect(whole(field.shape))
    values, within = field[near.slices], core.relative_to(near)
    highest = ndimage.maximum_filter(values, 3, mode="nearest")
    chosen = inside[near.slices] & (values == highest)
    candidates = np.argwhere(chosen[within.slices]) + np.array(within.start)
    padded = np.pad(values, 1, constant_values=-1)
    height = values[tuple(candidates.T)]
    first = np.ones(len(candidates), bool)
    for step in _EARLIER:
        first &= padded[tuple((candidates + step + 1).T)] < height
    places: Integers = candidates[first].astype(np.int64) + np.array(near.start)
    return places


def nearest_peak(
    parent: NDArray[np.int32],
    start: Index,
    peaks: Peaks,
    parents: Integers,
    split: Split,
    diameter: float,
) -> NDArray[np.int32]:
    """Give each voxel of a split object to one of the object's peaks.

    The peak is the one with the least power distance d^2 - r^2, where r is the peak's own
    distance from the surface (``saliency``: r = 0); of equal ones the first. Voxels farther
    than a diameter from every peak belong to none.

    Parameters
    ----------
    parent
        Object of each voxel of a box, from 1; 0 where none is to be split.
    start
        Position of the box's first voxel.
    peaks, parents
        All peaks within a diameter of the box, and the object of each.
    split, diameter
        As in `find_peaks`.

    Returns
    -------
    NDArray
        Position in `peaks` plus 1; 0 for none.
    """
    owner = np.zeros(parent.shape, np.int32)
    best = np.full(parent.shape, np.inf, np.float32)
    reach = int(np.ceil(diameter))
    for number, (place, height, mine) in enumerate(
        zip(peaks.places, peaks.heights, parents, strict=True), start=1
    ):
        centre = tuple(int(p) for p in place - np.array(start))
        box = Box(centre, tuple(c + 1 for c in centre)).grow(reach).intersect(whole(parent.shape))
        if not box.size:
            continue
        square = _squares(box, centre)
        cost = square - (height if split == "distance" else 0)
        better = (parent[box.slices] == mine) & (cost < best[box.slices])
        better &= square <= diameter * diameter
        best[box.slices][better] = cost[better]
        owner[box.slices][better] = number
    return owner


def _squares(box: Box, centre: Index) -> NDArray[np.float32]:
    """Return the squared distance of each voxel of a box from a voxel."""
    z, y, x = (
        (np.arange(a, b, dtype=np.float32) - c) ** 2
        for a, b, c in zip(box.start, box.stop, centre, strict=True)
    )
    return z[:, None, None] + y[None, :, None] + x[None, None, :]
