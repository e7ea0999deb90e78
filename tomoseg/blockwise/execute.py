"""Where tasks run: in this process, or on Dask workers; one door for both.

With `clusters`, the only module that knows Dask. A window of submissions slides over the
tasks, so that a million shards cost no more memory than a few.
"""

import contextlib
import math
import os
import queue
import resource
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import psutil

from tomoseg.blockwise.clusters import (
    LOOK_SECONDS,
    Jobs,
    job_queue,
    local_cluster,
    running_cluster,
)
from tomoseg.blockwise.plan import IN_FLIGHT
from tomoseg.errors import ExecutorError, RequestError, Stopped
from tomoseg.saliency.lanes import resolve_device

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Resources:
    """Where and on how much a run may compute; none of it changes a bit of the result.

    Parameters
    ----------
    workers
        Processes of the embedded cluster; 1 computes in this process.
    threads
        Windows computed at once in each worker; None divides the cores among workers.
    device
        Torch device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    devices
        CUDA devices of this machine, one worker process for each; `device` is ``cuda`` then.
    memory_bytes
        What all workers on this machine may take together; None means 80 % of it.
    scheduler, scheduler_file
        Address, or connection file, of a Dask scheduler that runs already.
    certificates
        Folder of those that it was started with.
    insecure
        Allow unencrypted traffic that leaves this machine.
    jobs
        Jobs of a queue in place of processes.
    deadline
        Seconds of the epoch at which this process will be killed; None for never.
    """

    workers: int = 1
    threads: int | None = None
    device: str = "auto"
    devices: tuple[str, ...] = ()
    memory_bytes: int | None = None
    scheduler: str | None = None
    scheduler_file: str | None = None
    certificates: Path | None = None
    insecure: bool = False
    jobs: Jobs | None = None
    deadline: float | None = None

    @property
    def remote(self) -> bool:
        """Whether workers may be on machines unlike this one, with other devices."""
        return bool(self.scheduler or self.scheduler_file or self.jobs)

    def lanes(self, device: str) -> int:
        """Return how many windows a worker computes at once."""
        if device.startswith("cuda"):
            return 1
        if self.threads or self.jobs:
            return self.threads or (self.jobs.cores if self.jobs else 1)
        return max(1, len(os.sched_getaffinity(0)) // self.workers)

    def worker_memory(self) -> int:
        """Return the bytes that one worker may take."""
        if self.jobs:
            from dask.utils import parse_bytes

            return int(parse_bytes(self.jobs.memory))
        return (self.memory_bytes or int(0.8 * machine_memory())) // self.workers


def machine_memory(root: Path = Path("/")) -> int:
    """Return the bytes that a process here may take.

    The machine's, or less where a resource limit or a control group says so: that of the
    process or any around it, as Slurm makes one for each job.

    Parameters
    ----------
    root
        Where ``proc`` and ``sys`` are.
    """
    found: list[int] = [psutil.virtual_memory().total, resource.getrlimit(resource.RLIMIT_AS)[0]]
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            top = root / "sys/fs/cgroup" / ("memory" if controllers else "")
            name = "memory.limit_in_bytes" if controllers else "memory.max"
            group = top / path.lstrip("/")
            found += [_limit(folder / name) for folder in (group, *group.parents)]
    return min(limit for limit in found if limit > 0)


def _limit(file: Path) -> int:
    """Return the number in a file of a control group, or 0 where there is none."""
    with contextlib.suppress(OSError, ValueError):  # "max", or a group that has no such file
        return int(file.read_text())
    return 0


@dataclass(frozen=True)
class Lost:
    """What comes back for a task that no worker survived.

    Parameters
    ----------
    task
        The task.
    error
        What happened and what to do, for a user.
    """

    task: Any
    error: str


class Executor(Protocol):
    """Runs a picklable function over tasks, in any order."""

    def map(
        self, function: Callable[[Task], Result], tasks: Iterable[Task]
    ) -> Iterator[Result | Lost]:
        """Yield results as they come; after `stop` is set nothing new is begun."""

    @property
    def width(self) -> int:
        """How many tasks it computes at once: so many small tomograms keep it busy."""

    def device(self, name: str) -> str:
        """Return the device that `name` means where the tasks run."""


class Serial:
    """Runs tasks in this process, a few at a time, so that one reads while one computes.

    Parameters
    ----------
    stop
        Once set, what is running ends and nothing new begins.
    """

    width = 1

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def device(self, name: str) -> str:
        """Return the device that `name` means here."""
        return resolve_device(name)

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Yield results as they come."""
        remaining = iter(tasks)
        running: set[Future[Result]] = set()
        with ThreadPoolExecutor(IN_FLIGHT, "shard") as pool:
            while True:
                room = 0 if self._stop.is_set() else IN_FLIGHT - len(running)
                running |= {pool.submit(function, task) for task in islice(remaining, room)}
                if not running:
                    return
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()


class OnDask:
    """Runs tasks on the workers of a Dask cluster.

    Parameters
    ----------
    client
        A connected ``distributed.Client``.
    stop
        Once set, what is submitted ends and nothing new begins.
    patience
        Seconds that it waits for a worker where there is none.
    """

    def __init__(self, client: Any, stop: threading.Event, patience: float = 600.0) -> None:
        self._client = client
        self._stop = stop
        self._patience = patience

    @property
    def width(self) -> int:
        """The workers."""
        return max(1, len(self._workers()))

    def _workers(self) -> list[str]:
        """Return the addresses of the workers that are there."""
        with _scheduler_there(OSError):
            return list(self._client.nthreads())

    def device(self, name: str) -> str:
        """Return the device that `name` means on the workers that are there.

        Raises
        ------
        ExecutorError
            Where a worker has none, or it is another one on each.
        """
        there: list[str | None] = [*self._workers()]
        asked = [
            self._client.submit(
                resolve_device, name, workers=worker, allow_other_workers=True, pure=False
            )
            for worker in there or [None]
        ]
        try:
            found = sorted({str(_result(future, name)) for future in asked})
        except RequestError as error:
            raise ExecutorError(f"on a worker: {error.message}", error.hint) from error
        if len(found) > 1:
            raise ExecutorError(
                f"--device {name}: expected workers that are alike, found {', '.join(found)}.",
                "Name the device that all of them have.",
            )
        return found[0]

    def map(
        self, function: Callable[[Task], Result], tasks: Iterable[Task]
    ) -> Iterator[Result | Lost]:
        """Yield results as they come; a lost worker's tasks go to another one."""
        remaining = iter(tasks)
        finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
        running: dict[Any, Task] = {}

        def submit(count: int) -> None:
            chosen = [] if self._stop.is_set() else list(islice(remaining, max(0, count)))
            for task in chosen:
                with _scheduler_there(OSError):
                    future = self._client.submit(function, task, pure=False)
                running[future] = task
                future.add_done_callback(finished.put)

        submit(IN_FLIGHT * self.width)
        while running:
            future = self._next(finished)
            result = _result(future, running.pop(future))
            submit(IN_FLIGHT * self.width - len(running))  # workers come and go
            yield result

    def _next(self, finished: queue.SimpleQueue[Any]) -> Any:
        """Return the next future that is done, unless nobody is left to finish one.

        Raises
        ------
        Stopped
            Where all workers are gone, and `stop` is set or they stay away.
        """
        alone = 0.0
        while True:
            with contextlib.suppress(queue.Empty):
                return finished.get(timeout=LOOK_SECONDS)
            there = self._client.status == "running" and self._workers()
            alone = 0.0 if there else alone + LOOK_SECONDS
            if alone and (self._stop.is_set() or alone > self._patience):
                raise Stopped(
                    "no Dask worker is left to finish the shards; what is done is kept.",
                    "Start workers; the same command goes on.",
                )


def _result(future: Any, task: Any) -> Any:
    """Return what a task gave, or say in a user's words what Dask means.

    Raises
    ------
    Stopped
        Where the scheduler is gone.
    """
    from concurrent.futures import CancelledError

    from distributed.comm.core import CommClosedError
    from distributed.scheduler import KilledWorker

    try:
        with _scheduler_there(CancelledError, CommClosedError):  # a task's own OSError is its own
            return future.result()
    except KilledWorker:
        return Lost(
            task,
            "the workers that computed it died one after the other, most often of too little "
            "memory: give them more, or take a smaller --shard or fewer --threads",
        )


@contextlib.contextmanager
def _scheduler_there(*lost: type[BaseException]) -> Iterator[None]:
    """Raise `Stopped` where talking to the scheduler fails, which `lost` shows."""
    try:
        yield
    except lost as error:
        raise Stopped(
            "the connection to the Dask scheduler was lost; what is done is kept.",
            "Start the cluster again where it was yours; the same command goes on.",
        ) from error


@contextlib.contextmanager
def open_executor(resources: Resources, stop: threading.Event) -> Iterator[Executor]:
    """Open the executor that `resources` ask for, and close it; it serves many volumes.

    Raises
    ------
    ExecutorError
        Where the workers cannot be had, or reached only unencrypted over a network.
    """
    cluster: AbstractContextManager[Any] | None = None
    if resources.scheduler or resources.scheduler_file:
        cluster = running_cluster(
            resources.scheduler,
            resources.scheduler_file,
            resources.certificates,
            insecure=resources.insecure,
        )
    elif resources.jobs:
        cluster = job_queue(resources.jobs, stop)
    elif resources.workers > 1 or resources.devices:
        cluster = local_cluster(resources.workers, resources.worker_memory(), resources.devices)
    if cluster is None:
        yield Serial(stop)
        return
    with cluster as client:
        # a queue may take its time to give lost jobs new places
        yield OnDask(client, stop, *([math.inf] if resources.jobs else []))
