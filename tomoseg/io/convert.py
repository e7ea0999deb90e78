"""Conversion to MRC, OME-Zarr and TIFF, box by box in bounded memory, the header kept.

Decides dtypes and names; reading and writing are left to the formats' modules.
"""

import dataclasses
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

import tomoseg
from tomoseg.config import OmeVersion
from tomoseg.errors import InputError, RequestError
from tomoseg.geometry import Box, Lattice
from tomoseg.io.layout import DTYPES, Layout
from tomoseg.io.mrc import MODES, MrcWriter
from tomoseg.io.omezarr import ArrayStore, create, read_attributes
from tomoseg.io.pyramid import build_level_shard
from tomoseg.io.storage import ZARR_METADATA, publish, remove, require_writable, temporary_sibling
from tomoseg.io.volume import MRC_SUFFIXES, Volume, open_volume, refuse_url

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the number of boxes done and of all boxes."""

_MASK = "labels/mask/0"
_ALIASES = {"mask": _MASK, "saliency": "0"}
TIFF_SUFFIXES = (".tif", ".tiff")
_BOX = 256
"""Edge in voxels of what is read at once on the way to MRC and TIFF."""


def convert(
    source: str | Path,
    destination: str | Path,
    *,
    array: str | None = None,
    version: OmeVersion = "0.5",
    shard: int = 256,
    voxel_size_angstrom: float | None = None,
    categorical: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Convert a volume to OME-Zarr, MRC or TIFF, whichever the destination's name asks for.

    Parameters
    ----------
    source
        An MRC file or a Zarr folder.
    destination
        ``NAME.zarr``, or a name with a suffix of MRC or TIFF. It appears when it is finished.
    array
        Path of an array or image in a Zarr source. Of an output of ``tomoseg segment``
        also ``mask``, which is what becomes an MRC or TIFF file without being asked for, and
        ``saliency``.
    version
        Of OME-Zarr, on the way there.
    shard
        Edge of the shards in voxels, on the way to OME-Zarr.
    voxel_size_angstrom
        Overrides what the source says.
    categorical
        Whether its values are names, as a mask's are: levels of OME-Zarr are then made by the
        maximum. A mask of ``tomoseg segment`` is known to be one.
    overwrite
        Whether a destination that is there is replaced, at the end.
    progress
        Told how far it is.

    Returns
    -------
    dict
        ``source``, ``array``, ``destination``, ``shape`` (z, y, x), ``dtype`` as written,
        ``voxel_size_angstrom`` (z, y, x; None if unknown) and ``voxel_size_note``.

    Raises
    ------
    InputError
        Where the source cannot be read, or MRC cannot hold its values.
    RequestError
        Where the destination's name says no format, or something is there.
    StorageError
        Where the file system refuses.
    """
    refuse_url(destination)
    target = Path(os.path.abspath(destination))  # noqa: PTH100 - symlinks keep their names
    kind = _kind(target)
    segmented = _is_segmented(Path(source))
    if kind != "zarr" and segmented and array is None:
        array = "mask"
    if segmented and array in _ALIASES:
        array = _ALIASES[array]
    volume = open_volume(source, array=array)
    _require_apart(Path(volume.path), target)
    require_writable(target, overwrite=overwrite)
    volume = _with_voxel_size(volume, voxel_size_angstrom)
    report = progress or _ignore
    if kind == "mrc":
        dtype = _to_mrc(volume, target, segmented=segmented, overwrite=overwrite, report=report)
    elif kind == "tiff":
        dtype = _to_tiff(volume, target, overwrite=overwrite, report=report)
    else:
        layout = Layout(
            path=str(temporary_sibling(target)),
            shape=volume.shape,
            voxel_size_angstrom=volume.voxel_size_angstrom,
            origin_angstrom=volume.origin_angstrom,
            name=Path(volume.path).stem,
            dtype=_require_dtype(volume, DTYPES),
            label=False,
            shard=shard,
            version=version,
            categorical=categorical or (segmented and volume.array == _MASK),
        )
        dtype = _to_omezarr(volume, layout, target, overwrite=overwrite, report=report)
    return {
        "source": volume.path,
        "array": volume.array,
        "destination": str(target),
        "shape": list(volume.shape),
        "dtype": dtype,
        "voxel_size_angstrom": volume.voxel_size_angstrom and list(volume.voxel_size_angstrom),
        "voxel_size_note": volume.voxel_size_note,
    }


def _require_dtype(volume: Volume, known: Sequence[str]) -> str:
    if volume.dtype not in known:
        raise InputError(
            f"{volume.path} holds {volume.dtype}; expected {', '.join(known)}.",
            "Convert the values first.",
        )
    return volume.dtype


def _to_omezarr(
    volume: Volume, layout: Layout, target: Path, *, overwrite: bool, report: Progress
) -> str:
    attributes = {
        "version": tomoseg.__version__,
        "converted_from": {"name": Path(volume.path).name, "array": volume.array},
        "mrc": volume.mrc.to_dict() if volume.mrc else None,
    }
    try:
        create(layout, attributes)
        _fill(volume, layout, report)
        publish(Path(layout.path), target, overwrite=overwrite)
    except BaseException:
        remove(Path(layout.path))
        raise
    return volume.dtype


