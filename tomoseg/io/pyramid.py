"""Coarser levels of an image or a mask, one shard at a time, in bounded memory.

Arithmetic on arrays, and one function that reads a level and writes the next.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomoseg.geometry import Box, Lattice
from tomoseg.io.layout import Kind, Layout
from tomoseg.io.omezarr import ArrayStore

_PIECE = 64
"""Edge in voxels of what is made at once; twice as much is read along each axis."""

_ACCUMULATORS = {1: np.int16, 2: np.int32, 4: np.int64}
"""By item size in bytes: eight values of any sign fit, halves included."""


def downsample(array: NDArray[Any], kind: Kind) -> NDArray[Any]:
    """Halve every axis: the mean of an image, the maximum of a mask.

    Where an axis is odd its last plane stands for itself: the mean is over the voxels
    that are there.

    Parameters
    ----------
    array
        Voxels of any shape and number of axes.
    kind
        ``image``: the mean, of integers exact and rounded half to even (which adds no
        bias), of floats summed in float64. ``mask``: the maximum.

    Returns
    -------
    NDArray
        Of ``ceil(n / 2)`` voxels along each axis, of the same dtype.

    Raises
    ------
    ValueError
        For the mean of 64-bit integers, whose sums overflow.
    """
    if kind == "mask":
        return _reduce(array, np.maximum)
    if array.dtype.kind == "f":
        return _mean_of_floats(array)
    if array.dtype.itemsize not in _ACCUMULATORS:
        raise ValueError(f"expected integers of at most 32 bits, got {array.dtype}")
    return _mean_of_integers(array)


def build_level_shard(layout: Layout, kind: Kind, level: int, box: Box) -> None:
    """Make shard `box` of `level` from the level before, which is complete.

    Memory is bounded by the shard made and 128^3 voxels of the level before.

    Parameters
    ----------
    layout
        Of an image that `create` made.
    kind
        Which of its pyramids.
    level
        At least 1.
    box
        A cell of ``layout.shards(level)``.

    Raises
    ------
    StorageError
        Where the level before is damaged, or the file system refuses.
    """
    if level < 1:
        raise ValueError(f"expected a level of at least 1, got {level}")
    source = ArrayStore(layout, kind, level - 1)
    result = np.empty(box.shape, dtype=source.dtype)
    method: Kind = "mask" if layout.categorical else kind
    for piece in Lattice(box.shape, _PIECE):
        fine = _source_box(piece.shift(box.start), source.shape)
        result[piece.slices] = downsample(source.read(fine), method)
    ArrayStore(layout, kind, level).write_shard(box, result)


def _source_box(box: Box, shape: tuple[int, ...]) -> Box:
    return Box(
        tuple(2 * a for a in box.start),
        tuple(min(2 * b, n) for b, n in zip(box.stop, shape, strict=True)),
    )


def _reduce(array: NDArray[Any], operation: np.ufunc) -> NDArray[Any]:
    """Join pairs of planes along every axis; a last plane without a partner stays."""
    for axis in range(array.ndim):
        planes = np.moveaxis(array, axis, 0)
        joined = planes[0::2].copy()
        pairs = planes.shape[0] // 2
        operation(joined[:pairs], planes[1::2], out=joined[:pairs])
        array = np.moveaxis(joined, 0, axis)
    return np.ascontiguousarray(array)


def _mean_of_floats(array: NDArray[Any]) -> NDArray[Any]:
    sums = _reduce(array.astype(np.float64), np.add)
    means: NDArray[Any] = sums / (1 << _doublings(array.shape))
    return means.astype(array.dtype)


def _mean_of_integers(array: NDArray[Any]) -> NDArray[Any]:
    accumulator = _ACCUMULATORS[array.dtype.itemsize]
    sums = _reduce(array.astype(accumulator), np.add)
    shift = _doublings(array.shape).astype(accumulator)
    floor = sums >> shift
    remainder = sums - (floor << shift)
    half = (1 << shift) >> 1
    # Above one half up; exactly one half up only from an odd floor.
    up = (remainder + (floor & 1) > half) & (shift > 0)
    means: NDArray[Any] = floor + up
    return means.astype(array.dtype)


def _doublings(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return log2 of how many voxels each coarse voxel stands for."""
    result = np.zeros((1,) * len(shape), dtype=np.int64)
    for axis, n in enumerate(shape):
        counts = np.ones(-(-n // 2), dtype=np.int64)
        counts[n // 2 :] = 0
        aligned = [1] * len(shape)
        aligned[axis] = counts.size
        result = result + counts.reshape(aligned)
    return result
