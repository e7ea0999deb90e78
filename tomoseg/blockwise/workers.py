"""What a process keeps from task to task: a worker for each of the jobs that it works on."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

KEPT = 2
"""Jobs whose worker stays open when nothing uses it: two tomograms share a cluster."""


class Worker(Protocol):
    """Holds what is open for one job."""

    def close(self) -> None:
        """Close what is open."""


W = TypeVar("W", bound=Worker)
W_co = TypeVar("W_co", bound=Worker, covariant=True)


class Job(Protocol[W_co]):
    """A hashable description of work, equal where the work is the same."""

    def open(self) -> W_co:
        """Return a worker for it."""
        ...


@dataclass
class _Held:
    worker: Any
    users: int = 0


_held: dict[Any, _Held] = {}
_lock = threading.Lock()


@contextlib.contextmanager
def worker(job: Job[W]) -> Iterator[W]:
    """Yield this process's worker for a job; others are closed once too many are idle."""
    with _lock:
        held = _held.pop(job, None) or _Held(job.open())
        _held[job] = held  # the last one is the youngest
        held.users += 1
    try:
        yield held.worker
    finally:
        with _lock:
            held.users -= 1
            _close_idle(KEPT)


def release() -> None:
    """Close this process's idle workers and free their memory."""
    with _lock:
        _close_idle(0)


def _close_idle(kept: int) -> None:
    idle = [job for job, held in _held.items() if not held.users]
    for job in idle[: max(0, len(idle) - kept)]:
        _held.pop(job).worker.close()
