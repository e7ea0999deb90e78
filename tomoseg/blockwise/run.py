"""The way of one tomogram once it is prepared: claim, refine, segment, measure, finish.

Each step is a map of a function of `shard` over tasks, wherever the executor runs them.
"""

import dataclasses
import functools
import itertools
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tomoseg.blockwise import journal, place, shard, workers
from tomoseg.blockwise.claim import claim
from tomoseg.blockwise.execute import Executor
from tomoseg.blockwise.prepare import Prepared, layout_values
from tomoseg.blockwise.seams import SeamSums
from tomoseg.blockwise.write import ShardResult
from tomoseg.errors import Stopped, TomosegError
from tomoseg.io.omezarr import Layout, create, read_attributes, update_attributes
from tomoseg.io.storage import remove, storage_errors, temporary_sibling

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with the stage, how much of it is done, and how much there is."""

PASSES = 3
"""Times that shards are gone over whose journal is not clean, as after a lost worker."""

Task = TypeVar("Task")
Result = TypeVar("Result")


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


def segment(prepared: Prepared, executor: Executor, progress: Progress) -> Summary:
    """Segment one tomogram, from where an earlier run of the same request stopped.

    Raises
    ------
    Stopped
        Where the executor was stopped, or shards failed; the same command goes on.
    TomosegError
        Where it cannot be done.
    """
    request = prepared.request
    with claim(
        request.output.absolute(),
        create=lambda path: create(
            prepared.layout(path), prepared.attributes(), folder=journal.SCRATCH
        ),
        fingerprint=prepared.fingerprint,
        overwrite=request.overwrite,
    ) as claimed:
        attributes = read_attributes(claimed.path) or {}
        done = journal.read_state(journal.journal_folder(claimed.path)).done
        if attributes.get("complete") and len(done) == _count(prepared, claimed.path):
            logger.info("%s is complete already", request.output)
            return Summary(**attributes["summary"] | {"computed": 0})
        summary = _Run(prepared, claimed.path, executor, progress).complete()
        update_attributes(claimed.path, {"complete": True, "summary": dataclasses.asdict(summary)})
        claimed.publish()
    return summary


def _count(prepared: Prepared, path: Path) -> int:
    return len(prepared.layout(path).shards(0))


class _Run:
    """The steps of one run on a claimed output, in order."""

    def __init__(
        self, prepared: Prepared, path: Path, executor: Executor, progress: Progress
    ) -> None:
        self._prepared = prepared
        self._path = path
        self._executor = executor
        self._progress = progress
        self._layout = prepared.layout(path)
        self._job = prepared.job(path, run=0)

    def complete(self) -> Summary:
        try:
            refinement = self._refine()
            computed, seam = self._segment_and_place()
            self._pyramid()
        finally:
            workers.release()
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

    def _salient_fraction(self) -> float:
        done = self._done(self._layout).values()
        salient = sum(record.details["arrays"]["mask"]["nonzero"] for record in done)
        return round(float(salient / math.prod(self._layout.shape)), 6)

    def _done(self, layout: Layout) -> dict[int, journal.Record]:
        return journal.read_state(journal.journal_folder(Path(layout.path))).done

    def _map(
        self, stage: str, function: Callable[[Task], Result], tasks: Iterable[Task], total: int
    ) -> Iterable[Result]:
        """Yield results and report progress; raise `Stopped` where some are missing."""
        done = 0
        self._progress(stage, done, total)
        for result in self._executor.map(function, tasks):
            done += 1
            self._progress(stage, done, total)
            yield result
        if done < total:
            raise Stopped(
                f"{self._prepared.request.output}: stopped as asked; what is done is kept.",
                "The same command goes on.",
            )

    def _refine(self) -> dict[str, Any]:
        if self._job.config.refine.scope != "volume":
            return {}
        function = functools.partial(shard.refine_volume, self._job)
        (report,) = self._map("refine", function, [0], 1)
        return report

    def _segment(self, wanted: Iterable[int]) -> None:
        """Run the network over shards of its grid."""

        def function(run: int) -> Callable[[int], ShardResult]:
            job = dataclasses.replace(self._job, run=run)
            return functools.partial(shard.segment_shard, job)

        self._finish("segment", self._job.layout, wanted, function)

    def _segment_and_place(self) -> tuple[int, float | None]:
        """Run the network, then blend what it says and place it on the output's grid.

        Two maps over two lattices, each with its journal: were shards of the output to
        run the network themselves, every block on their faces would be computed again.
        """
        placement = self._prepared.placement(self._path, run=0)
        every = range(len(self._layout.shards(0)))
        missing = set(every) - self._done(self._layout).keys()
        if missing:
            self._make_scratch()
            self._segment(sorted({n for number in missing for n in placement.needs(number)}))
        seam = self._stored_seam()

        def function(run: int) -> Callable[[int], ShardResult]:
            return functools.partial(place.place_shard, dataclasses.replace(placement, run=run))

        return self._finish("place", self._layout, every, function), seam

    def _finish(
        self,
        stage: str,
        layout: Layout,
        wanted: Iterable[int],
        function: Callable[[int], Callable[[int], ShardResult]],
    ) -> int:
        """Run a task, made for the number of a run, over the shards that are not done."""
        wanted, computed = list(wanted), 0
        for _ in range(PASSES):
            state = journal.read_state(journal.journal_folder(Path(layout.path)))
            missing = [number for number in wanted if number not in state.done]
            if not missing:
                return computed
            task = function(state.last_run + 1)
            results = list(self._map(stage, task, missing, len(missing)))
            computed += len(results)
            _raise_failed(results, self._prepared.request.output)
        raise TomosegError(
            f"{self._prepared.request.output}: shards were lost again and again "
            f"in {PASSES} passes over them.",
            "Look at the workers' logs.",
        )

    def _make_scratch(self) -> None:
        layout = self._job.layout
        if not Path(layout.path).exists():
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
        count = len(self._job.plan.shards)
        sums = sum(self._map("seams", function, range(count), count), start=SeamSums())
        return None if sums.measure is None else round(sums.measure, 4)

    def _pyramid(self) -> None:
        layout = self._layout
        for level in range(1, layout.levels):  # each is made of the one before
            tasks = itertools.product(layout.kinds(), range(len(layout.shards(level))))
            function = functools.partial(shard.pyramid_shard, layout, level)
            count = len(layout.kinds()) * len(layout.shards(level))
            for _ in self._map(f"pyramid level {level}", function, tasks, count):
                pass


def _raise_failed(results: list[ShardResult], output: Path) -> None:
    errors = [result.error for result in results if result.error]
    if errors:
        raise Stopped(
            f"{output}: {len(errors)} of {len(results)} shards failed ({errors[0]}).",
            f"'tomoseg status {output}' names them all; the same command tries them again.",
        )
