"""A finished output of `segment`, opened to be looked at: arrays stay on the disk.

What the viewer, the report and the Python door share; computes nothing.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zarr
from zarr.storage import LocalStore

from tomoseg.blockwise.status import layout_of
from tomoseg.errors import InputError
from tomoseg.io.layout import Kind, Layout
from tomoseg.io.storage import library_errors, storage_errors
from tomoseg.io.volume import Triple, Volume, open_volume


@dataclass(frozen=True)
class Segmentation:
    """What `segment` left, as lazy arrays with their place in space; nothing stays open.

    Parameters
    ----------
    path
        Folder of the OME-Zarr image.
    layout
        Its shapes, scales and names.
    attributes
        Its provenance: configuration, input, weights, summary (docs/output.md).
    """

    path: Path
    layout: Layout
    attributes: dict[str, Any] = field(repr=False)

    @property
    def saliency(self) -> "zarr.Array[Any]":
        """Lazy uint8 array, z, y, x: 0 to 255 stand for a probability of 0 to 1."""
        return self.level("image", 0)

    @property
    def mask(self) -> "zarr.Array[Any]":
        """Lazy uint8 array, z, y, x: 1 where the saliency reaches the threshold, else 0."""
        return self.level("mask", 0)

    @property
    def voxel_size_angstrom(self) -> Triple:
        """Of both arrays, along z, y, x."""
        return self.layout.level_scale(0)

    @property
    def summary(self) -> dict[str, Any]:
        """What the run gave back: seam measure, salient fraction, what refinement did."""
        return dict(self.attributes["summary"])

    def level(self, kind: Kind, level: int) -> "zarr.Array[Any]":
        """Return a level of the pyramid, lazily; each halves the one before.

        Raises
        ------
        InputError
            Where it cannot be opened.
        """
        name = self.layout.array_path(kind, level)
        where = self.path / name
        with (
            storage_errors("Opening", where),
            library_errors(InputError, f"{where} cannot be opened", "Segment the tomogram again."),
        ):
            array = zarr.open_array(LocalStore(self.path, read_only=True), path=name, mode="r")
        return array

    def open_input(self, path: str | None = None) -> Volume:
        """Describe the tomogram that was segmented.

        Parameters
        ----------
        path
            Where it lies now; None for where it lay.

        Raises
        ------
        InputError
            Where it is not there, or has another shape.
        """
        said = self.attributes["fingerprint"]["input"]
        place = path or self.attributes["input"]["path"]
        array = None if Path(place).is_file() else said["array"] or None
        volume = open_volume(place, array=array)
        if list(volume.shape) != said["shape"]:
            raise InputError(
                f"{volume.path}: expected {said['shape']} voxels (z, y, x) as segmented, "
                f"got {list(volume.shape)}.",
                "Give the tomogram that was segmented with --input.",
            )
        return volume


def open_segmentation(path: str | Path) -> Segmentation:
    """Open a finished output of `segment`.

    Raises
    ------
    InputError
        Where `path` is none, or its run has not come to its end.
    """
    layout, attributes = layout_of(Path(path))
    if not attributes.get("complete"):
        raise InputError(
            f"{path}: expected a finished output, got one that is not complete.",
            f"'tomoseg status {path}' tells how to go on.",
        )
    return Segmentation(Path(path), layout, attributes)
