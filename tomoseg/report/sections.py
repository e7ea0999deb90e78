"""Planes of a tomogram at the size of a screen, read in bounded memory and bounded time.

A plane costs what the storage makes it cost: pages of a mapped file, chunks of an array.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomoseg.geometry import Box, Index
from tomoseg.io.volume import Volume, VolumeReader

PAGE_BYTES = 4096
"""What the system reads at least of a mapped file."""

STRIP_VOXELS = 1 << 22
"""Voxels of a plane that are read at once, about."""


@dataclass(frozen=True)
class Cut:
    """A plane of a volume.

    Parameters
    ----------
    axis
        Which the plane is perpendicular to: 0 is z, 1 is y, 2 is x.
    position
        Of the plane along that axis, as a share of its length, 0 to below 1.
    """

    axis: int
    position: float

    def index(self, shape: Index) -> int:
        """Return the voxel of a volume of `shape` that the plane goes through."""
        return min(int(self.position * shape[self.axis]), shape[self.axis] - 1)


def read_section(reader: VolumeReader, volume: Volume, cut: Cut, step: int) -> NDArray[np.float32]:
    """Read a plane, each pixel the mean of what it stands for within the plane.

    Parameters
    ----------
    reader
        Of `volume`.
    volume
        What is cut.
    cut
        Where.
    step
        Voxels of the volume per pixel.

    Returns
    -------
    NDArray
        float32 of ``ceil(n / step)`` pixels along the two axes left, in their order; NaN
        where no voxel is finite. Of a plane across x of a mapped file, where each voxel
        costs a page, one z in `step` is read and not the mean of all.
    """
    down, across = (axis for axis in range(3) if axis != cut.axis)
    index = cut.index(volume.shape)
    length, width = volume.shape[down], volume.shape[across]
    skip = cut.axis == 2 and volume.chunk is None
    strips = []
    run = _run(volume, cut, step)
    for begin in range(0, length, run):
        end = min(begin + run, length)
        if skip:
            begin = min(begin + run // 2, length - 1)
            end = begin + 1
        start, stop = [index] * 3, [index + 1] * 3
        start[down], stop[down], start[across], stop[across] = begin, end, 0, width
        values = reader.read(Box(tuple(start), tuple(stop)))
        strips.append(_shrink(values.reshape(end - begin, width), 1 if skip else step, step))
    return np.concatenate(strips)


def section_bytes(volume: Volume, cut: Cut, step: int) -> int:
    """Return about how many bytes `read_section` makes the storage read and decode."""
    itemsize = np.dtype(volume.dtype).itemsize
    if volume.chunk is None:
        page = max(1, PAGE_BYTES // itemsize)
        rows = volume.shape[0] * volume.shape[1] // volume.shape[cut.axis]
        if cut.axis == 2:
            rows = -(-volume.shape[0] // step) * volume.shape[1]
            return rows * page * itemsize
        return rows * max(volume.shape[2], page) * itemsize
    covered = [-(-n // c) * c for n, c in zip(volume.shape, volume.chunk, strict=True)]
    covered[cut.axis] = volume.chunk[cut.axis]
    return math.prod(covered) * itemsize


def _run(volume: Volume, cut: Cut, step: int) -> int:
    """Return how many voxels along the plane's first axis are read at once."""
    down = 0 if cut.axis else 1
    if cut.axis == 2 and volume.chunk is None:
        return step
    width = volume.shape[1 if cut.axis == 2 else 2]
    least = 1 if volume.chunk is None else volume.chunk[down]  # no chunk is decoded twice
    unit = math.lcm(step, least) if least <= volume.shape[down] else step
    return unit * max(1, STRIP_VOXELS // (width * unit))


def _shrink(values: NDArray[np.generic], rows: int, columns: int) -> NDArray[np.float32]:
    """Return means over `rows` x `columns` pixels, of what is there and finite."""
    image = values.astype(np.float32)
    finite = np.isfinite(image)
    if finite.all():
        counts = np.outer(
            *(_lengths(n, k) for n, k in zip(image.shape, (rows, columns), strict=True))
        )
    else:
        counts = _sums(finite.astype(np.float32), rows, columns)
        image[~finite] = 0
    sums = _sums(image, rows, columns)
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def _sums(image: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """Return sums over tiles: whole rows are added first, which is several times as fast."""
    for axis, step in ((0, rows), (1, columns)):
        lines = np.moveaxis(image, axis, 0)
        sums = lines[::step].copy()
        for k in range(1, step):
            more = lines[k::step]
            sums[: len(more)] += more
        image = np.moveaxis(sums, 0, axis)
    return image


def _lengths(length: int, step: int) -> NDArray[np.float32]:
    """Return how many pixels each tile has along an axis; the last one may be cut."""
    starts = np.arange(0, length, step)
    return (np.minimum(starts + step, length) - starts).astype(np.float32)
