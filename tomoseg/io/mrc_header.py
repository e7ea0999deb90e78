"""MRC headers as found in the wild: byte order, axes, signs and voxel sizes made plain.

Reads and makes 1024 bytes; knows nothing of boxes and reads no voxels.
"""

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from tomoseg.errors import InputError
from tomoseg.geometry import Index
from tomoseg.io.volume import (
    LONGEST_AXIS,
    MrcHeader,
    Triple,
    Volume,
    believable_voxel_size,
    native,
)

logger = logging.getLogger(__name__)

HEADER_BYTES = 1024
MODE_DTYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
IMOD_STAMP = 1146047817
IMOD_SIGNED = 1
IMOD_NO_RMS = 8
IMOD_FOUR_BIT = 16
_IMOD_FIELD = 40  # offset of stamp and flags (two int32) within the field "extra2"

_UNREADABLE_MODES = {
    3: ("complex integers (a Fourier transform)", "Give the real-space volume."),
    4: ("complex numbers (a Fourier transform)", "Give the real-space volume."),
    16: ("RGB colours", "Convert it to one channel first."),
    101: ("4-bit integers", "Unpack it first: newstack -mode 0 {path} NEW.mrc"),
}
_KNOWN_MODES = (*MODE_DTYPES, *_UNREADABLE_MODES)

_MAGIC = {
    b"\x1f\x8b": ("gzip-compressed", "Unpack it first: gunzip -k {path}"),
    b"BZh": ("bzip2-compressed", "Unpack it first: bunzip2 -k {path}"),
    b"\xfd7zXZ": ("xz-compressed", "Unpack it first: unxz -k {path}"),
    b"\x28\xb5\x2f\xfd": ("zstd-compressed", "Unpack it first: unzstd -k {path}"),
    b"PK\x03\x04": ("a zip archive", "Unpack it first: unzip {path}"),
    b"\x89HDF": ("HDF5", "Convert it to MRC or OME-Zarr first."),
    b"II*\x00": ("TIFF", "Convert it to MRC first: tif2mrc {path} NEW.mrc"),
    b"MM\x00*": ("TIFF", "Convert it to MRC first: tif2mrc {path} NEW.mrc"),
    b"\x89PNG": ("a PNG picture", "Give a tomogram in MRC or OME-Zarr."),
    b"\x93NUMPY": ("a numpy array", "Convert it to MRC or OME-Zarr first."),
}


@dataclass(frozen=True)
class Encoding:
    """How the voxels of an MRC file lie in it.

    Parameters
    ----------
    offset
        Bytes before the first voxel.
    stored_shape
        Sections, rows, columns.
    stored_dtype
        With the file's byte order.
    axes
        Which stored axis (0 section, 1 row, 2 column) holds z, y and x.
    """

    offset: int
    stored_shape: Index
    stored_dtype: np.dtype[Any]
    axes: Index


def describe(path: Path) -> tuple[Volume, Encoding]:
    """Read the header of an MRC file and check it against the size of the file.

    Raises
    ------
    InputError
        Where the file is no MRC file, has no voxels, fewer than the header says, or a
        kind of voxel that is no density.
    """
    raw, file_bytes = _read_raw(path)
    header = _interpret(path, raw)
    _check_mode(path, header)
    encoding = _encoding(header)
    _check_size(path, encoding, file_bytes)
    kept = _keep(header, encoding.axes)
    voxel_size, note = _voxel_size(kept)
    volume = Volume(
        path=str(path),
        format="mrc",
        array="",
        shape=kept.shape_zyx,
        dtype=native(encoding.stored_dtype).name,
        voxel_size_angstrom=voxel_size,
        voxel_size_note=note,
        origin_angstrom=_origin(kept, voxel_size),
        mrc=kept,
    )
    return volume, encoding


def make_header(
    header: MrcHeader, *, minimum: float, maximum: float, mean: float, rms: float
) -> bytes:
    """Return the 1024 bytes of a little-endian MRC2014 header, axes in standard order.

    Parameters
    ----------
    header
        What it says.
    minimum, maximum, mean, rms
        Statistics of the voxels; rms is their standard deviation.
    """
    raw = np.zeros((), dtype=HEADER_DTYPE.newbyteorder("<"))
    z, y, x = 0, 1, 2
    for name, axis in (("x", x), ("y", y), ("z", z)):
        raw[f"n{name}"] = header.shape_zyx[axis]
        raw[f"n{name}start"] = header.nstart_zyx[axis]
        raw[f"m{name}"] = header.mxyz_zyx[axis]
        raw["cella"][name] = header.cella_zyx[axis]
        raw["origin"][name] = header.origin_zyx[axis]
    for name, angle in zip(("alpha", "beta", "gamma"), header.cell_angles, strict=True):
        raw["cellb"][name] = angle
    raw["mode"], raw["ispg"], raw["nversion"] = header.mode, header.ispg, 20140
    raw["mapc"], raw["mapr"], raw["maps"] = 1, 2, 3
    raw["dmin"], raw["dmax"], raw["dmean"], raw["rms"] = minimum, maximum, mean, rms
    raw["map"], raw["machst"] = b"MAP ", (0x44, 0x44, 0, 0)
    if header.imod_flags is not None:
        raw["extra2"] = _imod_extra(header.imod_flags, signed=header.mode == 0 and minimum < 0)
    raw["nlabl"] = len(header.labels)
    for number, label in enumerate(header.labels):
        raw["label"][number] = label.encode("latin-1", "replace")
    return raw.tobytes()


