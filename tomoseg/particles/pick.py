"""From a mask to particles, shard by shard: label, join, split, measure, select.

Each step is a map of a function over shards, wherever the executor runs them; what a
shard gave is kept in a scratch folder, so that a repeated command goes on. Memory holds
one shard a task, and a row for each object.
"""

import functools
import itertools
import json
import logging
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
from tomoseg.config import PickConfig
from tomoseg.errors import RequestError, Stopped
from tomoseg.geometry import Box
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
from tomoseg.particles.components import (
    Integers,
    Sums,
    empty_sums,
    join,
    joined,
)
from tomoseg.particles.select import WHOLE_NUMBERS, measure, select, suppress
from tomoseg.particles.shard import (
    Job,
    Owners,
    build_shard,
    label_shard,
    split_shard,
    sums_from,
    write_shard,
)
from tomoseg.particles.split import Peaks
from tomoseg.particles.target import Target

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]

PEAKS_APART = 0.8
"""Least distance between two peaks of one object, in diameters: particles are no balls, and
masks draw their centres together."""


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
        size, scored = target.voxel_size_angstrom, target.saliency is not None
        held = np.flatnonzero(objects.sums.voxels)  # a deeper peak nearby may take every voxel
        table = measure(objects.sums.of(held), target.mask.shape, size, scored=scored)
        rows = select(table, config, size)
        if labels is not None:
            run.write_labels(objects, held[rows], labels, overwrite=overwrite)
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
                total.append(sums_from(file))
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
                sums.append(sums_from(file))
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