def _fill(volume: Volume, layout: Layout, report: Progress) -> None:
    """Write every level of the image, shard by shard."""
    total = sum(len(layout.shards(level)) for level in range(layout.levels))
    done = 0
    store = ArrayStore(layout, "image", 0)
    with volume.reader() as reader:
        for box in layout.shards(0):
            store.write_shard(box, reader.read(box))
            done += 1
            report(done, total)
    for level in range(1, layout.levels):
        for box in layout.shards(level):
            build_level_shard(layout, "image", level, box)
            done += 1
            report(done, total)


def _to_mrc(
    volume: Volume, target: Path, *, segmented: bool, overwrite: bool, report: Progress
) -> str:
    dtype = "int8" if segmented and volume.array == _MASK else _mrc_dtype(volume, segmented)
    with MrcWriter(
        target,
        shape=volume.shape,
        dtype=dtype,
        voxel_size_angstrom=volume.voxel_size_angstrom,
        origin_angstrom=volume.origin_angstrom,
        header=volume.mrc,
        label=_label(volume, segmented),
        overwrite=overwrite,
    ) as writer:
        _copy(volume, writer, dtype, report)
    return dtype


def _to_tiff(volume: Volume, target: Path, *, overwrite: bool, report: Progress) -> str:
    from tomoseg.io.tiff import DTYPES, TiffWriter

    dtype = _require_dtype(volume, DTYPES)
    with TiffWriter(
        target,
        shape=volume.shape,
        dtype=dtype,
        voxel_size_angstrom=volume.voxel_size_angstrom,
        overwrite=overwrite,
    ) as writer:
        _copy(volume, writer, dtype, report)
    return dtype


class _Writer(Protocol):
    def write(self, box: Box, data: NDArray[Any]) -> None:
        """Write the voxels of a box."""


def _copy(volume: Volume, writer: _Writer, dtype: str, report: Progress) -> None:
    """Write every voxel, box by box."""
    boxes = Lattice(volume.shape, _BOX)
    with volume.reader() as reader:
        for done, box in enumerate(boxes, start=1):
            writer.write(box, reader.read(box).astype(dtype, copy=False))
            report(done, len(boxes))


def _mrc_dtype(volume: Volume, segmented: bool) -> str:
    """Return the dtype that holds the volume's values in an MRC file.

    uint8 becomes uint16, as mode 0 is signed; but where the values came from an MRC file
    of IMOD's unsigned bytes they go back to such a file.
    """
    if volume.dtype in MODES:
        return volume.dtype
    if volume.dtype == "uint8":
        header = volume.mrc
        unsigned = header is not None and header.imod_flags is not None and header.mode == 0
        return "uint8" if unsigned and not segmented else "uint16"
    if volume.dtype == "float64":
        logger.warning("%s: float64 is written as float32; MRC has no wider one.", volume.path)
        return "float32"
    return _integers_that_fit(volume)


def _integers_that_fit(volume: Volume) -> str:
    """Return the 16-bit type that holds every value, found by reading them all."""
    low, high = _range(volume)
    for name in ("int16", "uint16"):
        limits = np.iinfo(name)
        if limits.min <= low and high <= limits.max:
            return name
    raise InputError(
        f"{volume.path} holds {volume.dtype} from {low} to {high}; MRC has no integers "
        "beyond 16 bits.",
        "Convert the values to float32 first, or write OME-Zarr.",
    )


def _range(volume: Volume) -> tuple[int, int]:
    lows, highs = [], []
    with volume.reader() as reader:
        for box in Lattice(volume.shape, _BOX):
            data = reader.read(box)
            lows.append(int(data.min()))
            highs.append(int(data.max()))
    return min(lows), max(highs)


def _label(volume: Volume, segmented: bool) -> str:
    """Return what the MRC file says of its making; nothing where it is a way back."""
    if segmented and volume.array == _MASK:
        return f"tomoseg {tomoseg.__version__}: mask, 1 = salient object"
    if segmented and volume.array == _ALIASES["saliency"]:
        return f"tomoseg {tomoseg.__version__}: saliency, 255 = certain"
    return "" if volume.mrc else f"tomoseg {tomoseg.__version__}: converted from Zarr"


def _is_segmented(source: Path) -> bool:
    """Tell whether the source is an output of ``tomoseg segment``."""
    if not source.is_dir() or read_attributes(source) is None:
        return False
    return any((source / _MASK / name).exists() for name in ZARR_METADATA)


def _kind(target: Path) -> Literal["mrc", "tiff", "zarr"]:
    suffix = target.suffix.lower()
    if suffix in MRC_SUFFIXES:
        return "mrc"
    if suffix in TIFF_SUFFIXES:
        return "tiff"
    if suffix == ".zarr":
        return "zarr"
    known = ", ".join((*MRC_SUFFIXES, *TIFF_SUFFIXES))
    raise RequestError(
        f"{target.name}: expected a name that ends in .zarr, {known}.",
        "Choose the format by the name.",
    )


def _require_apart(source: Path, target: Path) -> None:
    first, second = source.resolve(), target.resolve()
    if first == second or first in second.parents or second in first.parents:
        raise RequestError(
            f"{target} is the source, lies in it or holds it.", "Choose another destination."
        )


def _with_voxel_size(volume: Volume, voxel_size: float | None) -> Volume:
    if voxel_size is None:
        return volume
    if not voxel_size > 0:
        raise RequestError(f"voxel size: expected above 0 angstrom, got {voxel_size}.")
    return dataclasses.replace(
        volume, voxel_size_angstrom=(voxel_size,) * 3, voxel_size_note="as given"
    )


def _ignore(done: int, total: int) -> None:
    """Report to no one."""
