"""Zarr metadata read as plain JSON: nodes, the choice of an array, its place in space.

Opens no array, runs no codec and follows no path out of the hierarchy, on a disk or behind
a URL; knows OME-Zarr 0.4 and 0.5 as far as a volume needs it.
"""

import heapq
import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomoseg.errors import InputError, TomosegError, printable
from tomoseg.io.remote import Limit, RemotePath, fetch
from tomoseg.io.storage import size_within
from tomoseg.io.volume import Triple, believable_voxel_size

logger = logging.getLogger(__name__)

Root = Path | RemotePath
"""Where a hierarchy lies."""

ANGSTROM_PER_UNIT = {
    "angstrom": 1.0,
    "picometer": 1e-2,
    "nanometer": 1e1,
    "micrometer": 1e4,
    "millimeter": 1e7,
    "meter": 1e10,
}

MOST_JSON_BYTES = 8 << 20
"""Of one metadata file. Python takes up to 90 times as much for what is in it; consolidated
metadata of a thousand arrays are a MiB."""

MOST_JSON_DEPTH = 64
"""Brackets within brackets; OME-Zarr needs ten, and Python's recursion ends at a thousand."""

_SEARCH_DEPTH = 3
_SEARCH_LIMIT = 64


_FARTHEST_ANGSTROM = 1e12
"""A hundred metres: what is farther, or not finite, is no position of a tomogram."""


@dataclass(frozen=True)
class Placement:
    """Where OME-Zarr metadata put an array; angstrom, z, y, x."""

    voxel_size: Triple | None
    note: str
    origin: Triple


_NOWHERE = Placement(None, "no OME-Zarr metadata", (0.0, 0.0, 0.0))


@dataclass(frozen=True)
class Node:
    """Metadata of one node of a hierarchy, as JSON values."""

    version: int
    is_array: bool
    metadata: dict[str, Any]
    attributes: dict[str, Any]


def read_node(root: Root, path: str = "") -> Node | None:
    """Return the metadata of a Zarr array or group; None where there is neither.

    Parameters
    ----------
    root
        Folder of a hierarchy, out of which no link is followed.
    path
        Of the node in it.

    Raises
    ------
    InputError
        Where the metadata are there and cannot be read.
    """
    metadata = _read_json(root, path, "zarr.json")
    if metadata is not None:
        attributes = metadata.get("attributes")
        return Node(
            version=3,
            is_array=metadata.get("node_type") == "array",
            metadata=metadata,
            attributes=attributes if isinstance(attributes, dict) else {},
        )
    for name in (".zarray", ".zgroup"):
        metadata = _read_json(root, path, name)
        if metadata is not None:
            attributes = _read_json(root, path, ".zattrs") or {}
            return Node(2, name == ".zarray", metadata, attributes)
    return None


