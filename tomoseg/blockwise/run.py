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

from tomoseg.blockwise import journal, shard
from tomoseg.blockwise.claim import claim
from tomoseg.blockwise.execute import Executor
from tomoseg.blockwise.prepare import Prepared
from tomoseg.blockwise.seams import SeamSums
from tomoseg.blockwise.shard import Job, ShardResult
from tomoseg.errors import Stopped, TomosegError
from tomoseg.io.omezarr import create, read_attributes, update_attributes

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
        state = journal.read_state(journal.journal_folder(claimed.path))
        job = prepared.job(claimed.path, state.last_run + 1)
        if attributes.get("complete") and len(state.done) == len(prepared.plan.shards):
            logger.info("%s is complete already", request.output)
            return Summary(**attributes["summary"] | {"computed": 0})
        summary = _Run(prepared, job, executor, progress).complete()
        update_attributes(claimed.path, {"complete": True, "summary": dataclasses.asdict(summary)})
        claimed.publish()
    return summary


class _Run:
    """The steps of one run on a claimed output, in order."""

    def __init__(
        self,
        prepared: Prepared,
        job: Job,
        executor: Executor,
        progress: Progress,
    ) -> None:
        self._prepared = prepared
        self._job = job
        self._executor = executor
        self._progress = progress
        self._journal = journal.journal_folder(Path(job.layout.path))

    def complete(self) -> Summary:
        try:
            refinement = self._refine()
            computed = self._segment()
            seam = self._seam()
            self._pyramid()
        finally:
            shard.release()
        return Summary(
            output=str(self._prepared.request.output),
            shards=len(self._job.plan.shards),
            computed=computed,
            seam=seam,
            trained=self._prepared.card.trained,
            refinement=refinement,
            salient_fraction=self._salient_fraction(),
        )

    def _salient_fraction(self) -> float:
        done = journal.read_state(self._journal).done.values()
        salient = sum(record.details["arrays"]["mask"]["nonzero"] for record in done)
        return round(float(salient / math.prod(self._job.plan.shape)), 6)

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

    def _segment(self) -> int:
        total = len(self._job.plan.shards)
        computed = 0
        for _ in range(PASSES):
            state = journal.read_state(self._journal)
            open_shards = [k for k in range(total) if k not in state.done]
            if not open_shards:
                return computed
            job = dataclasses.replace(self._job, run=state.last_run + 1)
            function = functools.partial(shard.segment_shard, job)
            results = list(self._map("segment", function, open_shards, len(open_shards)))
            computed += len(results)
            _raise_failed(results, self._prepared.request.output)
        raise TomosegError(
            f"{self._prepared.request.output}: shards were lost again and again "
            f"in {PASSES} passes over them.",
            "Look at the workers' logs.",
        )

    def _seam(self) -> float | None:
        function = functools.partial(shard.shard_seams, self._job)
        count = len(self._job.plan.shards)
        sums = sum(self._map("seams", function, range(count), count), start=SeamSums())
        return None if sums.measure is None else round(sums.measure, 4)

    def _pyramid(self) -> None:
        layout = self._job.layout
        for level in range(1, layout.levels):  # each is made of the one before
            tasks = itertools.product(layout.kinds(), range(len(layout.shards(level))))
            function = functools.partial(shard.pyramid_shard, layout, level)
            count = len(layout.kinds()) * len(layout.shards(level))
            for _ in self._map(f"pyramid level {level}", function, tasks, count):
                pass


def _raise_failed(results: list[ShardResult], output: Path) -> None:
    failed = sorted((result.shard, result.error) for result in results if result.error)
    if failed:
        number, error = failed[0]
        raise Stopped(
            f"{output}: {len(failed)} of {len(results)} shards failed, the first of them "
            f"number {number} ({error}).",
            f"'tomoseg status {output}' names them all; the same command tries them again.",
        )
