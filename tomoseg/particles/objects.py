"""From what each shard gave to the objects of a mask: label, join, split.

Each step is a map of a function over shards, wherever the executor runs them; what a
shard gave is kept in a folder, so that a repeated command goes on. Memory holds one shard
a task, and a row for each object.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomoseg.blockwise.execute import Executor, Lost
from tomoseg.errors import Stopped
from tomoseg.geometry import Box
from tomoseg.particles.components import Integers, Sums, empty_sums, join, joined
from tomoseg.particles.select import fill, suppress
from tomoseg.particles.shard import Job, Owners, label_shard, split_shard, sums_from
from tomoseg.particles.split import Peaks

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


class Finder:
    """Finds the objects of a mask, and tells whose each voxel is.

    Parameters
    ----------
    job
        What is sought, and where.
    executor
        Runs the shards.
    progress
        Told how far it is.
    """

    def __init__(self, job: Job, executor: Executor, progress: Progress) -> None:
        self._job = job
        self._executor = executor
        self._progress = progress

    def objects(self) -> Objects:
        """Label and join all shards, and split what is to be split."""
        shards = self._job.shards
        missing = [n for n in range(len(shards)) if not self._job.kept("label", n).exists()]
        self.map("label", label_shard, missing, len(shards))
        sums, counts, candidates = self._labelled()
        component, count = join(
            counts,
            functools.partial(self._edge, "low"),
            functools.lru_cache(64)(functools.partial(self._edge, "high")),
            self._lower_neighbours,
        )
        roots = sums.by(component, count)
        peaks, parents = _best_peaks(self._job, candidates, component, self._kept_whole(roots))
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

    def _kept_whole(self, components: Sums) -> NDArray[np.bool_]:
        """Tell which components are not split, for they are shells or curved sheets."""
        limit = self._job.config.whole_below
        found = np.zeros(len(components), bool)
        if limit:
            held = np.flatnonzero(components.voxels)
            found[held] = fill(components.of(held), self._job.target.voxel_size_angstrom) < limit
        return found

    def _split(self, objects: Objects) -> Sums:
        """Return the sums of each peak's voxels; a peak without voxels has none."""
        numbers = np.arange(len(objects.parents) + 1)
        numbers = np.concatenate([numbers, np.zeros(int(objects.whole.max(initial=0)))])
        tasks = [o for o in self.owners(objects, numbers.astype(np.int64)) if len(o.peaks.places)]
        missing = [task for task in tasks if not self._job.kept("split", task.shard).exists()]
        self.map("split", split_shard, missing, len(tasks))
        total, peaks = [], []
        for task in tasks:
            with np.load(self._job.kept("split", task.shard)) as file:
                total.append(sums_from(file))
                peaks.append(file["object"])
        group = np.concatenate([np.zeros(0, np.int64), *peaks])
        return joined(total).by(group, len(objects.parents))

    def owners(self, objects: Objects, numbers: Integers) -> Iterator[Owners]:
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

    def map(
        self, stage: str, function: Callable[..., Any], tasks: Sequence[Any], total: int
    ) -> None:
        """Run a task for each of those that are missing of `total`.

        Raises
        ------
        Stopped
            Where not all came to their end; those that did are kept.
        """
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
    whole: NDArray[np.bool_],
) -> tuple[Peaks, Integers]:
    """Return the peaks of components that have several, highest first, and their components.

    Those that are to stay whole have none.
    """
    places, heights, labels = peaks
    parents = component[labels]
    order = np.lexsort([*places.T[::-1], -heights])
    places, heights, parents = places[order], heights[order], parents[order]
    apart = PEAKS_APART * job.diameter_voxels
    alive = suppress(places.astype(np.float64), apart, parents)
    several = np.bincount(parents[alive], minlength=1) > 1
    kept = np.flatnonzero(alive)
    kept = kept[several[parents[kept]] & ~whole[parents[kept]]]
    return Peaks(places[kept], heights[kept]), parents[kept]


def _within(places: Integers, box: Box) -> NDArray[np.int64]:
    """Return the rows of places in a box."""
    inside = (places >= np.array(box.start)) & (places < np.array(box.stop))
    return np.flatnonzero(inside.all(1))