def _read_json(root: Root, path: str, name: str) -> dict[str, Any] | None:
    file = root / path / name
    try:
        data = read_metadata(root, file)
        if data is None:
            return None
        content = json.loads(data)
        _require_shallow(content)
    except TomosegError:
        raise
    except OSError as error:
        raise InputError(
            f"{printable(str(file))} cannot be read: {error.strerror}.",
            "Check its permissions.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{printable(str(file))} is no valid JSON ({printable(str(error))}).",
            "Copy or write the hierarchy again.",
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{file}: expected a JSON object, found {type(content).__name__}.")
    return content


def read_metadata(root: Root, file: Root) -> bytes | None:
    """Return a metadata file of a hierarchy; None where there is none.

    Raises
    ------
    InputError
        Where it is too large, or leads out of the hierarchy.
    StorageError
        Where a server cannot be reached.
    OSError
        Where the operating system refuses.
    """
    if isinstance(file, RemotePath):
        return fetch(file, Limit(MOST_JSON_BYTES, "metadata"), probing=True)
    if isinstance(root, RemotePath):
        raise ValueError(f"expected a file below {root}, got {file}")
    size = size_within(root, file)
    if size is None:
        return None
    if size > MOST_JSON_BYTES:
        raise InputError(
            f"{file} has {size} bytes; expected at most {MOST_JSON_BYTES} of metadata.",
            "Write the hierarchy again, without what is no metadata.",
        )
    return file.read_bytes()


def _require_shallow(content: Any) -> None:
    level = [content]
    for _ in range(MOST_JSON_DEPTH):
        level = [
            value
            for holder in level
            if isinstance(holder, dict | list)
            for value in (holder.values() if isinstance(holder, dict) else holder)
        ]
        if not level:
            return
    raise ValueError(f"brackets nested more than {MOST_JSON_DEPTH} deep")


def clean_path(folder: Root, path: str | None) -> str:
    """Return a path within the hierarchy.

    Raises
    ------
    InputError
        For a path that leaves it.
    """
    parts = (path or "").strip("/").split("/") if path else []
    if path and (
        Path(path).is_absolute()
        or {"", ".", ".."} & set(parts)
        or "\\" in path
        or not path.isprintable()
    ):
        raise InputError(
            f"{folder}: the array path {printable(repr(path))} leads out of the hierarchy.",
            "Expected names separated by slashes, such as labels/mask/0.",
        )
    return "/".join(parts)


def choose_array(folder: Root, path: str) -> str:
    """Return the path of the array that `path`, of an array or a group, stands for.

    Raises
    ------
    InputError
        Where nothing is at `path`, or a group in which there is no or more than one choice;
        the hint lists what can be chosen.
    """
    node = read_node(folder, path)
    if node is None:
        raise InputError(
            f"{folder} has no array {printable(path)}.",
            _choices(_candidates(folder, "", _SEARCH_DEPTH)),
        )
    if node.is_array:
        return path
    multiscales = _multiscales(node)
    if multiscales is not None:
        return _join(path, _dataset_path(folder, multiscales, 0))
    candidates = list(islice(_candidates(folder, path, _SEARCH_DEPTH), _SEARCH_LIMIT))
    if len(candidates) != 1:
        found = f"{len(candidates)} images" if candidates else "no image"
        raise InputError(
            f"{folder} is a Zarr group with {found}; expected one 3-D array or OME-Zarr metadata.",
            _choices(candidates),
        )
    return choose_array(folder, candidates[0])


def _candidates(folder: Root, path: str, depth: int) -> Iterator[str]:
    """Yield the paths of 3-D arrays and of multiscale images below a group, on a disk."""
    if isinstance(folder, RemotePath):  # a server does not say what it holds
        return
    try:
        with os.scandir(folder / path) as entries:
            names = heapq.nsmallest(
                _SEARCH_LIMIT, (entry.name for entry in entries if entry.is_dir())
            )
    except OSError:
        return
    for name in names:
        child = _join(path, name)
        node = read_node(folder, child)
        if node is None:
            continue
        shape = node.metadata.get("shape")
        if _multiscales(node) is not None or (
            node.is_array and isinstance(shape, list) and len(shape) >= 3
        ):
            yield child
        elif not node.is_array and depth > 1:
            yield from _candidates(folder, child, depth - 1)


def _choices(candidates: Iterable[str]) -> str:
    names = [printable(name) for name in islice(candidates, _SEARCH_LIMIT)]
    if not names:
        return "Check the path, or convert the data to OME-Zarr."
    return f"Choose one: --array {' | '.join(names)}"


def _multiscales(node: Node) -> dict[str, Any] | None:
    """Return the first multiscale image of a group: OME-Zarr 0.5, or 0.4 and before."""
    ome = node.attributes.get("ome", node.attributes)
    images = ome.get("multiscales") if isinstance(ome, dict) else None
    if isinstance(images, list) and images and isinstance(images[0], dict):
        return images[0]
    return None


def _dataset_path(folder: Root, multiscales: dict[str, Any], level: int) -> str:
    try:
        path = multiscales["datasets"][level]["path"]
    except (KeyError, IndexError, TypeError) as error:
        raise InputError(
            f"{folder}: the OME-Zarr metadata name no dataset.", "Choose one with --array."
        ) from error
    return clean_path(folder, str(path))


def find_placement(folder: Root, path: str) -> Placement:
    """Return what the nearest group above an array says of the array's place in space.

    Voxel centres are the reference, in OME-Zarr as here: the translation is the position
    of the centre of voxel (0, 0, 0). Without a unit of length there is no voxel size, for
    a scale alone may be in anything.
    """
    image = _image_of(folder, path)
    return _NOWHERE if image is None else _place(folder, image.multiscales, image.datasets[0])


def coarser_arrays(folder: Root, path: str) -> list[str]:
    """Return the paths of the coarser levels of the image that an array is a level of."""
    image = _image_of(folder, path)
    if image is None:
        return []
    names = (str(dataset.get("path")) for dataset in image.datasets[1:])
    return [_join(image.group, clean_path(folder, name)) for name in names]


@dataclass(frozen=True)
class _Image:
    """A multiscale image that has an array, from that array on."""

    group: str
    multiscales: dict[str, Any]
    datasets: list[dict[str, Any]]


def _image_of(folder: Root, path: str) -> _Image | None:
    parts = path.split("/") if path else []
    for count in range(len(parts) - 1, -1, -1):
        node = read_node(folder, "/".join(parts[:count]))
        multiscales = None if node is None else _multiscales(node)
        if multiscales is None:
            continue
        relative = "/".join(parts[count:])
        listed = multiscales.get("datasets")
        datasets = [d for d in (listed if isinstance(listed, list) else []) if isinstance(d, dict)]
        for number, dataset in enumerate(datasets):
            if dataset.get("path") == relative:
                return _Image("/".join(parts[:count]), multiscales, datasets[number:])
    return None


def _place(folder: Root, multiscales: dict[str, Any], dataset: dict[str, Any]) -> Placement:
    units = _units(folder, multiscales)
    scale, translation = np.ones(3), np.zeros(3)
    try:
        for holder in (dataset, multiscales):
            for step in holder.get("coordinateTransformations", []):
                if step["type"] == "scale":
                    factor = _last_three(step["scale"])
                    scale, translation = scale * factor, translation * factor
                elif step["type"] == "translation":
                    translation = translation + _last_three(step["translation"])
                elif step["type"] != "identity":
                    raise ValueError(f"unknown kind {step['type']!r}")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        logger.warning(
            "%s: coordinate transformations cannot be read: %s.", folder, printable(str(error))
        )
        return Placement(None, "OME-Zarr transformations cannot be read", (0.0, 0.0, 0.0))
    if units is None:
        return Placement(None, "OME-Zarr metadata without a unit of length", (0.0, 0.0, 0.0))
    sizes, doubt = believable_voxel_size([float(v) for v in scale * units])
    z, y, x = (
        float(f"{v:.15g}") if abs(v) <= _FARTHEST_ANGSTROM else 0.0 for v in translation * units
    )
    note = f"OME-Zarr metadata {doubt}" if doubt else "OME-Zarr metadata"
    return Placement(sizes, note, (z, y, x))


def _last_three(values: list[float]) -> NDArray[np.float64]:
    return np.array(values[-3:], dtype=np.float64).reshape(3)


def _units(folder: Root, multiscales: dict[str, Any]) -> NDArray[np.float64] | None:
    """Return angstrom per unit along z, y, x; None where an axis has no unit of length.

    Raises
    ------
    InputError
        Where the last three axes are named and are not z, y, x.
    """
    axes = multiscales.get("axes")
    if not isinstance(axes, list) or len(axes) < 3:
        return None
    last = [axis if isinstance(axis, dict) else {"name": axis} for axis in axes[-3:]]
    names = [str(axis.get("name")) for axis in last]
    if names != ["z", "y", "x"]:
        raise InputError(
            f"{folder}: expected an image whose last axes are z, y, x, "
            f"found {printable(', '.join(names))}.",
            "Write it again with its axes in that order.",
        )
    units = [ANGSTROM_PER_UNIT.get(str(axis.get("unit")).lower()) for axis in last]
    known = [unit for unit in units if unit is not None]
    return np.array(known) if len(known) == 3 else None


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name
