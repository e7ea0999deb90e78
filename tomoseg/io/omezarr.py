"""OME-Zarr images as tomoseg writes them: layout, metadata, shards written whole.

Knows Zarr, and no tasks or journal: the caller owns a shard, and no one else writes it.
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.storage import LocalStore

from tomoseg.errors import InputError, OutputExistsError, StorageError
from tomoseg.geometry import Box, Lattice
from tomoseg.io.layout import Kind, Layout
from tomoseg.io.storage import (
    fsync,
    library_errors,
    remove,
    storage_errors,
    temporary_sibling,
    write_json,
)
from tomoseg.io.volume import require_inside
from tomoseg.io.zarr_nodes import read_node

OUR_KEY = "tomoseg"
"""Key of our attributes in the root group, beside OME-Zarr's."""

__all__ = ["ArrayStore", "Kind", "Layout", "create", "read_attributes", "update_attributes"]

_AXES = ("z", "y", "x")


def create(layout: Layout, attributes: dict[str, Any], *, folder: str | None = None) -> None:
    """Create the group with all metadata and empty arrays, all of it or nothing.

    Parameters
    ----------
    layout
        What to create; the folders above it are made.
    attributes
        JSON values for the key "tomoseg" of the root group's attributes.
    folder
        Name of a folder in the root group for the caller's own files. It is made a Zarr
        group, for readers of Zarr warn of every folder that is not.

    Raises
    ------
    OutputExistsError
        Where `layout.path` is there and not an empty folder.
    StorageError
        Where the file system refuses.
    """
    final = Path(layout.path)
    with storage_errors("Creating", final):
        final.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(final) and not (final.is_dir() and not any(final.iterdir())):
            raise _exists(final)
        temporary = temporary_sibling(final)
        try:
            _create_all(layout, temporary, attributes, folder)
            temporary.rename(final)
        except OSError as error:
            remove(temporary)
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another process was quicker
                raise _exists(final) from error
            raise
        except BaseException:
            remove(temporary)
            raise
        fsync(final.parent)


def _exists(path: Path) -> OutputExistsError:
    return OutputExistsError(f"{path} exists already.", "Choose another name, or pass --overwrite.")


def update_attributes(path: str | Path, attributes: dict[str, Any]) -> None:
    """Merge `attributes` into those under "tomoseg" of a root group, atomically.

    One process at a time: of two that update at once, one is lost.

    Raises
    ------
    InputError
        Where `path` is no Zarr group.
    StorageError
        Where the file system refuses.
    """
    root = Path(path)
    node = read_node(root)
    if node is None:
        raise InputError(f"{root} is no Zarr group.", "Check the path.")
    kept = node.attributes.get(OUR_KEY)
    merged = {**(kept if isinstance(kept, dict) else {}), **attributes}
    all_attributes = {**node.attributes, OUR_KEY: merged}
    file = root / ("zarr.json" if node.version == 3 else ".zattrs")
    whole = {**node.metadata, "attributes": all_attributes} if node.version == 3 else all_attributes
    with storage_errors("Writing", file):
        _unlink_partials(file)  # of a process that was killed here
    write_json(file, whole)


def read_attributes(path: str | Path) -> dict[str, Any] | None:
    """Return the attributes under "tomoseg"; None where `path` is no group with any.

    Raises
    ------
    InputError
        Where there are metadata that cannot be read.
    """
    node = read_node(Path(path))
    ours = None if node is None else node.attributes.get(OUR_KEY)
    return ours if isinstance(ours, dict) else None


def segmented_from(path: str | Path) -> str | None:
    """Return the tomogram of which `path` is an output of `segment`; None where it is none.

    Raises
    ------
    InputError
        Where there are metadata that cannot be read.
    """
    attributes = (Path(path).is_dir() and read_attributes(path)) or {}
    if not {"fingerprint", "layout", "input"} <= attributes.keys():
        return None
    return str(attributes["input"]["path"])


