"""MRC files: boxes read through short-lived memory maps, files written box by box.

Knows voxels and files; what a header means is the business of `mrc_header`.
"""

import dataclasses
import errno
import math
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from tomoseg.errors import InputError, RequestError, StorageError
from tomoseg.geometry import Box, Index
from tomoseg.io.mrc_header import HEADER_BYTES, Encoding, describe, make_header
from tomoseg.io.storage import (
    publish,
    remove,
    require_writable,
    storage_errors,
    temporary_sibling,
)
from tomoseg.io.volume import MrcHeader, Triple, Volume, VolumeReader, require_inside

MODES = {"int8": 0, "int16": 1, "float32": 2, "uint16": 6, "float16": 12}
"""MRC mode of each dtype that has one; uint8 has one only in IMOD's reading of mode 0."""


def describe_mrc(path: Path) -> Volume:
    """Describe an MRC file.

    Raises
    ------
    InputError
        Where it cannot be read as a volume.
    """
    return describe(path)[0]


class MrcReader(VolumeReader):
    """Reads boxes of an MRC file; see `tomoseg.io.volume.VolumeReader`.

    Each read maps no more than the span of the file that its box lies in, copies the box
    and lets the map go: a map of the whole file would be counted as this process's
    memory, page by page, until a worker is killed for it.

    Parameters
    ----------
    volume
        What `describe_mrc` said.

    Raises
    ------
    InputError
        Where the file is no longer what it was described as.
    """

    def __init__(self, volume: Volume) -> None:
        now, self._encoding = describe(Path(volume.path))
        if (now.shape, now.dtype) != (volume.shape, volume.dtype):
            raise InputError(
                f"{volume.path} has changed: expected {volume.shape} {volume.dtype}, "
                f"found {now.shape} {now.dtype}.",
                "Start again with the file as it is now.",
            )
        self._volume = volume
        with storage_errors("Reading", volume.path):
            self._file = Path(volume.path).open("rb")  # noqa: SIM115 - closed by close()

    def read(self, box: Box) -> NDArray[Any]:
        """Return the voxels of `box`; see `VolumeReader.read`."""
        require_inside(box, self._volume.shape)
        if box.size == 0:
            return np.empty(box.shape, dtype=self._volume.dtype)
        with storage_errors("Reading", self._volume.path):
            self._require_bytes()
            data = np.empty(box.shape, dtype=self._volume.dtype)
            for section in _sections(box, self._encoding.axes):
                view = _map_box(self._file.fileno(), self._encoding, section, mmap.ACCESS_READ)
                data[section.relative_to(box).slices] = view
            return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _require_bytes(self) -> None:
        """Refuse a file that was cut since it was opened: mapping it would kill the process."""
        expected = _total_bytes(self._encoding)
        found = os.fstat(self._file.fileno()).st_size
        if found < expected:
            raise StorageError(
                f"{self._volume.path} was cut while it was read: expected {expected} bytes, "
                f"found {found}.",
                "Put the file back and run the same command again.",
            )


