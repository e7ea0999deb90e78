"""From a request to everything that decides its result; nothing is written.

Describes, measures and plans; knows nothing of journals and executors.
"""

import dataclasses
import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import tomoseg
from tomoseg.blockwise.execute import Resources
from tomoseg.blockwise.grid import LARGEST_FACTOR, Grid, is_absurd, is_off
from tomoseg.blockwise.plan import Plan, fingerprint
from tomoseg.blockwise.prepared import Prepared, Request, fitting_lanes
from tomoseg.blockwise.resample import Resampling
from tomoseg.blockwise.roi import Roi, describe_roi
from tomoseg.blockwise.source import Source, describe_source, identity
from tomoseg.config import BLOCK, RefineConfig, SegmentConfig
from tomoseg.errors import InputError, RequestError
from tomoseg.geometry import Lattice
from tomoseg.io.omezarr import read_attributes, segmented_from
from tomoseg.io.volume import Triple, Volume, open_volume
from tomoseg.saliency.lanes import require_precision, resolve_device
from tomoseg.saliency.memory import PER_CLASS, SELF_TRAINING, forward_bytes, refine_bytes
from tomoseg.saliency.weights import Card, load

logger = logging.getLogger(__name__)


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
    source = _source(request, input_grid, network_grid, card)
    config = dataclasses.replace(request.config, contrast=source.contrast.contrast)
    plan = _plan(source, config, card)
    config = dataclasses.replace(config, refine=_refinement(config.refine, plan))
    lanes = fitting_lanes(plan, resources, device)
    roi = _roi(request, config, input_grid, network_grid)
    found = fingerprint(
        source=_identity(source, input_grid),
        weights_sha256=card.sha256,
        config=config,
        grid=dataclasses.asdict(network_grid) if source.resampling else None,
        device=device.partition(":")[0],
        versions=library_versions(),
    )
    if card.smoothed or card.amplitude != 1:
        found["intensities"] = {"smoothed": card.smoothed, "amplitude": card.amplitude}
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


def _source(request: Request, input_grid: Grid, network_grid: Grid, card: Card) -> Source:
    """Measure the input, and say which contrast it has."""
    volume, config = request.volume, request.config
    resampling = None
    if network_grid != input_grid:
        resampling = Resampling.between(input_grid, network_grid, "lanczos")
    source = describe_source(
        volume,
        resampling,
        config.contrast,
        config.seed,
        smoothed=card.smoothed,
        amplitude=card.amplitude,
    )
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
    plan = Plan(
        shape=source.shape,
        itemsize=np.dtype(source.volume.dtype).itemsize,
        shard=config.shard,
        halo=config.halo,
        lane_bytes=0,
        chunk=source.volume.chunk,
        resampling=source.resampling,
        core=config.core_edge,
    )
    window = plan.window_shape
    memory = [forward_bytes(card.architecture, window)]
    if config.refine.scope != "none":
        beside = 0.0
        if config.refine.rule == "teacher":
            beside = SELF_TRAINING
        elif config.refine.unify == "continuity":
            beside = PER_CLASS * config.refine.classes
        one = config.refine.scope == "block"
        refined = window if one else (BLOCK,) * 3
        windows = 1 if one else config.refine.sample_blocks
        memory.append(refine_bytes(card.architecture, refined, beside=beside, windows=windows))
    return dataclasses.replace(plan, lane_bytes=max(memory))


def _refinement(refine: RefineConfig, plan: Plan) -> RefineConfig:
    """Return what was asked for, with what it left to the tomogram's size decided."""
    if refine.scope == "none":
        return refine
    lessons = plan.lessons(refine) if refine.scope == "volume" else refine.lessons()
    return dataclasses.replace(refine, **dataclasses.asdict(lessons))


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