class ArrayStore:
    """One array of a layout, opened once per worker; any number of threads may read.

    Zarr looks for chunks of zeros among those that are files of their own, and not among those
    of a shard, which would cost it more time than it takes to compress them.

    Parameters
    ----------
    layout
        Of an image that `create` made.
    kind, level
        Which of its arrays.

    Raises
    ------
    StorageError
        Where the array is not there, or is not the one that the layout describes.
    """

    def __init__(self, layout: Layout, kind: Kind, level: int) -> None:
        self.shape = layout.level_shape(level)
        self.dtype = np.dtype(layout.array_dtype(kind))
        self._layout = layout
        self._shards = layout.shards(level)
        self._folder = Path(layout.path, layout.array_path(kind, level))
        with (
            storage_errors("Opening", self._folder),
            library_errors(
                StorageError, f"{self._folder} cannot be opened", "Write the image again."
            ),
        ):
            # with_config, since open_array takes a config and ignores it (Zarr 3.1.6)
            self._array = zarr.open_array(
                LocalStore(layout.path), path=layout.array_path(kind, level), mode="r+"
            ).with_config({"write_empty_chunks": layout.version == "0.5"})
        if (self._array.shape, self._array.dtype) != (self.shape, self.dtype):
            raise StorageError(
                f"{self._folder}: expected {self.shape} {self.dtype}, "
                f"found {self._array.shape} {self._array.dtype}.",
                "Write the image again.",
            )

    def read(self, box: Box) -> NDArray[Any]:
        """Return the voxels of `box` (z, y, x), zero where nothing was written.

        Raises
        ------
        StorageError
            Where a stored shard is damaged, or the file system fails.
        """
        require_inside(box, self.shape)
        with (
            storage_errors("Reading", self._folder),
            library_errors(
                StorageError,
                f"{self._folder} is damaged at {box.start}",
                "Its shard has to be computed again.",
            ),
        ):
            self._require_no_empty_files(box)
            data = self._array[box.slices]
        return np.array(data, dtype=self.dtype, order="C", copy=None).reshape(box.shape)

    def _require_no_empty_files(self, box: Box) -> None:
        """Refuse files of 0 bytes, as a crash of the machine leaves them.

        Zarr reads a shard of 0 bytes as one that is not there: as zeros, without a word.
        """
        if self._layout.version != "0.5":
            return
        for number in self._shards.numbers_in(box):
            for file in self.files(self._shards.cell(number)):
                if file.exists() and file.stat().st_size == 0:
                    raise StorageError(
                        f"{file} is damaged: it has 0 bytes.", "Its shard has to be computed again."
                    )

    def write_shard(self, box: Box, data: NDArray[Any]) -> None:
        """Write a whole shard, durably; what was there, whole or torn, is removed first.

        Zarr would read an old shard before it writes, and fail on a torn one for ever. A
        shard of zeros has no file afterwards.

        Parameters
        ----------
        box
            A cell of the layout's shards, cut at the volume's faces.
        data
            ``box.shape`` voxels (z, y, x) of the array's dtype.

        Raises
        ------
        StorageError
            Where the file system refuses.
        """
        if data.shape != box.shape or data.dtype != self.dtype:
            raise ValueError(
                f"expected {box.shape} {self.dtype} voxels, got {data.shape} {data.dtype}"
            )
        files = self.files(box)
        with storage_errors("Writing", self._folder):
            for file in files:
                file.unlink(missing_ok=True)
                _unlink_partials(file)
            if np.any(data):
                self._array[box.slices] = data
            for file in files:
                fsync(file)
            for folder in _folders_between(self._folder, files):
                fsync(folder)

    def files(self, box: Box) -> list[Path]:
        """Return the files that the shard `box` owns, in lexicographic order.

        They exist or not: zeros have no file.
        """
        if box != self._shards.cell(self._shards.number_at(box.start)):
            raise ValueError(f"expected a whole shard of {self._shards}, got {box}")
        if self._layout.version == "0.5":
            edge, root = self._layout.shard, self._folder / "c"
        else:
            edge, root = self._layout.chunk, self._folder
        cells = Lattice(self.shape, edge)
        return [
            root.joinpath(*(str(a // edge) for a in cells.cell(number).start))
            for number in cells.numbers_in(box)
        ]

    def digest(self, box: Box) -> str:
        """Return the sha256 of the voxels of `box` as they are read back, in C order.

        Raises
        ------
        StorageError
            Where they cannot be read back.
        """
        return hashlib.sha256(self.read(box).tobytes()).hexdigest()


def _create_all(layout: Layout, root: Path, attributes: dict[str, Any], folder: str | None) -> None:
    """Create everything under `root`, which is not `layout.path` yet."""
    root.mkdir()
    for kind in layout.kinds():
        for level in range(layout.levels):
            _create_array(layout, root, kind, level)
    _write_group(layout, root, _image_metadata(layout), {OUR_KEY: attributes})
    if layout.label:
        _write_group(layout, root / "labels", {"labels": ["mask"]}, {})
        _write_group(layout, root / "labels" / "mask", _label_metadata(layout), {})
    if folder is not None:
        _write_group(layout, root / folder, None, {})


def _create_array(layout: Layout, root: Path, kind: Kind, level: int) -> None:
    sharded = layout.version == "0.5"
    zarr.create_array(
        LocalStore(root),
        name=layout.array_path(kind, level),
        shape=layout.level_shape(level),
        dtype=layout.array_dtype(kind),
        chunks=(layout.chunk,) * 3,
        shards=(layout.shard,) * 3 if sharded else None,
        compressors=_compressor(layout, kind),
        fill_value=0,
        zarr_format=3 if sharded else 2,
        dimension_names=_AXES if sharded else None,
        chunk_key_encoding=None if sharded else {"name": "v2", "separator": "/"},
    )


def _compressor(layout: Layout, kind: Kind) -> Any:
    """Return the codec: what measured smallest without costing time, for each content."""
    itemsize = np.dtype(layout.array_dtype(kind)).itemsize
    if layout.passing:
        return BloscCodec(cname="lz4", clevel=1, shuffle="shuffle", typesize=itemsize)
    if layout.version == "0.5":
        if kind == "mask":
            return BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")
        if itemsize == 1:
            return ZstdCodec(level=1)
        return BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=itemsize)
    if itemsize == 1 and kind == "image":
        return {"id": "zstd", "level": 1}
    level, shuffle = (3, 2) if kind == "mask" else (1, 1)  # 2: bits, 1: bytes
    return {"id": "blosc", "cname": "zstd", "clevel": level, "shuffle": shuffle, "blocksize": 0}


def _write_group(
    layout: Layout, folder: Path, ome: dict[str, Any] | None, others: dict[str, Any]
) -> None:
    """Write the metadata of a group, with OME-Zarr's where its version keeps them."""
    folder.mkdir(exist_ok=True)
    if layout.version == "0.5":
        attributes = {} if ome is None else {"ome": {"version": "0.5", **ome}}
        content = {"zarr_format": 3, "node_type": "group", "attributes": {**attributes, **others}}
        write_json(folder / "zarr.json", content)
    else:
        write_json(folder / ".zattrs", {**(ome or {}), **others})
        write_json(folder / ".zgroup", {"zarr_format": 2})


def _image_metadata(layout: Layout) -> dict[str, Any]:
    method = "max" if layout.categorical else "mean"
    return {"multiscales": [_multiscale(layout, layout.name, method)]}


def _label_metadata(layout: Layout) -> dict[str, Any]:
    label = {
        "colors": [{"label-value": 1, "rgba": [255, 128, 0, 255]}],
        "properties": [{"label-value": 1, "class": "salient object"}],
        "source": {"image": "../../"},
    }
    if layout.version == "0.4":
        label = {"version": "0.4", **label}
    return {"multiscales": [_multiscale(layout, "mask", "max")], "image-label": label}


def _multiscale(layout: Layout, name: str, method: str) -> dict[str, Any]:
    unit = {} if layout.voxel_size_angstrom is None else {"unit": "angstrom"}
    image = {
        "name": name,
        "axes": [{"name": axis, "type": "space", **unit} for axis in _AXES],
        "datasets": [
            {
                "path": str(level),
                "coordinateTransformations": [
                    {"type": "scale", "scale": list(layout.level_scale(level))},
                    {"type": "translation", "translation": list(layout.level_translation(level))},
                ],
            }
            for level in range(layout.levels)
        ],
        "type": method,
    }
    return {"version": "0.4", **image} if layout.version == "0.4" else image


def _unlink_partials(file: Path) -> None:
    """Remove what killed writers left of a file before its rename."""
    if file.parent.is_dir():
        for partial in file.parent.glob(f"{file.name}.*.partial"):
            partial.unlink(missing_ok=True)


def _folders_between(root: Path, files: list[Path]) -> Iterator[Path]:
    """Yield the folders from those of `files` up to `root`, each once, deepest first."""
    folders = {folder for file in files for folder in file.parents if folder.is_relative_to(root)}
    yield from sorted(folders, key=lambda folder: (-len(folder.parts), folder))
