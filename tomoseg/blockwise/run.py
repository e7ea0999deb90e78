"""The way of one tomogram once it is prepared: claim, refine, segment, measure, finish.

Each step is a map of a function of `shard` over tasks, wherever the executor runs them.
"""

import contextlib
import dataclasses
import functools
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomoseg.blockwise import journal, place, shard, workers
from tomoseg.blockwise.claim import Claim, claim
from tomoseg.blockwise.clock import Clock
from tomoseg.blockwise.execute import Executor, Serial
from tomoseg.blockwise.place import Placement
from tomoseg.blockwise.prepared import Prepared, layout_values
from tomoseg.blockwise.seams import SeamSums, spread, with_low_neighbours
from tomoseg.blockwise.stages import Errors, Progress, Stages
from tomoseg.blockwise.write import ShardResult
from tomoseg.errors import InputError, OutputExistsError, RequestError, Stopped
from tomoseg.io.omezarr import Layout, create, read_attributes, update_attributes
from tomoseg.io.storage import remove, storage_errors, temporary_sibling, try_lock

logger = logging.getLogger(__name__)

SEAM_SHARDS = 16
"""The seam measure is taken on so many shards at most, of some 16 million voxels each."""


@dataclass(frozen=True)
class Summary:
    """What a finished run gives back; plain JSON values by `dataclasses.asdict`.

    Parameters
    ----------
    output
        The output's path.
    shards, computed
        Shards in all, and those that this run computed.
    seam
        The seam measure of the saliency; None for a single block.
    salient_fraction
        Share of voxels in the mask.
    trained
        Whether the weights were trained or are random.
    refinement
        Report of scope ``volume``; empty otherwise.
    """

    output: str
    shards: int
    computed: int
    seam: float | None
    salient_fraction: float
    trained: bool
    refinement: dict[str, Any]


