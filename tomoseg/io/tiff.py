"""TIFF stacks, written box by box: OME-TIFF without compression, with the voxel size.

Knows the format alone; the file appears under its name when it is whole.
"""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import tifffile
from numpy.typing import NDArray

from tomoseg.geometry import Box, Index
from tomoseg.io.storage import (
    fsync,
    publish,
    remove,
    require_writable,
    storage_errors,
    temporary_sibling,
)
from tomoseg.io.volume import Triple

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
"""What readers of OME-TIFF know."""

_LARGE = 1 << 31
"""Bytes from which offsets of 32 bits may be too short."""


class TiffWriter:
    """Writes a volume as a stack of planes; a context manager, as `tomoseg.io.mrc.MrcWriter`.

    Parameters
    ----------
    path
        The file; it appears when the context ends without an error.
    shape
        Voxels z, y, x.
    dtype
        One of `DTYPES`.
    voxel_size_angstrom
        z, y, x; None if unknown.
    overwrite
        Whether a file that is there is replaced.

    Raises
    ------
    OutputExistsError
        Where something is there.
    StorageError
        Where the file system refuses.
    """

    def __init__(
        self,
        path: Path,
        *,
        shape: Index,
        dtype: str,
        voxel_size_angstrom: Triple | None,
        overwrite: bool,
    ) -> None:
        require_writable(path, overwrite=overwrite)
        self._path, self._overwrite = path, overwrite
        self._temporary = temporary_sibling(path)
        metadata: dict[str, Any] = {"axes": "ZYX"}
        for axis, size in zip("ZYX", voxel_size_angstrom or (), strict=False):
            metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "Å"}
        with storage_errors("Writing", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._planes: NDArray[Any] = tifffile.memmap(
                self._temporary,
                shape=shape,
                dtype=dtype,
                bigtiff=int(np.prod(shape)) * np.dtype(dtype).itemsize >= _LARGE,
                ome=True,
                photometric="minisblack",
                metadata=metadata,
            )

    def write(self, box: Box, data: NDArray[Any]) -> None:
        """Write the voxels of a box."""
        with storage_errors("Writing", self._path):
            self._planes[box.slices] = data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del self._planes
        try:
            if error is None:
                fsync(self._temporary)
                publish(self._temporary, self._path, overwrite=self._overwrite)
        finally:
            remove(self._temporary)
