"""How long a run may still go on: no shard is begun that the end would cut off."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np

Task = TypeVar("Task")

PERCENTILE = 95


class Clock:
    """Passes tasks on while the time that is left is enough for one.

    Parameters
    ----------
    deadline
        Seconds of the epoch at which the process will be killed; None for never.
    """

    def __init__(self, deadline: float | None) -> None:
        self._deadline = deadline
        self._seconds: list[float] = []

    def add(self, seconds: float) -> None:
        """Count the wall time of a task."""
        self._seconds.append(seconds)

    @property
    def over(self) -> bool:
        """Whether the time that is left is less than most tasks so far have taken."""
        if self._deadline is None:
            return False
        usual = float(np.percentile(self._seconds, PERCENTILE)) if self._seconds else 0.0
        return self._deadline - time.time() <= usual

    def tasks(self, tasks: Iterable[Task]) -> Iterator[Task]:
        """Yield tasks until it is over."""
        for task in tasks:
            if self.over:
                return
            yield task
