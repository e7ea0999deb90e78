"""From a request to everything that decides its result; nothing is written.

Describes, measures and plans; knows nothing of journals and executors.
"""

import dataclasses
import datetime
import logging
import math
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import tomoseg
from tomoseg.blockwise.execute import Resources
from tomoseg.blockwise.grid import LARGEST_FACTOR, Grid, is_absurd, is_off
from tomoseg.blockwise.journal import SCRATCH, model_folder
from tomoseg.blockwise.place import Placement
from tomoseg.blockwise.plan import Plan, fingerprint
from tomoseg.blockwise.resample import Resampling
from tomoseg.blockwise.roi import Roi, describe_roi
from tomoseg.blockwise.shard import Job
from tomoseg.blockwise.source import Source, describe_source, identity
from tomoseg.blockwise.statistics import Statistics
from tomoseg.config import BLOCK, SegmentConfig
from tomoseg.errors import InputError, RequestError
from tomoseg.geometry import Lattice
from tomoseg.io.omezarr import Layout, read_attributes, segmented_from
from tomoseg.io.volume import Triple, Volume, open_volume
from tomoseg.saliency.lanes import require_precision, resolve_device
from tomoseg.saliency.memory import SELF_TRAINING_CLASSES, forward_bytes, refine_bytes
from tomoseg.saliency.weights import Card, load

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
        lanes = resources.lanes(device)
        self.plan.check_memory(lanes=lanes, available=resources.worker_memory())
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
        volume, plan = self.request.volume, self.plan
        output = self.output_grid
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
            "scope": self.config.refine.scope,
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


def layout_values(layout: Layout) -> dict[str, Any]:
    """Return a layout as plain JSON values, without the path: an output can be moved."""
    values = dataclasses.asdict(layout)
    del values["path"]
    return values


def prepare(request: Request) -> Prepared:
    """Decide everything that can be decided before anything is written.

    Raises
    ------
    InputError, RequestError
        Where the request cannot be met.
    """
    volume, resources = request.volume, request.resources
    _require_tomogram(volume)
    voxel_size, said_by = resolve_voxel_size(volume, request.config.voxel_size_angstrom)
    # of remote workers nothing is known yet: a login node may have no GPU
    device = resources.device if resources.remote else resolve_device(resources.device)
    if not resources.remote:
        require_precision(request.config.precision, device)
    _, card = load(request.config.weights)
    if card.architecture.dim != len(volume.shape):
        raise RequestError(
            f"weights {card.name}: expected a network for volumes, got one for "
            f"{card.architecture.dim}-D images.",
            "It serves slices, from Python (docs/weights.md); for volumes take vnet3d.",
        )
    input_grid = Grid(volume.shape, voxel_size, volume.origin_angstrom)
    network_grid = choose_grid(request, input_grid, card, said_by)
    source = _source(request, input_grid, network_grid)
    config = dataclasses.replace(request.config, contrast=source.contrast.contrast)
    plan = _plan(source, config, card)
    lanes = resources.lanes(device)
    plan.check_memory(lanes=lanes, available=resources.worker_memory())
    roi = _roi(request, config, input_grid, network_grid)
    found = fingerprint(
        source=_identity(source, input_grid),
        weights_sha256=card.sha256,
        config=config,
        grid=dataclasses.asdict(network_grid) if source.resampling else None,
        device=device.partition(":")[0],
        versions=library_versions(),
    )
    if roi:
        found["roi"] = roi.sha256
    return Prepared(
        request=request,
        config=config,
        card=card,
        source=source,
        plan=plan,
        input_grid=input_grid,
        network_grid=network_grid,
        voxel_size_source=said_by,
        device=device,
        lanes=lanes,
        fingerprint=found,
        roi=roi,
    )


def _require_tomogram(volume: Volume) -> None:
    """Refuse to segment what tomoseg says of a tomogram: its saliency looks like one."""
    path = Path(volume.path)
    for folder in (path, *(above for above in path.parents if above.suffix == ".zarr")):
        source = segmented_from(folder)
        if source is not None:
            raise InputError(
                f"{path}: expected a tomogram, found what tomoseg made of {source}.",
                "Give the tomogram; 'tomoseg pick' and 'tomoseg report' take the output.",
            )