def _read_raw(path: Path) -> tuple[bytes, int]:
    try:
        if not path.is_file():
            raise InputError(f"{path} is no regular file.", "Give an MRC file or a Zarr folder.")
        with path.open("rb") as file:
            return file.read(HEADER_BYTES), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}.", "Check its permissions."
        ) from error


def _interpret(path: Path, raw: bytes) -> np.void:
    """Return the header in the byte order that makes sense, whatever the machine stamp says."""
    if not raw:
        raise InputError(f"{path} is empty (0 bytes).", "Copy or write it again.")
    for magic, (what, hint) in _MAGIC.items():
        if raw.startswith(magic):
            raise InputError(f"{path} is {what}, not a plain MRC file.", hint.format(path=path))
    if len(raw) < HEADER_BYTES:
        raise InputError(
            f"{path} is not an MRC file: expected a header of {HEADER_BYTES} bytes, "
            f"found {len(raw)} bytes in all.",
            "Give an MRC file or a Zarr folder.",
        )
    big_endian_stamp = raw[212] == 0x11
    candidates: list[np.void] = [
        np.frombuffer(raw, dtype=HEADER_DTYPE.newbyteorder(order))[0]
        for order in (("big", "little") if big_endian_stamp else ("little", "big"))
    ]
    for header in candidates:
        if _makes_sense(header):
            return header
    raise _nonsense(path, candidates[0])


def _makes_sense(header: np.void) -> bool:
    axes = sorted(_stored_axes(header))
    return (
        int(header["mode"]) in _KNOWN_MODES
        and all(1 <= n <= LONGEST_AXIS for n in _columns_rows_sections(header))
        and (_has_map_id(header) or axes in ([0, 0, 0], [1, 2, 3]))
        and int(header["nsymbt"]) >= 0
    )


def _nonsense(path: Path, header: np.void) -> InputError:
    if not _has_map_id(header):
        return InputError(f"{path} is not an MRC file.", "Give an MRC file or a Zarr folder.")
    columns, rows, sections = _columns_rows_sections(header)
    return InputError(
        f"{path} has a damaged MRC header: {columns} x {rows} x {sections} voxels of mode "
        f"{int(header['mode'])}, {int(header['nsymbt'])} bytes of extended header.",
        "Copy or write the file again.",
    )


def _check_mode(path: Path, header: np.void) -> None:
    mode = int(header["mode"])
    flags = _imod_flags(header)
    if mode == 0 and flags is not None and flags & IMOD_FOUR_BIT:
        mode = 101
    if mode in _UNREADABLE_MODES:
        what, hint = _UNREADABLE_MODES[mode]
        raise InputError(
            f"{path} holds {what}, MRC mode {mode}; "
            f"expected mode {', '.join(map(str, MODE_DTYPES))}.",
            hint.format(path=path),
        )
    sections, intervals = int(header["nz"]), int(header["mz"])
    if 401 <= int(header["ispg"]) <= 630 and 0 < intervals < sections:
        raise InputError(
            f"{path} is a stack of {sections // intervals} volumes (ispg {int(header['ispg'])}); "
            "expected one volume.",
            "Split it first: newstack -secs FIRST-LAST, or mrcfile in Python.",
        )


def _encoding(header: np.void) -> Encoding:
    mapped = _stored_axes(header)
    if sorted(mapped) != [1, 2, 3]:
        if mapped != (0, 0, 0):
            logger.warning("Axis order %s is no permutation of 1, 2, 3; taken as 1, 2, 3.", mapped)
        mapped = (1, 2, 3)
    # mapped[0] is the axis (1 x, 2 y, 3 z) of the columns, which are stored axis 2.
    axes = tuple(2 - mapped.index(axis) for axis in (3, 2, 1))
    code = "u1" if _unsigned_bytes(header) else MODE_DTYPES[int(header["mode"])]
    return Encoding(
        offset=HEADER_BYTES + int(header["nsymbt"]),
        stored_shape=_columns_rows_sections(header)[::-1],
        stored_dtype=np.dtype(code).newbyteorder(header.dtype["nx"].byteorder),
        axes=axes,
    )


def _unsigned_bytes(header: np.void) -> bool:
    """Tell whether mode 0 means unsigned bytes.

    IMOD's flag decides where there is one. Otherwise bytes are signed (MRC2014), unless
    the header's own statistics could only come from unsigned ones.
    """
    if int(header["mode"]) != 0:
        return False
    flags = _imod_flags(header)
    if flags is not None:
        return not flags & IMOD_SIGNED
    return bool(header["dmin"] >= 0 and 127 < header["dmax"] <= 255)


