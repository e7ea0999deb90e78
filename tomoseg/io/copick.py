"""A copick project on the file system: where its files lie, and the file that describes it.

Written as copick 1 reads it, without copick, which needs an older Zarr.
"""

import json
import logging
from pathlib import Path
from typing import Any

from tomoseg.errors import InputError
from tomoseg.io.particle_files import Destination, Export, write_whole
from tomoseg.io.storage import storage_errors, write_json

logger = logging.getLogger(__name__)

CONFIG = "copick_config.json"


def picks_destination(project: Path, run: str, export: Export) -> Destination:
    """Return where the picks of a run lie."""
    name = f"{export.user}_{export.session}_{export.object_name}.json"
    return Destination("copick", project / "ExperimentRuns" / run / "Picks" / name)


def segmentation_path(project: Path, run: str, spacing: float, export: Export) -> Path:
    """Return where the mask of a run lies."""
    name = f"{spacing:.3f}_{export.user}_{export.session}_{export.object_name}.zarr"
    return project / "ExperimentRuns" / run / "Segmentations" / name


def ensure_project(project: Path, export: Export, *, is_particle: bool) -> None:
    """Describe the project where it is not, and see that it knows the object.

    Raises
    ------
    InputError
        Where its description cannot be read.
    StorageError
        Where the file system refuses.
    """
    path = project / CONFIG
    entry = {"name": export.object_name, "is_particle": is_particle, "label": 1}
    if not path.exists():
        content = {
            "config_type": "filesystem",
            "name": project.name,
            "description": "Written by tomoseg.",
            "version": "1.0.0",
            "pickable_objects": [entry],
            "overlay_root": f"local://{project.absolute()}",
            "overlay_fs_args": {"auto_mkdir": True},
        }
        write_whole(path, json.dumps(content, indent=2), overwrite=False)
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        objects: list[dict[str, Any]] = content["pickable_objects"]
        names = [item["name"] for item in objects]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected a description of a copick project, got {error}.") from (
            error
        )
    if export.object_name in names:
        return
    entry["label"] = 1 + max((int(item.get("label") or 0) for item in objects), default=0)
    with storage_errors("Writing", path):
        write_json(path, {**content, "pickable_objects": [*objects, entry]})
    logger.info("%s: %s is added to its objects.", path, export.object_name)
