"""From a mask to particles, shard by shard: label, join, split, measure, select.

Each step is a map of a function over shards, wherever the executor runs them; what a
shard gave is kept in a scratch folder, so that a repeated command goes on. Memory holds
one shard a task, and a row for each object.
"""

import functools
import itertools
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tomoseg
from tomoseg.blockwise.execute import Executor, Lost
from tomoseg.blockwise.plan import IN_FLIGHT
from tomoseg.config import BLOCK, PickConfig, Split
from tomoseg.errors import RequestError, Stopped
from tomoseg.geometry import Box, Lattice, whole
from tomoseg.io.omezarr import ArrayStore, Layout, create
from tomoseg.io.picks import Picks
from tomoseg.io.pyramid import build_level_shard
from tomoseg.io.storage import (
    fsync,
    lock,
    publish,
    remove,
    storage_errors,
    temporary_sibling,
    write_json,
)
from tomoseg.io.volume import Volume
from tomoseg.particles.components import (
    Integers,
    Sums,
    edges,
    empty_sums,
    extended,
    join,
    joined,
    label,
    sum_voxels,
)
from tomoseg.particles.select import WHOLE_NUMBERS, measure, select, suppress
from tomoseg.particles.split import TILE, Peaks, find_peaks, halo_voxels, nearest_peak
from tomoseg.particles.target import Target

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]

BASE_BYTES = 300 * 2**20
"""A worker before its first shard: interpreter, numpy, scipy, Zarr."""

VOXEL_BYTES = 16
"""Of a shard and its halo: mask, saliency, labels, and what cc3d and Zarr hold meanwhile."""

FIELD_BYTES = 40
"""Of a tile and its halo, while its distances are computed."""

PEAKS_APART = 0.8
"""Least distance between two peaks of one object, in diameters: particles are no balls, and
masks draw their centres together."""


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs to pick in any shard; picklable.

    Parameters
    ----------
    target, config
        What decides the result.
    folder
        Where shards' results are kept.
    """

    target: Target
    config: PickConfig
    folder: Path

    @property
    def shards(self) -> Lattice:
        """The shards: one task each."""
        return Lattice(self.target.mask.shape, self.config.shard)

    @property
    def diameter_voxels(self) -> float:
        """The particles' diameter in voxels; 0 where none is given."""
        edge: float = np.cbrt(np.prod(self.target.voxel_size_angstrom))
        return (self.config.diameter_angstrom or 0.0) / edge

    @property
    def splitting(self) -> Split:
        """How touching particles are told apart."""
        return self.config.splitting(scored=self.target.saliency is not None)

    @property
    def halo(self) -> int:
        """Voxels around a shard that splitting looks at."""
        split = self.splitting
        return halo_voxels(split, self.diameter_voxels) if split != "none" else 1

    def worker_bytes(self) -> int:
        """Return the peak bytes of a worker, besides its rows for objects."""
        largest = self.shards.cell(0)
        tile = Box(largest.start, tuple(min(TILE, n) for n in largest.shape))
        volume = whole(self.target.mask.shape)
        seen = [box.grow(self.halo).intersect(volume).size for box in (largest, tile)]
        field = FIELD_BYTES * seen[1] if self.splitting != "none" else 0
        return BASE_BYTES + IN_FLIGHT * (VOXEL_BYTES * seen[0] + field)

    def check_memory(self, available: int) -> None:
        """Refuse a worker that is too small.

        Raises
        ------
        RequestError
            Naming the need, what there is, and the flags that help.
        """
        needed = self.worker_bytes()
        if needed > available:
            raise RequestError(
                f"a worker needs {needed / 2**30:.1f} GiB for shards of {self.config.shard}, and "
                f"may take {available / 2**30:.1f} GiB.",
                f"Try --shard {max(BLOCK, self.config.shard // 2 // BLOCK * BLOCK)} or --workers "
                "1, or allow more with --memory.",
            )

    def kept(self, stage: str, number: int) -> Path:
        """Return the file that keeps what a stage gave for a shard."""
        return self.folder / f"{stage}-{number}.npz"


@dataclass(frozen=True)
class Owners:
    """Whom the voxels of one shard belong to.

    Parameters
    ----------
    shard
        Its number.
    whole
        For each of its labels: the object that it is part of, from 1; 0 for none, -k where
        it is part of component k, which is split.
    peaks, parents, objects
        Peaks near the shard, in voxels of the volume; the component of each, from 1, and the
        object that it stands for, from 1, or 0.
    """

    shard: int
    whole: Integers
    peaks: Peaks
    parents: Integers
    objects: Integers