@dataclass(frozen=True)
class Share:
    """One of several processes that compute a tomogram together and never meet.

    Parameters
    ----------
    number
        Of this process, from 0.
    count
        Of all; each computes every `count`-th shard.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count:
            raise RequestError(
                f"--shard-id: expected 0 to {self.count - 1} of --num-shards {self.count}, "
                f"got {self.number}."
            )


def segment(prepared: Prepared, executor: Executor, progress: Progress) -> Summary:
    """Segment one tomogram, from where an earlier run of the same request stopped.

    Raises
    ------
    Stopped
        Where the executor was stopped, or shards failed; the same command goes on.
    TomosegError
        Where it cannot be done.
    """
    prepared, request = _where_it_runs(prepared, executor), prepared.request
    with _claimed(prepared) as claimed:
        attributes = read_attributes(claimed.path) or {}
        done = journal.read_state(journal.journal_folder(claimed.path)).done
        if attributes.get("complete") and len(done) == _count(prepared, claimed.path):
            logger.info("%s is complete already", request.output)
            return Summary(**attributes["summary"] | {"computed": 0})
        summary = _Run(prepared, claimed.path, executor, progress).complete()
        update_attributes(claimed.path, {"complete": True, "summary": dataclasses.asdict(summary)})
        claimed.publish()
    return summary


def segment_share(
    prepared: Prepared, share: Share, executor: Executor, progress: Progress
) -> dict[str, Any]:
    """Compute a share of a tomogram's shards; `segment` afterwards does what is left.

    Returns
    -------
    dict
        ``output``, ``shards`` of the share, and how many were ``computed`` now.

    Raises
    ------
    Stopped
        Where the executor was stopped, or shards failed; the same command goes on.
    """
    prepared = _where_it_runs(prepared, executor)
    with _claimed(prepared, shared=True) as claimed:
        run = _Run(prepared, claimed.path, executor, progress)
        shards, computed = run.compute_share(share)
    output = str(prepared.request.output)
    return {"output": output, "shards": shards, "computed": computed}


def require_shares(prepared: Prepared) -> None:
    """Refuse to finish an output whose shares are not all computed.

    Raises
    ------
    Stopped
        Saying how many shards are missing, and the command that computes them.
    """
    path = prepared.request.output.absolute()
    run = _Run(prepared, path, Serial(threading.Event()), lambda *_: None)
    missing = run.missing()
    if missing:
        raise Stopped(
            f"{prepared.request.output}: {len(missing)} of {len(prepared.plan.shards)} shards "
            "are not computed yet.",
            "Submit the array again, which computes only those. It was begun with: "
            f"{prepared.request.command}",
        )


def _where_it_runs(prepared: Prepared, executor: Executor) -> Prepared:
    """Ask remote workers for the device, now that there are some."""
    if not prepared.request.resources.remote:
        return prepared
    return prepared.on(executor.device(prepared.device))


def _claimed(prepared: Prepared, *, shared: bool = False) -> AbstractContextManager[Claim]:
    return claim(
        prepared.request.output.absolute(),
        create=lambda path: create(
            prepared.layout(path), prepared.attributes(), folder=journal.SCRATCH
        ),
        fingerprint=prepared.fingerprint,
        overwrite=prepared.request.overwrite,
        shared=shared,
    )


def _count(prepared: Prepared, path: Path) -> int:
    return len(prepared.layout(path).shards(0))


class _Run:
    """The steps of one run on a claimed output, in order."""

    def __init__(
        self, prepared: Prepared, path: Path, executor: Executor, progress: Progress
    ) -> None:
        self._prepared = prepared
        self._path = path
        self._layout = prepared.layout(path)
        self._job = prepared.job(path, run=0)
        self._clock = Clock(prepared.request.resources.deadline)
        self._stages = Stages(prepared.request.output, executor, progress, self._clock)

    def complete(self) -> Summary:
        try:
            refinement = self._refine()
            computed, seam = self._segment_and_place()
            self._pyramid()
        finally:
            workers.release()
        self._check_input()
        self._remove_scratch()
        return Summary(
            output=str(self._prepared.request.output),
            shards=_count(self._prepared, self._path),
            computed=computed,
            seam=seam,
            trained=self._prepared.card.trained,
            refinement=refinement,
            salient_fraction=self._salient_fraction(),
        )

    def compute_share(self, share: Share) -> tuple[int, int]:
        """Compute every so-manieth shard of the network's grid that is not done or placed."""
        try:
            with self._alone_in_refining():
                self._refine()
            wanted = self._needed(self._prepared.placement(self._path, run=0))
            mine = [n for n in wanted if n % share.count == share.number]
            self._make_scratch()
            computed, failed = self._segment(mine, together=True)
        finally:
            workers.release()
        self._check_input()
        self._stages.raise_failed(failed)
        return len(mine), computed

    def missing(self) -> list[int]:
        """Return the shards of the network's grid that must be computed before the rest."""
        needed = self._needed(self._prepared.placement(self._path, run=0))
        done = self._done(self._job.layout)
        return [number for number in needed if number not in done]

    @contextlib.contextmanager
    def _alone_in_refining(self) -> Iterator[None]:
        """Let the first of several processes refine; the others wait and find it done."""
        with (self._path / journal.SCRATCH / "refining").open("a") as file:
            while not try_lock(file):
                if self._clock.over:
                    raise self._stages.stopped()
                time.sleep(1)
            yield

    def _check_input(self) -> None:
        """Refuse an input that was changed while it was read.

        Raises
        ------
        InputError
            Where it was: what is computed is of both, and of no use.
        """
        volume, before = self._prepared.request.volume, self._prepared.fingerprint["input"]
        changed = [key for key, value in volume.stamp().items() if before[key] != value]
        if changed:
            raise InputError(
                f"{volume.path}: it was changed while it was segmented ({', '.join(changed)}).",
                "Segment it again with --overwrite, once nothing writes to it.",
            )

    def _salient_fraction(self) -> float:
        done = self._done(self._layout).values()
        salient = sum(record.details["arrays"]["mask"]["nonzero"] for record in done)
        return round(float(salient / math.prod(self._layout.shape)), 6)

    def _done(self, layout: Layout) -> dict[int, journal.Record]:
        return journal.read_state(journal.journal_folder(Path(layout.path))).done

    def _refine(self) -> dict[str, Any]:
        if self._job.config.refine.scope != "volume":
            return {}
        function = functools.partial(shard.refine_volume, self._job)
        (report,) = self._stages.every("refine", function, self._clock.tasks([0]), 1)
        return report

    def _segment(self, wanted: Iterable[int], *, together: bool = False) -> tuple[int, Errors]:
        """Run the network over shards of its grid."""

        def function(run: int) -> Callable[[int], ShardResult]:
            job = dataclasses.replace(self._job, run=run)
            return functools.partial(shard.segment_shard, job)

        return self._stages.finish("segment", self._job.layout, wanted, function, together=together)

    def _needed(self, placement: Placement) -> list[int]:
        """Return the shards of the network's grid that shards of the output still rest on."""
        missing = set(range(_count(self._prepared, self._path))) - self._done(self._layout).keys()
        return sorted({n for number in missing for n in self._needs(placement, number)})

    def _needs(self, placement: Placement, number: int) -> list[int]:
        """Return the shards of the network's grid that a shard rests on; outside a region none."""
        roi = self._prepared.roi
        return [] if roi and number not in roi.shards else placement.needs(number)

    def _segment_and_place(self) -> tuple[int, float | None]:
        """Run the network, then blend what it says and place it on the output's grid.

        Two maps over two lattices, each with its journal: were shards of the output to
        run the network themselves, every block on their faces would be computed again.
        Where shards fail, what does not rest on them is placed.
        """
        placement = self._prepared.placement(self._path, run=0)
        needed = self._needed(placement)
        failed: Errors = {}
        if needed:
            self._make_scratch()
            _, failed = self._segment(needed)
        seam = None if failed else self._stored_seam()
        every = range(_count(self._prepared, self._path))
        wanted = [n for n in every if failed.keys().isdisjoint(self._needs(placement, n))]

        def function(run: int) -> Callable[[int], ShardResult]:
            return functools.partial(place.place_shard, dataclasses.replace(placement, run=run))

        computed, unplaced = self._stages.finish("place", self._layout, wanted, function)
        self._stages.raise_failed(failed or unplaced)
        return computed, seam

    def _make_scratch(self) -> None:
        layout = self._job.layout
        with contextlib.suppress(OutputExistsError):  # of an earlier run, or of another share
            create(layout, {"layout": layout_values(layout)}, folder=journal.SCRATCH)

    def _remove_scratch(self) -> None:
        """Remove the parts, and leftovers of killed runs.

        Their name goes first, so that their journal never outlives what it records.
        """
        scratch = Path(self._job.layout.path)
        with storage_errors("Removing", scratch):
            if scratch.exists():
                scratch.rename(temporary_sibling(scratch))
            for leftover in scratch.parent.glob(f".{scratch.name}.*.partial"):
                remove(leftover)

    def _stored_seam(self) -> float | None:
        """Return the seam measure; it is kept, for what it is measured on goes away."""
        attributes = read_attributes(self._path) or {}
        if "seam" not in attributes:
            attributes = {"seam": self._seam()}
            update_attributes(self._path, attributes)
        seam: float | None = attributes["seam"]
        return seam

    def _seam(self) -> float | None:
        function = functools.partial(shard.shard_seams, self._job)
        chosen = spread(self._blended(), SEAM_SHARDS)
        tasks = self._clock.tasks(chosen)
        sums = sum(self._stages.every("seams", function, tasks, len(chosen)), start=SeamSums())
        return None if sums.measure is None else round(sums.measure, 4)

    def _blended(self) -> list[int]:
        """Return the shards of the network's grid that all is there for; in a region not all."""
        shards, parts = self._job.plan.shards, self._job.plan.parts
        every = range(len(shards))
        if self._prepared.roi is None:
            return list(every)
        done = self._done(self._job.layout).keys()
        seen = (parts.needed_for(with_low_neighbours(shards.cell(number))) for number in every)
        return [number for number, needed in zip(every, seen, strict=True) if done >= set(needed)]

    def _pyramid(self) -> None:
        layout = self._layout
        for level in range(1, layout.levels):  # each is made of the one before
            tasks = itertools.product(layout.kinds(), range(len(layout.shards(level))))
            function = functools.partial(shard.pyramid_shard, layout, level)
            count = len(layout.kinds()) * len(layout.shards(level))
            stage = f"pyramid level {level}"
            for _ in self._stages.every(stage, function, self._clock.tasks(tasks), count):
                pass
