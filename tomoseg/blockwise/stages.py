"""The stages of a run: a task over all its shards, again where some failed, until time is up.

Knows executors, journals and the clock; knows nothing of what a task does.
"""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from tomoseg.blockwise import journal
from tomoseg.blockwise.clock import Clock
from tomoseg.blockwise.execute import Executor, Lost
from tomoseg.blockwise.write import ShardResult
from tomoseg.errors import Stopped
from tomoseg.io.layout import Layout

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with the stage, how much of it is done, and how much there is."""

PASSES = 3
"""Times that shards are gone over which failed, or whose record was lost with a worker."""

Errors = dict[int, str]
"""What went wrong with shards, by number."""

Task = TypeVar("Task")
Result = TypeVar("Result")


class Stages:
    """Goes over the tasks of one run, wherever the executor has them computed.

    Parameters
    ----------
    output
        The user's path, for messages.
    executor
        Runs the tasks.
    progress
        Is told how far each stage is.
    clock
        Says when no more are to be begun.
    """

    def __init__(self, output: Path, executor: Executor, progress: Progress, clock: Clock) -> None:
        self._output = output
        self._executor = executor
        self._progress = progress
        self._clock = clock

    def map(
        self, stage: str, function: Callable[[Task], Result], tasks: Iterable[Task], total: int
    ) -> Iterable[Result | Lost]:
        """Yield results and report progress; raise `Stopped` where some are missing."""
        done = 0
        self._progress(stage, done, total)
        for result in self._executor.map(function, tasks):
            done += 1
            self._progress(stage, done, total)
            yield result
        if done < total:
            raise self.stopped()

    def every(
        self, stage: str, function: Callable[[Task], Result], tasks: Iterable[Task], total: int
    ) -> Iterable[Result]:
        """Yield results of tasks without which there is no going on."""
        for result in self.map(stage, function, tasks, total):
            if isinstance(result, Lost):
                raise Stopped(f"{stage}: {result.error}.", "The same command goes on.")
            yield result

    def stopped(self) -> Stopped:
        """Return what is raised where tasks are left over."""
        why = "the time left is too short for another shard" if self._clock.over else "as asked"
        return Stopped(
            f"{self._output}: stopped, {why}; what is done is kept.",
            "The same command goes on.",
        )

    def finish(
        self,
        stage: str,
        layout: Layout,
        wanted: Iterable[int],
        function: Callable[[int], Callable[[int], ShardResult]],
        *,
        together: bool = False,
    ) -> tuple[int, Errors]:
        """Run a task, made for the number of a run, over the shards that are not done.

        Returns
        -------
        computed, failed
            How many are done now, and the error of each that failed in every pass.
        """
        wanted, computed = list(wanted), 0
        errors: Errors = {}
        folder = journal.journal_folder(Path(layout.path))
        for _ in range(PASSES):
            state = journal.read_state(folder)
            run = state.last_run + 1
            if not together:
                journal.Turn(folder).take(run)
                state = journal.read_state(folder)
            missing = [number for number in wanted if number not in state.done]
            if not missing:
                return computed, {}
            errors = dict.fromkeys(missing, "its record was lost with its worker")
            for result in self.map(stage, function(run), self._clock.tasks(missing), len(missing)):
                if isinstance(result, Lost):
                    errors[result.task] = result.error
                    continue
                self._clock.add(sum(result.seconds.values()))
                if result.error:
                    logger.warning("%s: shard %d failed: %s", stage, result.shard, result.error)
                    errors[result.shard] = result.error
                else:
                    computed += 1
                    del errors[result.shard]
        state = journal.read_state(folder)
        return computed, {n: error for n, error in errors.items() if n not in state.done}

    def raise_failed(self, errors: Errors) -> None:
        """Say which shards no attempt could finish; the others are done."""
        if errors:
            first = next(iter(errors.values()))
            raise Stopped(
                f"{self._output}: {len(errors)} shards failed {PASSES} times, the others are "
                f"done ({first}).",
                f"'tomoseg status {self._output}' names them all; the same command tries them "
                "again.",
            )