def _roi(request: Request, config: SegmentConfig, grid: Grid, network: Grid) -> Roi | None:
    """Return the region that was asked for.

    Raises
    ------
    RequestError
        Where the output would lie on other voxels than the region.
    """
    if request.roi is None:
        return None
    if config.output_grid == "model" and network != grid:
        raise RequestError(
            "--roi: expected the output on the input's voxels, got --output-grid model.",
            "Leave --output-grid out.",
        )
    shards = Lattice(request.volume.shape, config.shard)
    return describe_roi(request.roi, request.volume, shards)


def prepare_again(output: Path, resources: Resources) -> Prepared:
    """Prepare the request that an output was begun with.

    Parameters
    ----------
    output
        Of an earlier run; its attributes say what was asked for.
    resources
        Where what is left is computed now, which needs no network: the device stays the one
        that the output was begun on, and need not be here.

    Raises
    ------
    InputError
        Where `output` is none, or its input is gone.
    """
    attributes = (output.is_dir() and read_attributes(output)) or {}
    if not {"fingerprint", "input", "config"} <= attributes.keys():
        raise InputError(
            f"{output}: expected an output of tomoseg segment, found none.",
            "Give the path that was given as --out.",
        )
    begun = attributes["fingerprint"]
    array = begun["input"]["array"] or None
    roi = attributes.get("roi")
    prepared = prepare(
        Request(
            volume=open_volume(attributes["input"]["path"], array=array),
            output=output,
            config=SegmentConfig.from_dict(attributes["config"]),
            resources=resources,
            command=attributes["command"],
            roi=open_volume(roi["path"], array=roi["array"] or None) if roi else None,
        )
    )
    return prepared.on(begun["device"])


def choose_grid(request: Request, grid: Grid, card: Card, said_by: str) -> Grid:
    """Return the grid that the network works on: the input's, or one of its voxel size.

    Raises
    ------
    InputError
        Where the voxel sizes are so far apart that one of them is a mistake.
    """
    wanted = card.voxel_size_angstrom
    if wanted is None or not is_off(grid.factors(wanted)):
        return grid
    sizes = " x ".join(f"{size:.4g}" for size in grid.voxel_size_angstrom)
    found = f"{request.volume.path}: voxels of {sizes} A ({said_by}; z, y, x)"
    if request.config.resample == "never":
        logger.warning(
            "%s, and %s was trained at %.4g A; not resampled, as asked.", found, card.name, wanted
        )
        return grid
    if is_absurd(grid.factors(wanted)):
        raise InputError(
            f"{found}; expected at most {LARGEST_FACTOR:.0f} times more or less than the "
            f"{wanted:.4g} A at which {card.name} was trained.",
            "The voxel size is probably wrong: give the right one with --voxel-size, or "
            "--resample never.",
        )
    network = grid.resized(wanted)
    shape = " x ".join(map(str, network.shape))
    logger.info("%s are resampled to %.4g A: %s voxels.", found, wanted, shape)
    return network


def _source(request: Request, input_grid: Grid, network_grid: Grid) -> Source:
    """Measure the input, and say which contrast it has."""
    volume, config = request.volume, request.config
    resampling = None
    if network_grid != input_grid:
        resampling = Resampling.between(input_grid, network_grid, "lanczos")
    source = describe_source(volume, resampling, config.contrast, config.seed)
    if source.contrast.automatic:
        logger.info("%s: contrast: %s.", volume.path, source.contrast)
    if source.contrast.weak:
        logger.warning(
            "%s: its intensities do not show its contrast; dark is the field's custom. "
            "Give --contrast if you know better.",
            volume.path,
        )
    return source


def _plan(source: Source, config: SegmentConfig, card: Card) -> Plan:
    window = (BLOCK + 2 * config.halo,) * 3
    memory = [forward_bytes(card.architecture, window)]
    if config.refine.scope != "none":
        learns = config.refine.rule == "teacher"
        classes = SELF_TRAINING_CLASSES if learns else config.refine.classes
        one = config.refine.scope == "block"
        refined = window if one else (BLOCK,) * 3
        windows = 1 if one else config.refine.sample_blocks
        memory.append(refine_bytes(card.architecture, refined, classes=classes, windows=windows))
    return Plan(
        shape=source.shape,
        itemsize=np.dtype(source.volume.dtype).itemsize,
        shard=config.shard,
        halo=config.halo,
        lane_bytes=max(memory),
        chunk=source.volume.chunk,
        resampling=source.resampling,
    )


def _identity(source: Source, grid: Grid) -> dict[str, Any]:
    return identity(source.volume, source.raw.sample_sha256) | {
        "voxel_size_angstrom": list(grid.voxel_size_angstrom),
        "origin_angstrom": list(grid.origin_angstrom),
    }


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
