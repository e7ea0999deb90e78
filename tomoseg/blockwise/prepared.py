"""A tomogram's request, and the same with everything decided: plain values.

What each stage and worker is told, and what the output says of itself, follow from here.
"""

import dataclasses
import datetime
import logging
import math
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomoseg
from tomoseg.blockwise.execute import Resources
from tomoseg.blockwise.grid import Grid
from tomoseg.blockwise.journal import SCRATCH, model_folder
from tomoseg.blockwise.place import Placement
from tomoseg.blockwise.plan import Plan
from tomoseg.blockwise.resample import Resampling
from tomoseg.blockwise.roi import Roi
from tomoseg.blockwise.shard import Job
from tomoseg.blockwise.source import Source
from tomoseg.blockwise.statistics import Statistics
from tomoseg.config import BLOCK, SegmentConfig
from tomoseg.io.omezarr import Layout
from tomoseg.io.volume import Volume
from tomoseg.saliency.weights import Card

logger = logging.getLogger(__name__)


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
    roi
        Mask on the input's voxels that the result is held to; None for none.
    """

    volume: Volume
    output: Path
    config: SegmentConfig
    resources: Resources = field(default_factory=Resources)
    overwrite: bool = False
    command: str = ""
    roi: Volume | None = None


@dataclass(frozen=True)
class Prepared:
    """A request with everything decided that decides the result; pure values.

    Parameters
    ----------
    request
        What was asked for.
    config
        The request's, with what it left to the data decided.
    card
        Of the weights.
    source
        The input as the network sees it.
    plan
        Of the work on the network's grid.
    input_grid, network_grid
        The input's voxels, and those that the network works on; equal where nothing is
        resampled.
    voxel_size_source
        Where the input's voxel size comes from.
    device, lanes
        Where the network runs, and windows at once in a worker. Of remote workers it is what
        was asked for, until `on` says what they have.
    fingerprint
        What must be equal for a resumed run to give the same bits.
    roi
        The region, where one is asked for.
    """

    request: Request
    config: SegmentConfig
    card: Card
    source: Source
    plan: Plan
    input_grid: Grid
    network_grid: Grid
    voxel_size_source: str
    device: str
    lanes: int
    fingerprint: dict[str, Any]
    roi: Roi | None = None

    def on(self, device: str) -> "Prepared":
        """Return the same on another device.

        Raises
        ------
        RequestError
            Where a worker is too small for it.
        """
        resources = self.request.resources
        lanes = fitting_lanes(self.plan, resources, device)
        return dataclasses.replace(
            self,
            device=device,
            lanes=lanes,
            fingerprint=self.fingerprint | {"device": device.partition(":")[0]},
        )

    @property
    def statistics(self) -> Statistics:
        """What normalises a window."""
        return self.source.statistics

    @property
    def output_grid(self) -> Grid:
        """The voxels of the output."""
        return self.input_grid if self.config.output_grid == "input" else self.network_grid

    def parts_layout(self, path: Path) -> Layout:
        """Return the layout of what the network says, for an output written at `path`.

        An image of its own in the output's scratch folder, until it is placed.
        """
        return self.plan.parts.layout(str(model_folder(path)))

    def layout(self, path: Path) -> Layout:
        """Return the layout of the output, written at `path`."""
        grid = self.output_grid
        return Layout(
            path=str(path),
            shape=grid.shape,
            voxel_size_angstrom=grid.voxel_size_angstrom,
            origin_angstrom=grid.origin_angstrom,
            shard=self.plan.shard,
            version=self.config.ome_version,
        )

    def job(self, path: Path, run: int) -> Job:
        """Return what the workers are told that run the network."""
        return Job(
            source=self.source,
            layout=self.parts_layout(path),
            refined=path / SCRATCH / "refined.safetensors",
            config=self.config,
            plan=self.plan,
            run=run,
            lanes=self.lanes,
            device=self.device,
        )

    def placement(self, path: Path, run: int) -> Placement:
        """Return what the workers are told that blend the saliency and place it."""
        back = None
        if self.output_grid != self.network_grid:
            back = Resampling.between(self.network_grid, self.output_grid, "linear")
        return Placement(
            parts=self.plan.parts,
            model=self.parts_layout(path),
            layout=self.layout(path),
            back=back,
            threshold=self.config.threshold,
            run=run,
            lanes=self.lanes,
            roi=self.roi.volume if self.roi else None,
        )

    def attributes(self) -> dict[str, Any]:
        """Return the provenance that the output carries from its first moment."""
        request, volume, card = self.request, self.request.volume, self.card
        on_input = self.output_grid == self.input_grid
        return {
            "version": tomoseg.__version__,
            "complete": False,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": request.command,
            "config": self.config.to_dict(),
            "input": {"path": volume.path, "format": volume.format, "dtype": volume.dtype},
            "voxel_size_source": self.voxel_size_source,
            "weights": {"name": card.name, "sha256": card.sha256, "trained": card.trained},
            "statistics": dataclasses.asdict(self.statistics),
            "contrast": dataclasses.asdict(self.source.contrast),
            "resampling": self._resampling(),
            "platform": f"{platform.platform()}, Python {platform.python_version()}",
            "fingerprint": self.fingerprint,
            "layout": layout_values(self.layout(request.output)),
            "mrc": volume.mrc.to_dict() if volume.mrc and on_input else None,
            **self._roi_attributes(),
        }

    def _roi_attributes(self) -> dict[str, Any]:
        """Return what says where the region came from; nothing where there is none."""
        if self.roi is None:
            return {}
        region = self.roi.volume
        fraction = round(self.roi.fraction, 6)
        return {"roi": {"path": region.path, "array": region.array, "fraction": fraction}}

    def _resampling(self) -> dict[str, Any] | None:
        """Return how the network's grid came about; plain JSON values."""
        if self.source.resampling is None:
            return None
        return {
            "input": dataclasses.asdict(self.input_grid),
            "network": dataclasses.asdict(self.network_grid),
            "kernel": self.source.resampling.kernel,
            "input_statistics": dataclasses.asdict(self.source.raw),
        }

    def describe(self) -> dict[str, Any]:
        """Return the plan in numbers, for a dry run; plain JSON values."""
        volume, plan, refine = self.request.volume, self.plan, self.config.refine
        output = self.output_grid
        lessons = {"iterations": refine.iterations, "windows_per_step": refine.windows_per_step}
        return {
            "input": volume.path,
            "output": str(self.request.output),
            "shape_zyx": list(volume.shape),
            "dtype": volume.dtype,
            "voxel_size_angstrom_zyx": list(self.input_grid.voxel_size_angstrom),
            "voxel_size_source": self.voxel_size_source,
            "model_voxel_size_angstrom": self.card.voxel_size_angstrom,
            "resampled": self.source.resampling is not None,
            "network_shape_zyx": list(self.network_grid.shape),
            "network_voxel_size_angstrom_zyx": list(self.network_grid.voxel_size_angstrom),
            "output_shape_zyx": list(output.shape),
            "output_voxel_size_angstrom_zyx": list(output.voxel_size_angstrom),
            "contrast": str(self.source.contrast),
            "location": self.statistics.location,
            "scale": self.statistics.scale,
            "weights": self.card.name,
            "trained": self.card.trained,
            "scope": refine.scope,
            **(lessons if refine.scope != "none" else {}),
            "blocks": len(plan.blocks),
            "shards": len(self.layout(self.request.output).shards(0)),
            "network_shards": len(plan.shards),
            **({"roi_shards": len(self.roi.shards)} if self.roi else {}),
            "window_zyx": list(plan.window_shape),
            "device": self.device,
            "workers": self.request.resources.workers,
            "lanes_per_worker": self.lanes,
            "worker_bytes": plan.worker_bytes(self.lanes),
            "output_bytes_at_most": 2 * math.prod(output.shape) * 8 // 7,
            "scratch_bytes_at_most": 2 * math.prod(plan.parts.stored_shape),
        }


def fitting_lanes(plan: Plan, resources: Resources, device: str) -> int:
    """Return how many windows a worker computes at once: those asked for, or what fits.

    Raises
    ------
    RequestError
        Where a worker is too small for them, or for one.
    """
    lanes, available = resources.lanes(device), resources.worker_memory()
    fitting = lanes if resources.threads else plan.lanes_within(lanes, available)
    plan.check_memory(lanes=fitting, available=available)
    if fitting < lanes:
        logger.info(
            "%d of %d windows at once, for want of memory; --core %d needs less.",
            *(fitting, lanes, BLOCK),
        )
    return fitting


def layout_values(layout: Layout) -> dict[str, Any]:
    """Return a layout as plain JSON values, without the path: an output can be moved."""
    values = dataclasses.asdict(layout)
    del values["path"]
    return values
