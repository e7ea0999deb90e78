"""What an input is: a small picklable description, and the way to read boxes of it.

Decides between formats by content; what a format says is left to that format's module.
"""

import dataclasses
import glob
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tomoseg.errors import InputError, RequestError, printable
from tomoseg.geometry import Box, Index, whole
from tomoseg.io.remote import is_url, remote_path
from tomoseg.io.storage import ZARR_METADATA

Triple = tuple[float, float, float]

MRC_SUFFIXES = (".mrc", ".rec", ".map", ".st", ".ali", ".ccp4")
"""Names under which MRC files are found; the content decides, not the name."""

LONGEST_AXIS = 1 << 24
"""Voxels on an axis. No camera comes near; more is a damaged header or another file."""

_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)

_FOLDER_SUFFIXES = (".mrc", ".rec", ".map", ".zarr")

_BELIEVABLE_ANGSTROM = (0.05, 5000.0)
"""Voxels of tomograms are 0.5 to 50 angstrom; values far outside are another unit."""


@dataclass(frozen=True)
class MrcHeader:
    """What an MRC header says, kept so that it can be written again.

    The extended header is not kept. All numbers are the header's own; where the file's
    axes are permuted (mapc, mapr, maps), they are in the order z, y, x all the same.

    Parameters
    ----------
    shape_zyx
        Voxels of the file along z, y, x.
    mode
        MRC mode number.
    nstart_zyx
        Position of the first voxel on the unit cell's grid, in voxels.
    mxyz_zyx
        Intervals of the grid along the unit cell.
    cella_zyx
        Size of the unit cell in angstrom.
    cell_angles
        alpha, beta, gamma in degrees.
    origin_zyx
        Origin in angstrom, with the sign that the file has.
    ispg
        Space group: 0 an image or a stack of images, 1 a volume.
    imod_flags
        IMOD's bit flags; None where the file bears no IMOD stamp.
    labels
        Text labels, at most ten of at most 80 characters (Latin-1).
    """

    shape_zyx: Index
    mode: int = 0
    nstart_zyx: Index = (0, 0, 0)
    mxyz_zyx: Index = (0, 0, 0)
    cella_zyx: Triple = (0.0, 0.0, 0.0)
    cell_angles: Triple = (90.0, 90.0, 90.0)
    origin_zyx: Triple = (0.0, 0.0, 0.0)
    ispg: int = 1
    imod_flags: int | None = None
    labels: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the header as plain JSON values."""
        values = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "MrcHeader":
        """Return the header that `to_dict` wrote.

        Raises
        ------
        InputError
            Where the values are not such a header.
        """
        try:
            flags = values["imod_flags"]
            return cls(
                shape_zyx=_three(_int32, values["shape_zyx"]),
                mode=_int32(values["mode"]),
                nstart_zyx=_three(_int32, values["nstart_zyx"]),
                mxyz_zyx=_three(_int32, values["mxyz_zyx"]),
                cella_zyx=_three(_float32, values["cella_zyx"]),
                cell_angles=_three(_float32, values["cell_angles"]),
                origin_zyx=_three(_float32, values["origin_zyx"]),
                ispg=_int32(values["ispg"]),
                imod_flags=None if flags is None else _int32(flags),
                labels=tuple(str(label)[:80] for label in values["labels"][:10]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(
                f"The MRC header kept in the metadata cannot be read ({printable(error)}).",
                'Remove "mrc" from the "tomoseg" attributes to go on without it.',
            ) from error


class VolumeReader(Protocol):
    """Reads boxes of one volume; safe to call from several threads; a context manager."""

    def read(self, box: Box) -> NDArray[Any]:
        """Return the voxels of `box`.

        Parameters
        ----------
        box
            In voxels, within the volume.

        Returns
        -------
        NDArray
            ``box.shape`` voxels (z, y, x) of the volume's dtype, C-contiguous, native
            byte order, owned by the caller.

        Raises
        ------
        InputError
            Where the stored data cannot be decoded.
        StorageError
            Where the file system fails.
        """
        ...

    def close(self) -> None:
        """Release what the reader holds."""
        ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Volume:
    """A picklable description of an input, never an open handle.

    Parameters
    ----------
    path
        Absolute path of the file, or of the folder of the Zarr hierarchy, or its URL.
    format
        ``mrc`` or ``zarr``.
    array
        Path of the array within the Zarr hierarchy; empty for MRC and for a folder that
        is itself an array.
    shape
        Voxels along z, y, x.
    dtype
        Numpy name of what a reader returns, in native byte order.
    voxel_size_angstrom
        Along z, y, x; None where the file says nothing believable.
    voxel_size_note
        Where the voxel size comes from, or why there is none.
    origin_angstrom
        Position of the centre of voxel (0, 0, 0) along z, y, x; zero if unknown.
    mrc
        The MRC header, also of a Zarr array that was made from an MRC file of the same
        shape; None otherwise.
    chunk
        Voxels (z, y, x) that can only be read together; None where each can be read alone.
    """

    path: str
    format: Literal["mrc", "zarr"]
    array: str
    shape: Index
    dtype: str
    voxel_size_angstrom: Triple | None
    voxel_size_note: str
    origin_angstrom: Triple = (0.0, 0.0, 0.0)
    mrc: MrcHeader | None = None
    chunk: Index | None = None

    def reader(self) -> VolumeReader:
        """Open the volume for reading; use as a context manager.

        Raises
        ------
        InputError
            Where the file is no longer what it was when it was described.
        """
        if self.format == "mrc":
            from tomoseg.io.mrc import MrcReader

            return MrcReader(self)
        from tomoseg.io.zarr_input import ZarrReader

        return ZarrReader(self)

    def stamp(self) -> dict[str, int | str]:
        """Return what tells that the volume was changed, by what it was read from.

        Returns
        -------
        dict
            ``bytes`` and ``mtime_ns`` of the MRC file, or of the array's metadata file; of
            an array behind a URL ``bytes`` and ``metadata_sha256`` of its metadata file, for
            what servers say of times differs from one to the next.

        Raises
        ------
        InputError
            Where the file is gone.
        """
        if is_url(self.path):
            from tomoseg.io.zarr_input import stamp_remote

            return stamp_remote(self)
        folder = Path(self.path, self.array)
        candidates = [folder / name for name in ZARR_METADATA] if folder.is_dir() else [folder]
        for file in candidates:
            if file.exists():
                status = file.stat()
                return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
        raise InputError(f"{folder} is no longer there.", "Put it back, or give its new path.")


def open_volume(path: str | Path, *, array: str | None = None) -> Volume:
    """Describe the volume at `path`; nothing stays open.

    Parameters
    ----------
    path
        An MRC file, a Zarr array, or a Zarr group (OME-Zarr or with one 3-D array); Zarr
        also by its URL (http, https, s3).
    array
        Path of the array or of the multiscale image within a Zarr hierarchy, where there
        are several.

    Raises
    ------
    InputError
        Where there is no volume that can be read; the message says what is there instead.
    RequestError
        Where `array` is given for an MRC file.
    """
    if is_url(path):
        from tomoseg.io.zarr_input import describe_zarr

        return describe_zarr(remote_path(str(path)), array)
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - symlinks keep their names
    if absolute.is_dir():
        from tomoseg.io.zarr_input import describe_zarr

        return describe_zarr(absolute, array)
    if not os.path.lexists(absolute):
        raise InputError(f"{absolute} does not exist.", "Check the path.")
    if array is not None:
        raise RequestError(
            f"{absolute} is a file, and --array {array} is for Zarr folders.", "Leave it out."
        )
    from tomoseg.io.mrc import describe_mrc

    return describe_mrc(absolute)


def find_inputs(arguments: Sequence[str]) -> list[str]:
    """Expand files, glob patterns and folders into input paths.

    Parameters
    ----------
    arguments
        Each a URL, a path of a file or a Zarr folder, a glob pattern (``**`` goes deeper), or a
        folder, of which all MRC files and Zarr folders directly inside are taken, or of a
        copick project all tomograms.

    Returns
    -------
    list of str
        Every input once: in the order of the arguments, sorted within each.

    Raises
    ------
    InputError
        Where an argument leads to nothing.
    """
    found: dict[str, None] = {}
    for argument in arguments:
        paths = [argument] if is_url(argument) else _expand(argument)
        if not paths:
            raise InputError(
                f"Nothing to read at {argument}.",
                f"Expected a file, a pattern, or a folder with {', '.join(_FOLDER_SUFFIXES)}.",
            )
        found.update(dict.fromkeys(paths))
    return list(found)


def refuse_url(path: str | Path) -> None:
    """Raise an InputError for a remote path of an output."""
    if is_url(path):
        raise InputError(
            f"{path} is a URL, and only local paths can be written.",
            "Write it here, and upload it once it is finished.",
        )


def believable_voxel_size(sizes: Sequence[float]) -> tuple[Triple | None, str]:
    """Judge a voxel size that a file states.

    Parameters
    ----------
    sizes
        Along z, y, x, in angstrom.

    Returns
    -------
    tuple
        The sizes rounded to the seven digits that a float32 header holds, and an empty
        note; or None, and the reason why they are not believed.
    """
    low, high = _BELIEVABLE_ANGSTROM
    for size in sizes:
        if not (math.isfinite(size) and low <= size <= high):
            return None, f"says {size:.4g} Å, which no tomogram has"
    z, y, x = (float(f"{size:.7g}") for size in sizes)
    if (z, y, x) == (1.0, 1.0, 1.0):
        return None, "says 1.0 Å, usually a stand-in"
    return (z, y, x), ""


def require_inside(box: Box, shape: Index) -> None:
    """Raise a ValueError for a box that leaves a volume of `shape`."""
    if not whole(shape).contains(box) or min(box.start, default=0) < 0:
        raise ValueError(f"expected a box within a volume of {shape}, got {box}")


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return `dtype` in native byte order; bool becomes uint8."""
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")


