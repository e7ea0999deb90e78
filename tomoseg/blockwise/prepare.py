"""From a request to everything that decides its result; nothing is written.

Describes, measures and plans; knows nothing of journals and executors.
"""

import dataclasses
import datetime
import math
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import tomoseg
from tomoseg.blockwise.execute import Resources
from tomoseg.blockwise.plan import Plan, fingerprint
from tomoseg.blockwise.shard import Job
from tomoseg.blockwise.statistics import Statistics, measure
from tomoseg.config import BLOCK, SegmentConfig
from tomoseg.errors import InputError
from tomoseg.io.omezarr import Layout
from tomoseg.io.volume import Triple, Volume
from tomoseg.saliency.lanes import resolve_device
from tomoseg.saliency.memory import forward_bytes, refine_bytes
from tomoseg.saliency.weights import Card, load


@dataclass(frozen=True)
class Request:
    """One tomogram to segment.

    Parameters
    ----------
    volume
        The input.
    output
        Folder of the OME-Zarr image to write.
    config
        What decides the result.
    resources
        Where it is computed; decides no bit.
    overwrite
        Whether another output at `output` may go, once this one is finished.
    command
        The command line, for the provenance.
    """

    volume: Volume
    output: Path
    config: SegmentConfig
    resources: Resources = field(default_factory=Resources)
    overwrite: bool = False
    command: str = ""


@dataclass(frozen=True)
class Prepared:
    """A request with everything decided that decides the result; pure values."""

    request: Request
    card: Card
    statistics: Statistics
    plan: Plan
    voxel_size_angstrom: Triple
    voxel_size_source: str
    device: str
    lanes: int
    fingerprint: dict[str, Any]

    def layout(self, path: Path) -> Layout:
        """Return the layout of the output, written at `path`."""
        return Layout(
            path=str(path),
            shape=self.plan.shape,
            voxel_size_angstrom=self.voxel_size_angstrom,
            origin_angstrom=self.request.volume.origin_angstrom,
            shard=self.plan.shard,
            version=self.request.config.ome_version,
        )

    def job(self, path: Path, run: int) -> Job:
        """Return what the workers are told."""
        return Job(
            volume=self.request.volume,
            layout=self.layout(path),
            config=self.request.config,
            plan=self.plan,
            statistics=self.statistics,
            run=run,
            lanes=self.lanes,
            device=self.device,
        )

    def attributes(self) -> dict[str, Any]:
        """Return the provenance that the output carries from its first moment."""
        request, volume, card = self.request, self.request.volume, self.card
        layout = dataclasses.asdict(self.layout(request.output))
        del layout["path"]  # an output can be moved
        return {
            "version": tomoseg.__version__,
            "complete": False,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": request.command,
            "config": request.config.to_dict(),
            "input": {"path": volume.path, "format": volume.format, "dtype": volume.dtype},
            "voxel_size_source": self.voxel_size_source,
            "weights": {"name": card.name, "sha256": card.sha256, "trained": card.trained},
            "statistics": dataclasses.asdict(self.statistics),
            "platform": f"{platform.platform()}, Python {platform.python_version()}",
            "fingerprint": self.fingerprint,
            "layout": layout,
            "mrc": volume.mrc.to_dict() if volume.mrc else None,
        }

    def describe(self) -> dict[str, Any]:
        """Return the plan in numbers, for a dry run; plain JSON values."""
        volume, plan = self.request.volume, self.plan
        return {
            "input": volume.path,
            "output": str(self.request.output),
            "shape_zyx": list(volume.shape),
            "dtype": volume.dtype,
            "voxel_size_angstrom_zyx": list(self.voxel_size_angstrom),
            "voxel_size_source": self.voxel_size_source,
            "location": self.statistics.location,
            "scale": self.statistics.scale,
            "weights": self.card.name,
            "trained": self.card.trained,
            "scope": self.request.config.refine.scope,
            "blocks": len(plan.blocks),
            "shards": len(plan.shards),
            "window_zyx": list(plan.window_shape),
            "device": self.device,
            "workers": self.request.resources.workers,
            "lanes_per_worker": self.lanes,
            "worker_bytes": plan.worker_bytes(self.lanes),
            "output_bytes_at_most": 2 * math.prod(volume.shape) * 8 // 7,
        }


def prepare(request: Request) -> Prepared:
    """Decide everything that can be decided before anything is written.

    Raises
    ------
    InputError, RequestError
        Where the request cannot be met.
    """
    volume, config, resources = request.volume, request.config, request.resources
    voxel_size, source = resolve_voxel_size(volume, config.voxel_size_angstrom)
    device = resolve_device(resources.device)
    _, card = load(config.weights)
    statistics = measure(volume, config.seed)
    window = (BLOCK + 2 * config.halo,) * 3
    memory = [forward_bytes(card.architecture, window)]
    if config.refine.scope != "none":
        classes = config.refine.classes
        one = config.refine.scope == "block"
        refined = window if one else (BLOCK,) * 3
        windows = 1 if one else config.refine.sample_blocks
        memory.append(refine_bytes(card.architecture, refined, classes=classes, windows=windows))
    itemsize = np.dtype(volume.dtype).itemsize
    plan = Plan(volume.shape, itemsize, config.shard, config.halo, max(memory), volume.chunk)
    lanes = resources.lanes(device)
    plan.check_memory(lanes=lanes, available=resources.worker_memory())
    source_identity = {
        "shape": list(volume.shape),
        "dtype": volume.dtype,
        "array": volume.array,
        "voxel_size_angstrom": list(voxel_size),
        "origin_angstrom": list(volume.origin_angstrom),
        "sample_sha256": statistics.sample_sha256,
        **volume.stamp(),
    }
    identity = fingerprint(
        source=source_identity,
        weights_sha256=card.sha256,
        config=config,
        device=device.partition(":")[0],
        versions=library_versions(),
    )
    return Prepared(request, card, statistics, plan, voxel_size, source, device, lanes, identity)


def resolve_voxel_size(volume: Volume, wanted: float | None) -> tuple[Triple, str]:
    """Return the voxel size in angstrom (z, y, x) and where it comes from.

    Raises
    ------
    InputError
        Where neither the request nor the file says one that can be believed.
    """
    if wanted is not None:
        return (wanted, wanted, wanted), "--voxel-size"
    if volume.voxel_size_angstrom is None:
        raise InputError(
            f"{volume.path}: expected a voxel size in angstrom, got none "
            f"({volume.voxel_size_note}).",
            "Give it with --voxel-size.",
        )
    return volume.voxel_size_angstrom, volume.voxel_size_note


def library_versions() -> dict[str, str]:
    """Return the versions of everything that can change a bit of the result."""
    names = ("numpy", "scikit-image", "scipy", "torch")
    return {"tomoseg": tomoseg.__version__, **{name: version(name) for name in names}}