@dataclass(frozen=True)
class Objects:
    """All objects in a mask, before any are selected.

    Parameters
    ----------
    sums
        Of each object.
    counts
        Labels of each shard.
    component
        Component of each label of each shard, one shard after the other.
    whole
        Object, from 1, of each component that is not split, else 0.
    peaks, parents
        Peaks of components that are split, and the component of each; they are the first
        objects, in this order.
    """

    sums: Sums
    counts: list[int]
    component: Integers
    whole: Integers
    peaks: Peaks
    parents: Integers


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
        Folder for results of shards; a repeated request goes on with them. It is removed
        at the end.
    progress
        Told how far it is.
    labels
        OME-Zarr to write, on the mask's grid: the number of each voxel's particle, from 1, in
        the order of the result. It appears when it is whole.
    overwrite
        Whether something at `labels` may go.
    memory_bytes
        What a worker may take; None for no limit.

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
        run = _Run(job, executor, progress)
        objects = run.objects()
        size = target.voxel_size_angstrom
        table = measure(objects.sums, target.mask.shape, size, scored=target.saliency is not None)
        rows = select(table, config, size)
        if labels is not None:
            run.write_labels(objects, rows, labels, overwrite=overwrite)
    _remove_scratch(scratch)
    chosen = {name: values[rows] for name, values in table.items()}
    centres = np.stack([chosen.pop(axis) for axis in "zyx"], 1)
    columns = {n: v.astype(np.int64) if n in WHOLE_NUMBERS else v for n, v in chosen.items()}
    origin = target.mask.origin_angstrom
    return Picks(target.name, target.mask.shape, size, origin, centres, columns)