class MrcWriter:
    """A new MRC file, written box by box; it appears under its name when finished.

    Use as a context manager. Every voxel is to be written once; the header's statistics
    are gathered on the way.

    Parameters
    ----------
    path
        Of the file.
    shape
        Voxels along z, y, x.
    dtype
        A key of `MODES`; or uint8, where `header` bears IMOD's stamp, by which mode 0 can
        be told to be unsigned.
    voxel_size_angstrom
        Along z, y, x; None writes 0, which means unknown.
    origin_angstrom
        Along z, y, x; used where there is no `header`, or one of another shape.
    header
        A header to carry over: labels, nstart, origin, space group, IMOD's flags and cell
        angles, and the unit cell too where shape and voxel size are still its own.
    label
        Added to the labels, unless there are ten already.
    overwrite
        Whether a file that is there is replaced, at the end.

    Raises
    ------
    OutputExistsError
        Where the file is there, without `overwrite`.
    RequestError
        Where MRC has no mode for `dtype`.
    StorageError
        Where the file system refuses; there is no room for the whole file, for example.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        shape: Index,
        dtype: str,
        voxel_size_angstrom: Triple | None,
        origin_angstrom: Triple = (0.0, 0.0, 0.0),
        header: MrcHeader | None = None,
        label: str = "",
        overwrite: bool = False,
    ) -> None:
        self._path = Path(os.path.abspath(path))  # noqa: PTH100 - symlinks keep their names
        self._overwrite = overwrite
        self._header = _new_header(
            header or MrcHeader(shape_zyx=shape, origin_zyx=origin_angstrom),
            shape=shape,
            mode=_mode(dtype, header),
            voxel_size=voxel_size_angstrom,
            origin=origin_angstrom,
            label=label,
        )
        self._encoding = Encoding(
            offset=HEADER_BYTES,
            stored_shape=shape,
            stored_dtype=np.dtype(dtype).newbyteorder("<"),
            axes=(0, 1, 2),
        )
        self._statistics = _Statistics()
        require_writable(self._path, overwrite=overwrite)
        self._temporary = temporary_sibling(self._path)
        with storage_errors("Writing", self._path):
            self._file = self._temporary.open("w+b")
            try:
                _allocate(self._file.fileno(), _total_bytes(self._encoding))
            except BaseException:
                self._discard()
                raise

    def write(self, box: Box, data: NDArray[Any]) -> None:
        """Write the voxels of `box`.

        Parameters
        ----------
        box
            In voxels, within the volume.
        data
            ``box.shape`` voxels (z, y, x) of a dtype that fits the file's without loss.
        """
        require_inside(box, self._encoding.stored_shape)
        if data.shape != box.shape:
            raise ValueError(f"expected {box.shape} voxels, got {data.shape}")
        if box.size == 0:
            return
        with storage_errors("Writing", self._path):
            for section in _sections(box, self._encoding.axes):
                view = _map_box(self._file.fileno(), self._encoding, section, mmap.ACCESS_WRITE)
                np.copyto(view, data[section.relative_to(box).slices], casting="same_kind")
        self._statistics.add(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            self._finish()
        except BaseException:
            self._discard()
            raise

    def _finish(self) -> None:
        expected = math.prod(self._encoding.stored_shape)
        if self._statistics.count != expected:
            raise StorageError(
                f"{self._path}: expected {expected} voxels, {self._statistics.count} were written."
            )
        with storage_errors("Writing", self._path):
            self._file.seek(0)
            self._file.write(make_header(self._header, **self._statistics.summary()))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        publish(self._temporary, self._path, overwrite=self._overwrite)

    def _discard(self) -> None:
        self._file.close()
        remove(self._temporary)


class _Statistics:
    """Minimum, maximum, mean and standard deviation, gathered block by block."""

    def __init__(self) -> None:
        self.count = 0
        self._finite = 0
        self._minimum, self._maximum = math.inf, -math.inf
        self._mean, self._squares = 0.0, 0.0

    def add(self, data: NDArray[Any]) -> None:
        for plane in data:  # plane by plane, for the temporary arrays are float64
            self._add_plane(plane)

    def _add_plane(self, data: NDArray[Any]) -> None:
        self.count += data.size
        values = data[np.isfinite(data)] if data.dtype.kind == "f" else data.reshape(-1)
        if values.size == 0:
            return
        self._minimum = min(self._minimum, float(values.min()))
        self._maximum = max(self._maximum, float(values.max()))
        mean = float(values.mean(dtype=np.float64))
        squares = float(values.var(dtype=np.float64)) * values.size
        total = self._finite + values.size
        # Chan's formula joins two sets of values without cancellation.
        shift = mean - self._mean
        self._squares += squares + shift * shift * self._finite * values.size / total
        self._mean += shift * values.size / total
        self._finite = total

    def summary(self) -> dict[str, float]:
        if self._finite == 0:  # MRC2014: minimum above maximum means not determined
            return {"minimum": 0.0, "maximum": -1.0, "mean": -2.0, "rms": -1.0}
        rms = math.sqrt(self._squares / self._finite)
        return {
            "minimum": self._minimum,
            "maximum": self._maximum,
            "mean": self._mean,
            "rms": rms,
        }


def _sections(box: Box, axes: Index) -> Iterator[Box]:
    """Yield the sections of a box as they lie in the file, to be mapped one by one.

    A map counts as memory, page by page, and rows touch more of it the longer those of the
    volume are: of a whole box it would grow with the volume.
    """
    axis = axes.index(0)
    for place in range(box.start[axis], box.stop[axis]):
        start, stop = list(box.start), list(box.stop)
        start[axis], stop[axis] = place, place + 1
        yield Box(tuple(start), tuple(stop))


def _map_box(descriptor: int, encoding: Encoding, box: Box, access: int) -> NDArray[Any]:
    """Return a (z, y, x) view of `box` in the file; the map goes with the last view of it."""
    start = _stored(box.start, encoding.axes)
    stop = _stored(box.stop, encoding.axes)
    _, rows, columns = encoding.stored_shape
    item = encoding.stored_dtype.itemsize
    first = (start[0] * rows + start[1]) * columns + start[2]
    end = ((stop[0] - 1) * rows + stop[1] - 1) * columns + stop[2]
    begin = encoding.offset + first * item
    aligned = begin - begin % mmap.ALLOCATIONGRANULARITY
    length = encoding.offset + end * item - aligned
    memory = mmap.mmap(descriptor, length, access=access, offset=aligned)
    flat = np.frombuffer(
        memory, dtype=encoding.stored_dtype, count=end - first, offset=begin - aligned
    )
    stored = as_strided(
        flat,
        shape=tuple(b - a for a, b in zip(start, stop, strict=True)),
        strides=(rows * columns * item, columns * item, item),
    )
    return stored.transpose(encoding.axes)


def _stored(zyx: Index, axes: Index) -> Index:
    stored = [0, 0, 0]
    for value, axis in zip(zyx, axes, strict=True):
        stored[axis] = value
    return tuple(stored)


def _total_bytes(encoding: Encoding) -> int:
    return encoding.offset + math.prod(encoding.stored_shape) * encoding.stored_dtype.itemsize


def _allocate(descriptor: int, size: int) -> None:
    """Reserve the whole file: a full disk is an error now, not a signal in the middle."""
    disk = os.fstatvfs(descriptor)
    if size > disk.f_bavail * disk.f_frsize:  # else the disk would be filled to find it out
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        os.ftruncate(descriptor, size)


def _mode(dtype: str, header: MrcHeader | None) -> int:
    if dtype in MODES:
        return MODES[dtype]
    if dtype == "uint8" and header is not None and header.imod_flags is not None:
        return 0
    raise RequestError(
        f"MRC has no mode for {dtype}; expected {', '.join(MODES)}.",
        "Convert the values first, or write OME-Zarr.",
    )


def _new_header(
    header: MrcHeader,
    *,
    shape: Index,
    mode: int,
    voxel_size: Triple | None,
    origin: Triple,
    label: str,
) -> MrcHeader:
    labels = header.labels
    if label and len(labels) < 10:
        labels = (*labels, label[:80])
    # 401 to 630 is a stack of volumes, which this file no longer is.
    ispg = 1 if header.ispg > 400 else header.ispg
    kept = dataclasses.replace(header, shape_zyx=shape, mode=mode, labels=labels, ispg=ispg)
    if header.shape_zyx != shape:
        kept = dataclasses.replace(kept, nstart_zyx=(0, 0, 0), ispg=1, origin_zyx=origin)
    elif _grid_says(header, voxel_size):
        return kept
    z, y, x = (n * size for n, size in zip(shape, voxel_size or (0.0, 0.0, 0.0), strict=True))
    return dataclasses.replace(kept, mxyz_zyx=shape, cella_zyx=(z, y, x))


def _grid_says(header: MrcHeader, voxel_size: Triple | None) -> bool:
    """Tell whether the header's unit cell states `voxel_size`, or as little as None."""
    if min(header.mxyz_zyx) < 1:
        return False
    sizes = [cell / m for cell, m in zip(header.cella_zyx, header.mxyz_zyx, strict=True)]
    if voxel_size is None:
        return True
    return all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(sizes, voxel_size, strict=True))
