"""From a mask to particles: find the objects, measure them, select those that are wanted.

The scratch folder holds what shards gave until the objects are measured, and then what was
measured: a repeated command goes on, also with other limits.
"""

import functools
import json
import logging
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import tomoseg
from tomoseg.blockwise.execute import Executor
from tomoseg.config import PickConfig
from tomoseg.errors import RequestError
from tomoseg.io.omezarr import Layout, create
from tomoseg.io.picks import Picks
from tomoseg.io.storage import (
    lock,
    publish,
    remove,
    storage_errors,
    temporary_sibling,
    write_json,
)
from tomoseg.particles.objects import Finder, Objects, Progress
from tomoseg.particles.select import WHOLE_NUMBERS, Table, measure, select
from tomoseg.particles.shard import Job, build_shard, keep_arrays, write_shard
from tomoseg.particles.target import Target

logger = logging.getLogger(__name__)

MEASURED = "measured.npz"
"""File in the scratch folder with what is known of each object."""


def pick(
    target: Target,
    config: PickConfig,
    executor: Executor,
    *,
    scratch: Path,
    progress: Progress,
    labels: Path | None = None,
    overwrite: bool = False,
    memory_bytes: int | None = None,
    keep: bool = False,
) -> Picks:
    """Find the particles in a mask.

    Parameters
    ----------
    target
        Mask, and saliency where there is one.
    config
        What is a particle.
    executor
        Runs the shards.
    scratch
        Folder for what was computed; a repeated request goes on with it, also with other
        limits, name and suppression.
    progress
        Told how far it is.
    labels
        OME-Zarr to write, on the mask's grid: the number of each voxel's particle, from 1, in
        the order of the result. It appears when it is whole.
    overwrite
        Whether something at `labels` may go.
    memory_bytes
        What a worker may take; None for no limit.
    keep
        Whether `scratch` stays, until `forget` is called, for as long as the result is not
        written. It is removed at the end otherwise.

    Returns
    -------
    Picks
        Best first; columns of `tomoseg.particles.select.measure`.

    Raises
    ------
    Stopped
        Where the executor was stopped; the same request goes on.
    TomosegError
        Where it cannot be done.
    """
    job = Job(target, config, scratch)
    if target.saliency is None and (config.min_score or config.split == "saliency"):
        raise RequestError(
            f"{target.mask.path}: expected saliency beside the mask, got a mask alone.",
            "Pick from an output of 'tomoseg segment', or without --min-score and --split "
            "saliency.",
        )
    if memory_bytes is not None:
        job.check_memory(memory_bytes)
    with lock(scratch, scratch):
        _claim_scratch(job)
        finder = Finder(job, executor, progress)
        if labels is None:
            table = _measured(job, finder)
            rows = select(table, config, target.voxel_size_angstrom)
        else:
            objects = finder.objects()
            held, table = _measure(job, objects)
            rows = select(table, config, target.voxel_size_angstrom)
            _write_labels(job, finder, objects, held[rows], labels, overwrite=overwrite)
    if not keep:
        forget(scratch)
    chosen = {name: values[rows] for name, values in table.items()}
    centres = np.stack([chosen.pop(axis) for axis in "zyx"], 1)
    columns = {n: v.astype(np.int64) if n in WHOLE_NUMBERS else v for n, v in chosen.items()}
    origin, size = target.mask.origin_angstrom, target.voxel_size_angstrom
    return Picks(target.name, target.mask.shape, size, origin, centres, columns)


def forget(scratch: Path) -> None:
    """Remove what `pick` kept.

    Raises
    ------
    StorageError
        Where the file system refuses.
    """
    with storage_errors("Removing", scratch):
        shutil.rmtree(scratch)


def _measured(job: Job, finder: Finder) -> Table:
    """Return what is known of each object, kept from an earlier run or found now.

    A row for each object then takes the place of what shards gave.
    """
    path = job.folder / MEASURED
    if not path.exists():
        _, table = _measure(job, finder.objects())
        keep_arrays(path, **table)
    with storage_errors("Reading", path):
        for file in job.folder.glob(f"*-*{path.suffix}"):
            file.unlink()
        with np.load(path) as found:
            return dict(found)


def _measure(job: Job, objects: Objects) -> tuple[NDArray[np.int64], Table]:
    """Return the objects that have voxels, and what is known of each."""
    held = np.flatnonzero(objects.sums.voxels)  # a deeper peak nearby may take every voxel
    shape, size = job.target.mask.shape, job.target.voxel_size_angstrom
    scored = job.target.saliency is not None
    return held, measure(objects.sums.of(held), shape, size, scored=scored)


def _claim_scratch(job: Job) -> None:
    """Keep what an earlier run of the same request left, remove what another one did."""
    config = job.config
    wanted = {
        "target": job.target.identity(),
        "voxel_size_angstrom": list(job.target.voxel_size_angstrom),
        "config": [
            *(config.connectivity, job.splitting, config.diameter_angstrom, config.shard),
            config.whole_below,
        ],
        "versions": {
            "tomoseg": tomoseg.__version__,
            **{name: version(name) for name in ("numpy", "scipy", "connected-components-3d")},
        },
    }
    path = job.folder / "request.json"
    text = json.dumps(wanted, indent=2)
    with storage_errors("Writing", job.folder):
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return
        left = [file for file in job.folder.iterdir() if file.name != "lock"]
        if left:
            logger.info("%s is of another request: begun again.", job.folder)
        for file in left:
            file.unlink()
        write_json(path, wanted)


def _write_labels(
    job: Job,
    finder: Finder,
    objects: Objects,
    rows: NDArray[np.int64],
    path: Path,
    *,
    overwrite: bool,
) -> None:
    """Write the number of each voxel's particle, and all levels."""
    numbers = np.zeros(len(objects.sums) + 1, np.int64)
    numbers[rows + 1] = np.arange(1, len(rows) + 1)
    mask = job.target.mask
    layout = Layout(
        path=str(temporary_sibling(path)),
        shape=mask.shape,
        voxel_size_angstrom=job.target.voxel_size_angstrom,
        origin_angstrom=mask.origin_angstrom,
        name="particles",
        dtype="int32",
        label=False,
        shard=job.config.shard,
        categorical=True,
    )
    kept = {"version": tomoseg.__version__, "mrc": mask.mrc.to_dict() if mask.mrc else None}
    try:
        create(layout, kept)
        write = functools.partial(write_shard, layout)
        finder.map("labels", write, list(finder.owners(objects, numbers)), len(job.shards))
        for level in range(1, layout.levels):
            count = len(layout.shards(level))
            build = functools.partial(build_shard, layout, level)
            finder.map(f"labels level {level}", build, range(count), count)
        publish(Path(layout.path), path, overwrite=overwrite)
    finally:
        remove(Path(layout.path))
