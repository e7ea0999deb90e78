"""What a process keeps from task to task: one worker, of the job that it works on now."""

import threading
from typing import Any, Protocol, TypeVar


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


_workers: dict[Any, Any] = {}
_lock = threading.Lock()


def worker(job: Job[W]) -> W:
    """Return this process's worker for a job; the one before it is closed."""
    with _lock:
        if job not in _workers:
            release()
            _workers[job] = job.open()
        found: W = _workers[job]
        return found


def release() -> None:
    """Close this process's worker and free its memory."""
    while _workers:
        _workers.popitem()[1].close()