def _expand(argument: str) -> list[str]:
    path = Path(argument)
    if not os.path.lexists(path):
        return sorted(glob.glob(argument, recursive=True))  # noqa: PTH207 - from any root
    if not path.is_dir() or any((path / name).exists() for name in ZARR_METADATA):
        return [argument]
    try:
        if (path / "ExperimentRuns").is_dir():  # a copick project
            tomograms = path.glob("ExperimentRuns/*/VoxelSpacing*/*.zarr")
            return sorted(str(t) for t in tomograms if not t.stem.endswith("_features"))
        entries = list(path.iterdir())
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}.", "Check its permissions."
        ) from error
    return sorted(
        str(entry)
        for entry in entries
        if entry.suffix.lower() in _FOLDER_SUFFIXES and not entry.name.startswith(".")
    )


def _three(kind: Callable[[Any], Any], values: Sequence[Any]) -> tuple[Any, Any, Any]:
    z, y, x = (kind(value) for value in values)
    return z, y, x


def _int32(value: Any) -> int:
    """Return a number as a field of an MRC header holds it."""
    number = int(value)
    if not -(2**31) <= number < 2**31:
        raise ValueError(f"expected an integer of 32 bits, got {printable(value)}")
    return number


def _float32(value: Any) -> float:
    number = float(value)
    if not abs(number) <= _LARGEST_FLOAT32:
        raise ValueError(f"expected a finite number of 32 bits, got {printable(value)}")
    return number
