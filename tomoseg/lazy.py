"""Volumes as lazy Dask arrays: read in pieces, when they are looked at.

Only here and in the viewer does Dask serve as an array library; the engine has tasks of its own.
"""

import functools
import math
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from tomoseg.geometry import Box, Index
from tomoseg.io.volume import Volume, VolumeReader

PIECE_BYTES = 64 << 20
"""Of what is read at once of a file in which each voxel can be read alone."""


class _Voxels:
    """An array of the voxels of a volume, as far as Dask needs one; picklable."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self.shape = volume.shape
        self.ndim = len(volume.shape)
        self.dtype = np.dtype(volume.dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Voxels, (self._volume,)

    @functools.cached_property
    def _zarr(self) -> VolumeReader:
        """A reader that is kept, for it holds nothing open, and metadata may be far away."""
        return self._volume.reader()

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        bounds = [piece.indices(n) for piece, n in zip(index, self.shape, strict=True)]
        box = Box(tuple(b[0] for b in bounds), tuple(b[1] for b in bounds))
        with self._zarr if self._volume.format == "zarr" else self._volume.reader() as reader:
            read: NDArray[Any] = reader.read(box)
        return read[tuple(slice(None, None, b[2]) for b in bounds)]


def lazy_array(volume: Volume) -> da.Array:
    """Return the voxels of a volume as a Dask array, z, y, x, of its dtype.

    Chunks are those of the file; of a file that has none, whole planes of at most
    `PIECE_BYTES` together.
    """
    array: da.Array = da.from_array(
        _Voxels(volume),
        chunks=volume.chunk or _planes(volume.shape, np.dtype(volume.dtype).itemsize),
        name=False,  # nothing is read to make a name of it
        fancy=False,
        meta=np.empty((0,) * 3, volume.dtype),
    )
    return array


def _planes(shape: Index, itemsize: int) -> Index:
    plane = math.prod(shape[1:]) * itemsize
    return (min(shape[0], max(1, PIECE_BYTES // plane)), *shape[1:])
