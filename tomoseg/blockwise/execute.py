"""Where tasks run: in this process, or on Dask workers; one door for both.

With `run`, the only module that knows Dask. A window of submissions slides over the
tasks, so that a million shards cost no more memory than a few.
"""

import contextlib
import ipaddress
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from tomoseg.blockwise.plan import IN_FLIGHT
from tomoseg.errors import ExecutorError, TomosegError

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
    memory_bytes
        What all workers on this machine may take together; None means 80 % of it.
    scheduler, scheduler_file
        Address, or connection file, of a Dask scheduler that runs already.
    insecure
        Allow unencrypted traffic that leaves this machine.
    """

    workers: int = 1
    threads: int | None = None
    device: str = "auto"
    memory_bytes: int | None = None
    scheduler: str | None = None
    scheduler_file: str | None = None
    insecure: bool = False

    def lanes(self, device: str) -> int:
        """Return how many windows a worker computes at once."""
        if device != "cpu":
            return 1
        return self.threads or max(1, len(os.sched_getaffinity(0)) // self.workers)

    def worker_memory(self) -> int:
        """Return the bytes that one worker on this machine may take, cgroups considered."""
        from distributed.system import MEMORY_LIMIT

        return (self.memory_bytes or int(0.8 * MEMORY_LIMIT)) // self.workers


class Executor(Protocol):
    """Runs a picklable function over tasks, in any order."""

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Yield results as they come; after `stop` is set nothing new is begun."""


class Serial:
    """Runs tasks in this process, a few at a time, so that one reads while one computes.

    Parameters
    ----------
    stop
        Once set, what is running ends and nothing new begins.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

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
    """

    def __init__(self, client: Any, stop: threading.Event) -> None:
        self._client = client
        self._stop = stop

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Yield results as they come; a lost worker's tasks go to another one."""
        from distributed import as_completed

        remaining = iter(tasks)
        completed = as_completed()

        def submit(count: int) -> int:
            chosen = [] if self._stop.is_set() else list(islice(remaining, count))
            for task in chosen:
                completed.add(self._client.submit(function, task, pure=False))
            return len(chosen)

        running = submit(IN_FLIGHT * max(1, len(self._client.nthreads())))
        while running:
            future = next(completed)
            running -= 1
            try:
                result: Result = future.result()
            except Exception as error:
                raise _lost(error) from error
            running += submit(1)
            yield result


def _lost(error: Exception) -> Exception:
    """Say in a user's words what Dask means when it gives a task up."""
    from distributed.scheduler import KilledWorker

    if isinstance(error, KilledWorker):
        return TomosegError(
            "the workers that computed a shard died one after the other, most often of "
            "too little memory.",
            "Give them more, or take a smaller --shard or fewer --threads; what is done is kept.",
        )
    return error


@contextlib.contextmanager
def open_executor(resources: Resources, stop: threading.Event) -> Iterator[Executor]:
    """Open the executor that `resources` ask for, and close it; it serves many volumes.

    Raises
    ------
    ExecutorError
        Where a scheduler cannot be reached, or only unencrypted over a network.
    """
    if resources.scheduler or resources.scheduler_file:
        with _connect(resources) as client:
            yield OnDask(client, stop)
    elif resources.workers > 1:
        with _local_cluster(resources) as client:
            yield OnDask(client, stop)
    else:
        yield Serial(stop)


@contextlib.contextmanager
def _local_cluster(resources: Resources) -> Iterator[Any]:
    import dask
    from distributed import Client, LocalCluster

    # a shard may hold a worker's lock on Python for long; that is no reason to replace it
    settings = {"distributed.scheduler.worker-ttl": None}
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=resources.workers,
            threads_per_worker=IN_FLIGHT,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=resources.worker_memory(),
            silence_logs=40,
            preload=__name__,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def dask_setup(worker: Any) -> None:
    """Let a worker pass over Ctrl-C, which a terminal sends to it too: the driver decides.

    Dask calls this in every worker of the embedded cluster, which preloads this module.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _connect(resources: Resources) -> Iterator[Any]:
    from distributed import Client

    address = resources.scheduler or _address_in(resources.scheduler_file or "")
    if not (resources.insecure or is_private(address)):
        raise ExecutorError(
            f"{address}: expected a tls:// address, since this one leaves the machine unencrypted.",
            "Whoever reaches the scheduler can run code as you: set up TLS, or give --insecure.",
        )
    try:
        client = Client(address, timeout=20)
    except (OSError, TimeoutError, ValueError) as error:
        raise ExecutorError(
            f"{address}: no Dask scheduler answers there ({type(error).__name__}).",
            "Start one with 'dask scheduler', and workers with 'dask worker'.",
        ) from error
    with client:
        if not client.nthreads():
            raise ExecutorError(
                f"{address}: the scheduler has no workers.", "Start some with 'dask worker'."
            )
        yield client


def _address_in(scheduler_file: str) -> str:
    import json

    try:
        return str(json.loads(Path(scheduler_file).read_text())["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExecutorError(
            f"{scheduler_file}: expected a Dask scheduler file, got {error}.",
            "Start the scheduler with 'dask scheduler --scheduler-file FILE'.",
        ) from error


def is_private(address: str) -> bool:
    """Tell whether traffic to a Dask address is encrypted or stays on this machine."""
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    if parts.scheme in ("tls", "wss", "inproc"):
        return True
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname == "localhost"
