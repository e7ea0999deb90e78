"""Conversion between MRC and OME-Zarr, block by block, header fields kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tomoseg.config import OmeVersion


def convert(
    source: str | Path,
    destination: str | Path,
    *,
    array: str | None = None,
    version: OmeVersion = "0.5",
    shard: int = 256,
    voxel_size_angstrom: float | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Convert MRC to OME-Zarr, or Zarr to MRC, by the destination's suffix."""
    raise NotImplementedError