def _claim_scratch(job: Job) -> None:
    """Keep what an earlier run of the same request left, remove what another one did."""
    config = job.config
    wanted = {
        "target": job.target.identity(),
        "config": [config.connectivity, job.splitting, config.diameter_angstrom, config.shard],
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


def _remove_scratch(folder: Path) -> None:
    with storage_errors("Removing", folder):
        shutil.rmtree(folder)


class _Run:
    """The steps of one run, in order."""

    def __init__(self, job: Job, executor: Executor, progress: Progress) -> None:
        self._job = job
        self._executor = executor
        self._progress = progress

    def objects(self) -> Objects:
        """Label and join all shards, and split what is to be split."""
        shards = self._job.shards
        missing = [n for n in range(len(shards)) if not self._job.kept("label", n).exists()]
        self._map("label", label_shard, missing, len(shards))
        sums, counts, candidates = self._labelled()
        component, count = join(
            counts,
            functools.partial(self._edge, "low"),
            functools.lru_cache(64)(functools.partial(self._edge, "high")),
            self._lower_neighbours,
        )
        roots = sums.by(component, count)
        peaks, parents = _best_peaks(self._job, candidates, component, np.cumsum([0, *counts]))
        alone = np.ones(count, bool)
        alone[parents] = False
        # labels that a shard has seen in its neighbours alone add no voxel
        single = np.flatnonzero(alone & (roots.voxels > 0))
        place = np.zeros(count, np.int64)
        place[single] = len(parents) + 1 + np.arange(len(single))
        found = Objects(roots, counts, component, place, peaks, parents)
        parts = self._split(found) if len(parents) else empty_sums(0)
        every = joined([parts, roots.of(single)])
        return Objects(every, counts, component, place, peaks, parents)

    def write_labels(
        self, objects: Objects, rows: NDArray[np.int64], path: Path, *, overwrite: bool
    ) -> None:
        """Write the number of each voxel's particle, and all levels."""
        numbers = np.zeros(len(objects.sums) + 1, np.int64)
        numbers[rows + 1] = np.arange(1, len(rows) + 1)
        mask = self._job.target.mask
        layout = Layout(
            path=str(temporary_sibling(path)),
            shape=mask.shape,
            voxel_size_angstrom=self._job.target.voxel_size_angstrom,
            origin_angstrom=mask.origin_angstrom,
            name="particles",
            dtype="int32",
            label=False,
            shard=self._job.config.shard,
            categorical=True,
        )
        kept = {"version": tomoseg.__version__, "mrc": mask.mrc.to_dict() if mask.mrc else None}
        try:
            create(layout, kept)
            write = functools.partial(write_shard, layout)
            self._map("labels", write, list(self._owners(objects, numbers)), len(self._job.shards))
            for level in range(1, layout.levels):
                count = len(layout.shards(level))
                build = functools.partial(build_shard, layout, level)
                self._map(f"labels level {level}", build, range(count), count)
            publish(Path(layout.path), path, overwrite=overwrite)
        finally:
            remove(Path(layout.path))

    def _split(self, objects: Objects) -> Sums:
        """Return the sums of each peak's voxels; a peak without voxels has none."""
        numbers = np.arange(len(objects.parents) + 1)
        numbers = np.concatenate([numbers, np.zeros(int(objects.whole.max(initial=0)))])
        tasks = [o for o in self._owners(objects, numbers.astype(np.int64)) if len(o.peaks.places)]
        missing = [task for task in tasks if not self._job.kept("split", task.shard).exists()]
        self._map("split", split_shard, missing, len(tasks))
        total, peaks = [], []
        for task in tasks:
            with np.load(self._job.kept("split", task.shard)) as file:
                total.append(_sums_from(file))
                peaks.append(file["object"])
        group = np.concatenate([np.zeros(0, np.int64), *peaks])
        return joined(total).by(group, len(objects.parents))

    def _owners(self, objects: Objects, numbers: Integers) -> Iterator[Owners]:
        """Yield whom the voxels of each shard belong to, with the numbers that objects get."""
        reach = int(np.ceil(self._job.diameter_voxels))
        shards = self._job.shards
        split = np.zeros(len(objects.whole), bool)
        split[objects.parents] = True
        offsets = np.cumsum([0, *objects.counts])
        for number, shard in enumerate(shards):
            component = objects.component[offsets[number] : offsets[number + 1]]
            owner = np.where(split[component], -component - 1, numbers[objects.whole[component]])
            near = _within(objects.peaks.places, shard.grow(reach))
            near = near[np.isin(objects.parents[near], component)]
            yield Owners(
                number,
                owner,
                Peaks(objects.peaks.places[near], objects.peaks.heights[near]),
                objects.parents[near] + 1,
                numbers[near + 1],
            )

    def _labelled(self) -> tuple[Sums, list[int], tuple[Integers, NDArray[np.float64], Integers]]:
        """Return sums and number of the labels of each shard, and all peaks: place, height,
        label."""
        sums: list[Sums] = []
        peaks: list[tuple[Integers, NDArray[np.float64], Integers]] = []
        offset = 0
        for number in range(len(self._job.shards)):
            with np.load(self._job.kept("label", number)) as file:
                sums.append(_sums_from(file))
                peaks.append((file["places"], file["heights"], file["labels"] + offset))
                offset += len(sums[-1])
        places, heights, names = zip(*peaks, strict=True)
        every = np.concatenate(places), np.concatenate(heights), np.concatenate(names)
        return joined(sums), [len(s) for s in sums], every

    def _edge(self, side: str, number: int) -> tuple[Integers, Integers]:
        with np.load(self._job.kept("label", number)) as file:
            return file[f"{side}_place"], file[f"{side}_label"]

    def _lower_neighbours(self, number: int) -> list[int]:
        shards = self._job.shards
        start = shards.cell(number).start
        found = []
        for step in itertools.product((0, 1), repeat=3):
            at = tuple(a - s * shards.edge for a, s in zip(start, step, strict=True))
            if any(step) and min(at) >= 0:
                found.append(shards.number_at(at))
        return found

    def _map(
        self, stage: str, function: Callable[..., Any], tasks: Sequence[Any], total: int
    ) -> None:
        """Run a task for each of those that are missing of `total`."""
        done = total - len(tasks)
        self._progress(stage, done, total)
        for result in self._executor.map(functools.partial(function, self._job), tasks):
            if isinstance(result, Lost):
                raise Stopped(f"{stage}: {result.error}.", "The same command goes on.")
            done += 1
            self._progress(stage, done, total)
        if done < total:
            raise Stopped(
                f"{self._job.target.name}: stopped, as asked; what is done is kept.",
                "The same command goes on.",
            )


def _best_peaks(
    job: Job,
    peaks: tuple[Integers, NDArray[np.float64], Integers],
    component: Integers,
    offsets: Integers,
) -> tuple[Peaks, Integers]:
    """Return the peaks of components that have several, highest first, and their components."""
    places, heights, labels = peaks
    parents = component[labels]
    order = np.lexsort([*places.T[::-1], -heights])
    places, heights, parents = places[order], heights[order], parents[order]
    apart = PEAKS_APART * job.diameter_voxels
    alive = suppress(places.astype(np.float64), apart, parents)
    several = np.bincount(parents[alive], minlength=1) > 1
    kept = np.flatnonzero(alive)
    kept = kept[several[parents[kept]]]
    return Peaks(places[kept], heights[kept]), parents[kept]


def _within(places: Integers, box: Box) -> NDArray[np.int64]:
    """Return the rows of places in a box."""
    inside = (places >= np.array(box.start)) & (places < np.array(box.stop))
    return np.flatnonzero(inside.all(1))


def label_shard(job: Job, number: int) -> int:
    """Label one shard and keep its sums, its edges and its peaks: a task."""
    volume = job.target.mask.shape
    shard = job.shards.cell(number)
    box = shard.grow(job.halo).intersect(whole(volume))
    mask = _read(job.target.mask, box) != 0
    saliency = _read(job.target.saliency, box) if job.target.saliency else None
    inner = extended(shard, volume)
    labels, count = label(mask[inner.relative_to(box).slices], job.config.connectivity)
    own = labels[shard.relative_to(inner).slices]
    core = shard.relative_to(box)
    levels = None if saliency is None else saliency[core.slices]
    low, high = edges(labels, shard, volume)
    if job.splitting == "none":
        peaks = Peaks(np.zeros((0, 3), np.int64), np.zeros(0))
    else:
        peaks = find_peaks(mask, saliency, core, job.splitting, job.diameter_voxels)
    places = peaks.places + np.array(box.start)
    names = labels[tuple((places - np.array(shard.start)).T)].astype(np.int64) - 1
    _keep(
        job.kept("label", number),
        **_as_arrays(sum_voxels(own, levels, shard.start, count)),
        low_place=low[0],
        low_label=low[1],
        high_place=high[0],
        high_label=high[1],
        places=places,
        heights=peaks.heights,
        labels=names,
    )
    return number


def split_shard(job: Job, owners: Owners) -> int:
    """Sum the voxels of each peak in one shard: a task."""
    shard, numbers = _numbered(job, owners)
    present = np.unique(numbers)
    present = present[present > 0]
    saliency = _read(job.target.saliency, shard) if job.target.saliency else None
    compact = np.searchsorted(present, numbers).astype(np.int64) + 1
    compact[numbers == 0] = 0
    sums = sum_voxels(compact, saliency, shard.start, len(present))
    _keep(job.kept("split", owners.shard), **_as_arrays(sums), object=present - 1)
    return owners.shard


def write_shard(layout: Layout, job: Job, owners: Owners) -> int:
    """Write the number of each voxel's particle in one shard: a task."""
    shard, numbers = _numbered(job, owners)
    ArrayStore(layout, "image", 0).write_shard(shard, numbers.astype(np.int32))
    return owners.shard


def build_shard(layout: Layout, level: int, _: Job, number: int) -> int:
    """Make one shard of a level of the labels: a task."""
    build_level_shard(layout, "image", level, layout.shards(level).cell(number))
    return number


def _numbered(job: Job, owners: Owners) -> tuple[Box, Integers]:
    """Return a shard, and the object of each of its voxels, from 1."""
    volume = job.target.mask.shape
    shard = job.shards.cell(owners.shard)
    inner = extended(shard, volume)
    labels, _ = label(_read(job.target.mask, inner), job.config.connectivity)
    owner = np.concatenate([[0], owners.whole])
    numbers = owner[labels[shard.relative_to(inner).slices]]
    if len(owners.peaks.places):
        parent = np.maximum(-numbers, 0).astype(np.int32)
        nearest = nearest_peak(
            parent,
            shard.start,
            owners.peaks,
            owners.parents,
            job.splitting,
            job.diameter_voxels,
        )
        objects = np.concatenate([[0], owners.objects])
        numbers = np.where(parent > 0, objects[nearest], numbers)
    return shard, np.maximum(numbers, 0)


def _read(volume: Volume, box: Box) -> NDArray[Any]:
    with volume.reader() as reader:
        return reader.read(box)


def _as_arrays(sums: Sums) -> dict[str, Integers]:
    return {"added": sums.added, "lowest": sums.lowest, "highest": sums.highest}


def _sums_from(file: Any) -> Sums:
    return Sums(file["added"], file["lowest"], file["highest"])


def _keep(path: Path, **arrays: Any) -> None:
    """Write arrays under a name that is there only when they are, on the disk."""
    temporary = temporary_sibling(path)
    with storage_errors("Writing", path):
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        fsync(path.parent)
