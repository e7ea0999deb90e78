"""Zarr folders as inputs: a volume described, and boxes of it read.

Lets Zarr open one array, after `zarr_limits` has judged its metadata, through a store that
stays within the folder; metadata are read by `zarr_nodes`.
"""

import logging
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from tomoseg.errors import InputError
from tomoseg.geometry import Box
from tomoseg.io.remote import digest, is_url, remote_path
from tomoseg.io.storage import ZARR_METADATA, library_errors, storage_errors
from tomoseg.io.volume import (
    MrcHeader,
    Volume,
    VolumeReader,
    native,
    require_inside,
)
from tomoseg.io.zarr_limits import require_reasonable
from tomoseg.io.zarr_nodes import (
    Node,
    Root,
    choose_array,
    clean_path,
    coarser_arrays,
    find_placement,
    read_metadata,
    read_node,
)
from tomoseg.io.zarr_store import input_store

logger = logging.getLogger(__name__)

_LARGE_CHUNK_BYTES = 1 << 30


def root_of(path: str) -> Root:
    """Return where the hierarchy of a volume lies, from its path."""
    return remote_path(path) if is_url(path) else Path(path)


def stamp_remote(volume: Volume) -> dict[str, int | str]:
    """Return size and sha256 of the metadata of an array behind a URL.

    They tell another shape, type or codec; voxels that were changed alone are told by the
    sample that a run takes.

    Raises
    ------
    InputError
        Where the array is gone.
    StorageError
        Where the server cannot be reached.
    """
    root = root_of(volume.path)
    for name in ZARR_METADATA:
        data = read_metadata(root, root / volume.array / name)
        if data is not None:
            return digest(data)
    raise InputError(f"{root / volume.array} is no longer there.", "Give its new address.")


def describe_zarr(folder: Root, array: str | None) -> Volume:
    """Describe a volume in a Zarr hierarchy.

    Parameters
    ----------
    folder
        Its root: an array or a group.
    array
        Path within it of an array or of a multiscale image; None where there is no choice.

    Raises
    ------
    InputError
        Where there is no 3-D array of numbers there, or a choice has to be made.
    """
    node = read_node(folder)
    if node is None and isinstance(folder, Path):
        raise InputError(
            f"{folder} is a folder without Zarr metadata.",
            "Give an MRC file, or a folder with zarr.json, .zarray or .zgroup.",
        )
    if node is None:
        raise InputError(
            f"{folder}: there is no zarr.json, .zarray or .zgroup, or it may not be read.",
            "Give the address of the folder that holds it; of MRC files download a copy.",
        )
    path = choose_array(folder, clean_path(folder, array))
    placement = find_placement(folder, path)
    opened = _open(folder, path)
    shape = opened.shape[-3:]
    return Volume(
        path=str(folder),
        format="zarr",
        array=path,
        shape=shape,
        dtype=native(opened.dtype).name,
        voxel_size_angstrom=placement.voxel_size,
        voxel_size_note=placement.note,
        origin_angstrom=placement.origin,
        mrc=_kept_mrc_header(node, shape),
        chunk=opened.chunks[-3:],
    )


def find_level(volume: Volume, longest: int) -> Volume:
    """Return the finest level of an image no axis of which is longer than `longest` voxels.

    The coarsest one where all are larger; `volume` itself where it has no coarser ones.
    """
    if volume.format != "zarr":
        return volume
    root = root_of(volume.path)
    for path in coarser_arrays(root, volume.array):
        if max(volume.shape) <= longest:
            break
        volume = describe_zarr(root, path)
    return volume


class ZarrReader(VolumeReader):
    """Reads boxes of a Zarr array; see `tomoseg.io.volume.VolumeReader`.

    Parameters
    ----------
    volume
        What `describe_zarr` said.

    Raises
    ------
    InputError
        Where the array is no longer what it was described as.
    """

    def __init__(self, volume: Volume) -> None:
        self._array = _open(root_of(volume.path), volume.array)
        now = (self._array.shape[-3:], native(self._array.dtype).name)
        if now != (volume.shape, volume.dtype):
            raise InputError(
                f"{volume.path} has changed: expected {volume.shape} {volume.dtype}, found {now}.",
                "Start again with the array as it is now.",
            )
        self._volume = volume
        self._leading: tuple[int | slice, ...] = (0,) * (self._array.ndim - 3)

    def read(self, box: Box) -> NDArray[Any]:
        """Return the voxels of `box`; see `VolumeReader.read`."""
        require_inside(box, self._volume.shape)
        where = f"{self._volume.path}/{self._volume.array}"
        with (
            storage_errors("Reading", where),
            library_errors(
                InputError,
                f"{where} cannot be decoded at {box.start}",
                "A chunk is damaged; copy or write the array again.",
            ),
        ):
            data = self._array[self._leading + box.slices]
        return np.array(data, dtype=self._volume.dtype, order="C", copy=None).reshape(box.shape)

    def close(self) -> None:
        """Do nothing: nothing stays open between reads."""


def _open(folder: Root, path: str) -> "zarr.Array[Any]":
    node = read_node(folder, path)
    where = folder / path
    if node is None or not node.is_array:
        raise InputError(f"{where} is no Zarr array.", "Check the path.")
    store = input_store(folder, require_reasonable(where, node))
    with (
        warnings.catch_warnings(),
        storage_errors("Opening", str(where)),
        library_errors(
            InputError,
            f"{where} cannot be opened as a Zarr array",
            "Its codec or its metadata are unknown here; write it again, with zstd or blosc.",
        ),
    ):
        warnings.simplefilter("ignore")  # what matters of it is said below
        array = zarr.open_array(
            store, path=path, mode="r", zarr_format=3 if node.version == 3 else 2
        )
        _ = array.dtype
    _require_volume(where, array)
    return array


def _require_volume(where: Root, array: "zarr.Array[Any]") -> None:
    if array.ndim < 3 or any(n != 1 for n in array.shape[:-3]):
        raise InputError(
            f"{where} has shape {array.shape}; expected three axes z, y, x, "
            "or more with one entry in each leading axis.",
            "Choose another array with --array, or write one time point and channel alone.",
        )
    if min(array.shape) < 1:
        raise InputError(f"{where} is empty: its shape is {array.shape}.", "Write it again.")
    chunk_bytes = math.prod(array.chunks) * array.dtype.itemsize
    if chunk_bytes > _LARGE_CHUNK_BYTES:
        logger.warning(
            "%s is stored in chunks of %s voxels: every read takes %.1f GB of memory. "
            "Write it again in smaller chunks.",
            where,
            array.chunks,
            chunk_bytes / 1e9,
        )


def _kept_mrc_header(node: Node, shape: tuple[int, ...]) -> MrcHeader | None:
    ours = node.attributes.get("tomoseg")
    values = ours.get("mrc") if isinstance(ours, dict) else None
    if not isinstance(values, dict):
        return None
    header = MrcHeader.from_dict(values)
    return header if header.shape_zyx == tuple(shape) else None
