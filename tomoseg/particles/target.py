"""What is picked from: a mask, the saliency beside it where there is one, and their grid."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomoseg.blockwise.prepare import resolve_voxel_size
from tomoseg.blockwise.status import read_status
from tomoseg.errors import InputError, Stopped
from tomoseg.io.omezarr import read_attributes, segmented_from
from tomoseg.io.volume import Triple, Volume, open_volume

MASK, SALIENCY = "labels/mask/0", "0"
"""Arrays of an output of ``segment``."""


@dataclass(frozen=True)
class Target:
    """A mask to pick from; picklable, nothing open.

    Parameters
    ----------
    name
        Of the tomogram.
    mask
        What is not 0 is inside.
    saliency
        uint8, 0-255, on the same voxels; None where there is none.
    voxel_size_angstrom
        z, y, x.
    """

    name: str
    mask: Volume
    saliency: Volume | None
    voxel_size_angstrom: Triple

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for kept results to be those of this mask."""
        volumes = {"mask": self.mask} | ({"saliency": self.saliency} if self.saliency else {})
        found: dict[str, Any] = {
            name: {
                "path": volume.path,
                "array": volume.array,
                "shape": list(volume.shape),
                "dtype": volume.dtype,
                **volume.stamp(),
            }
            for name, volume in volumes.items()
        }
        if self.saliency:  # the run that made both
            found["run"] = (read_attributes(self.mask.path) or {}).get("fingerprint")
        return found


def open_target(path: str, *, array: str | None = None, voxel_size: float | None = None) -> Target:
    """Describe what is picked from.

    Parameters
    ----------
    path
        An output of ``tomoseg segment``, or a mask (MRC, OME-Zarr, Zarr).
    array
        Of a Zarr hierarchy with several; of an output of ``segment`` the mask.
    voxel_size
        In angstrom; overrides what the file says.

    Raises
    ------
    InputError
        Where it cannot be read, holds no whole numbers, or has no voxel size.
    Stopped
        Where it is an output of ``segment`` that is not complete.
    """
    source = segmented_from(path) if array is None else None
    segmented = source is not None
    if segmented:
        _require_complete(Path(path))
    mask = open_volume(path, array=MASK if segmented else array)
    saliency = open_volume(path, array=SALIENCY) if segmented else None
    if mask.dtype.startswith("float"):
        raise InputError(
            f"{path}: expected a mask of whole numbers, got {mask.dtype}.",
            "Threshold it first: what is not 0 is taken for an object.",
        )
    size, _ = resolve_voxel_size(mask, voxel_size)
    return Target(Path(source or path).stem, mask, saliency, size)


def renamed(target: Target, name: str | None) -> Target:
    """Return the target with another name for its tomogram, where one is given."""
    return dataclasses.replace(target, name=name) if name else target


def _require_complete(path: Path) -> None:
    status = read_status(path)
    if not status.complete:
        raise Stopped(
            f"{path}: expected a complete mask, found {status.done} of {status.shards} shards "
            "done.",
            f"Finish it first: {status.command}",
        )