def _check_size(path: Path, encoding: Encoding, file_bytes: int) -> None:
    voxels = math.prod(encoding.stored_shape)
    expected = encoding.offset + voxels * encoding.stored_dtype.itemsize
    if file_bytes < expected:
        sections, rows, columns = encoding.stored_shape
        state = "has only a header" if file_bytes <= encoding.offset else "is truncated"
        raise InputError(
            f"{path} {state}: {columns} x {rows} x {sections} voxels of "
            f"{encoding.stored_dtype.itemsize} bytes need {expected} bytes, "
            f"found {file_bytes}.",
            "Copy or write it again.",
        )
    if file_bytes > expected:
        logger.warning(
            "%s is longer than its header says: expected %d bytes, found %d; the rest is ignored.",
            path,
            expected,
            file_bytes,
        )


def _keep(header: np.void, axes: Index) -> MrcHeader:
    stored_start = tuple(int(header[f"n{axis}start"]) for axis in "zyx")
    stored_shape = _columns_rows_sections(header)[::-1]
    count = min(max(int(header["nlabl"]), 0), 10)
    # Files from before MRC2000 have no map ID, and something else where the origin is now.
    origin = _finite(header["origin"], "zyx") if _has_map_id(header) else (0.0, 0.0, 0.0)
    return MrcHeader(
        shape_zyx=tuple(stored_shape[axis] for axis in axes),
        mode=int(header["mode"]),
        nstart_zyx=tuple(stored_start[axis] for axis in axes),
        mxyz_zyx=tuple(int(header[f"m{axis}"]) for axis in "zyx"),
        cella_zyx=_finite(header["cella"], "zyx"),
        cell_angles=_finite(header["cellb"], ("alpha", "beta", "gamma")),
        origin_zyx=origin,
        ispg=int(header["ispg"]),
        imod_flags=_imod_flags(header),
        labels=tuple(label.decode("latin-1") for label in header["label"][:count].tolist()),
    )


def _voxel_size(header: MrcHeader) -> tuple[Triple | None, str]:
    """Return what the header says of the voxel size (z, y, x), and a note.

    An image stack (ispg 0, one interval along z however many sections, or nothing
    believable along z) says nothing of its depth: its sections then are as far apart as
    its pixels, which is what programs mean that write tomograms as image stacks.
    """
    intervals = [m if m > 0 else n for m, n in zip(header.mxyz_zyx, header.shape_zyx, strict=True)]
    z, y, x = (cell / m for cell, m in zip(header.cella_zyx, intervals, strict=True))
    note = "MRC header"
    no_depth = intervals[0] != header.shape_zyx[0] or not z > 0 or (z == 1.0 and x != 1.0)
    if header.ispg == 0 and no_depth and x > 0:
        z, note = x, "MRC header of an image stack, along z as along x"
    sizes, doubt = believable_voxel_size((z, y, x))
    return sizes, f"MRC header {doubt}" if doubt else note


def _origin(header: MrcHeader, voxel_size: Triple | None) -> Triple:
    """Return the position of voxel 0: the origin, or nstart where there is no origin.

    As ChimeraX does it. IMOD's flag for an inverted sign is not followed, because no
    other program follows it and overlays would fall apart.
    """
    if voxel_size is None or any(header.origin_zyx):
        return header.origin_zyx
    z, y, x = (n * size for n, size in zip(header.nstart_zyx, voxel_size, strict=True))
    return z, y, x


def _imod_flags(header: np.void) -> int | None:
    order = header.dtype["nx"].byteorder
    field = bytes(header["extra2"])[_IMOD_FIELD : _IMOD_FIELD + 8]
    stamp, flags = np.frombuffer(field, dtype=np.dtype("i4").newbyteorder(order))
    return int(flags) if int(stamp) == IMOD_STAMP else None


def _imod_extra(flags: int, *, signed: bool) -> bytes:
    """Return the field with IMOD's stamp, the flags fitted to what is written."""
    flags &= ~(IMOD_SIGNED | IMOD_NO_RMS | IMOD_FOUR_BIT)
    values = np.array([IMOD_STAMP, flags | (IMOD_SIGNED if signed else 0)], dtype="<i4")
    return bytes(_IMOD_FIELD) + values.tobytes() + bytes(84 - _IMOD_FIELD - 8)


def _columns_rows_sections(header: np.void) -> Index:
    return tuple(int(header[f"n{axis}"]) for axis in "xyz")


def _stored_axes(header: np.void) -> Index:
    return tuple(int(header[name]) for name in ("mapc", "mapr", "maps"))


def _has_map_id(header: np.void) -> bool:
    return bytes(header["map"])[:3] == b"MAP"


def _finite(field: np.void, names: Sequence[str]) -> Triple:
    first, second, third = (float(field[name]) for name in names)
    if not all(math.isfinite(value) for value in (first, second, third)):
        return (0.0, 0.0, 0.0)
    return first, second, third
