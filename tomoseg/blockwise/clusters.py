"""Dask clusters: one embedded here, one that runs already, one of jobs in a queue.

All traffic is encrypted but for a scheduler that somebody else started on this machine:
whoever reaches a Dask process can run code as its owner, and other users of a shared
machine reach its loopback too. Dashboards listen on loopback alone.
"""

import contextlib
import ipaddress
import json
import logging
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tomoseg.blockwise.certificates import security, temporary_certificates
from tomoseg.blockwise.plan import IN_FLIGHT
from tomoseg.errors import ExecutorError, Stopped
from tomoseg.io.storage import storage_errors

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
DASHBOARD = f"{LOOPBACK}:0"
LOOK_SECONDS = 0.5
"""Between two looks at whether there are workers."""

WAIT_SECONDS = 60
"""For the first worker of a scheduler that runs already."""

DEATH_TIMEOUT = 120
"""Seconds after which a job whose scheduler is gone ends."""

SETTINGS = {
    # a shard may hold a worker's lock on Python for long; that is no reason to replace it
    "distributed.scheduler.worker-ttl": None,
    # jobs are preempted: that is no fault of the shards that they worked on
    "distributed.scheduler.allowed-failures": 5,
    "distributed.deploy.lost-worker-timeout": "5s",
    # what Dask does to watch itself takes a tenth of a core, which workers want: it samples
    # their stacks 100 times a second, and looks at every process's event loop 50 times
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
}


@dataclass(frozen=True)
class Jobs:
    """Jobs of a Slurm queue that are a worker each.

    Parameters
    ----------
    count
        Jobs that are wanted at once; lost ones are replaced.
    partition, account, walltime
        As Slurm takes them; None for its defaults.
    cores, memory, gpus
        Of one job; memory with its unit, as ``16GB``.
    interface
        Network interface over which jobs and this process see each other; None for any.
    prologue
        Lines of shell that run before a worker.
    sbatch
        More options of sbatch, as ``--constraint=a100``.
    folder
        On a file system that jobs and this process share: logs, and certificates while
        this process lives.
    """

    count: int = 1
    partition: str | None = None
    account: str | None = None
    walltime: str | None = None
    cores: int = 4
    memory: str = "16GB"
    gpus: int = 0
    interface: str | None = None
    prologue: tuple[str, ...] = ()
    sbatch: tuple[str, ...] = ()
    folder: str = "tomoseg-jobs"


@contextlib.contextmanager
def local_cluster(workers: int, memory_bytes: int, devices: tuple[str, ...]) -> Iterator[Any]:
    """Yield the client of workers in processes of this machine.

    Parameters
    ----------
    workers
        Processes.
    memory_bytes
        Of each.
    devices
        One CUDA device for each worker, which sees no other; empty for no choice.
    """
    import dask
    from distributed import Client, Nanny, Scheduler, SpecCluster

    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(SETTINGS))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tomoseg-workers-"))
        tls = security(stack.enter_context(temporary_certificates(Path(folder))))
        common = {"protocol": "tls://", "security": tls, "host": LOOPBACK}

        def worker(number: int) -> dict[str, Any]:
            options = {
                "nthreads": IN_FLIGHT,
                "memory_limit": memory_bytes,
                "preload": __name__,
                "local_directory": folder,
                "dashboard_address": DASHBOARD,  # without one it would listen on all addresses
                "silence_logs": logging.CRITICAL,  # a heartbeat that meets the end is an error
            }
            if devices:
                number_there = devices[number].partition(":")[2]
                options["env"] = {"CUDA_VISIBLE_DEVICES": number_there}
            return {"cls": Nanny, "options": common | options}

        scheduler = {
            "cls": Scheduler,
            "options": common | {"port": 0, "dashboard_address": DASHBOARD},
        }
        specification = {number: worker(number) for number in range(workers)}
        cluster = stack.enter_context(
            SpecCluster(specification, scheduler, security=tls, silence_logs=40)
        )
        yield stack.enter_context(Client(cluster, security=tls))


def dask_setup(worker: Any) -> None:
    """Let a worker pass over Ctrl-C, which a terminal sends to it too: the driver decides.

    Dask calls this in every worker of the embedded cluster, which preloads this module.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def job_queue(jobs: Jobs, stop: threading.Event) -> Iterator[Any]:
    """Yield the client of workers that are jobs of Slurm, once the first has begun.

    Jobs end with the context: whatever was ever submitted is cancelled, also what Dask has
    lost sight of. Those of a process that is killed end by themselves.

    Raises
    ------
    ExecutorError
        Where dask-jobqueue or Slurm is missing, or Slurm refuses the job.
    Stopped
        Where `stop` was set before a job began.
    """
    import dask
    from distributed import Client

    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError as error:
        raise ExecutorError(
            "--jobqueue: expected the package dask-jobqueue, found none.",
            "Install it: pip install 'tomoseg[hpc]'.",
        ) from error
    folder = Path(jobs.folder).absolute()
    with storage_errors("Writing", folder):
        folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(SETTINGS))
        tls = security(stack.enter_context(temporary_certificates(folder)))
        submitted: list[str] = []
        stack.callback(_cancel, submitted)
        try:
            cluster = stack.enter_context(
                SLURMCluster(
                    job_cls=_job_noted_in(submitted),
                    protocol="tls://",
                    security=tls,
                    log_directory=str(folder),
                    **_as_jobqueue_takes(jobs),
                )
            )
            _ask_slurm(cluster.job_script())
            cluster.adapt(minimum_jobs=jobs.count, maximum_jobs=jobs.count)
            client = stack.enter_context(Client(cluster, security=tls))
        except (OSError, RuntimeError, ValueError) as error:
            raise ExecutorError(
                f"--jobqueue slurm: the jobs cannot be had ({str(error).strip()}).",
                "Check --jobqueue-config, and that sbatch works here.",
            ) from error
        logger.info("%d jobs are asked for; logs in %s", jobs.count, folder)
        while not client.nthreads():
            if stop.wait(LOOK_SECONDS):
                raise Stopped("stopped while the jobs were in the queue; they are cancelled.")
        yield client


def _job_noted_in(submitted: list[str]) -> Any:
    """Return the class of jobs that note their numbers in a list, whatever becomes of them."""
    from dask_jobqueue.slurm import SLURMJob

    class NotedJob(SLURMJob):
        async def start(self) -> None:
            try:
                await super().start()
            finally:
                if self.job_id:
                    submitted.append(self.job_id)
                    logger.info("job %s is submitted", self.job_id)

    return NotedJob


def _as_jobqueue_takes(jobs: Jobs) -> dict[str, Any]:
    """Return the options of dask-jobqueue that describe the jobs."""
    return {
        "queue": jobs.partition,
        "account": jobs.account,
        "walltime": jobs.walltime,
        "cores": IN_FLIGHT,  # of the worker's threads; its lanes are ours
        "job_cpu": jobs.cores,
        "memory": jobs.memory,
        "processes": 1,
        "interface": jobs.interface,
        "python": sys.executable,
        "job_name": "tomoseg-worker",
        "job_script_prologue": ["export OMP_NUM_THREADS=1", *jobs.prologue],
        "job_extra_directives": [
            *([f"--gres=gpu:{jobs.gpus}"] if jobs.gpus else []),
            *jobs.sbatch,
        ],
        "death_timeout": DEATH_TIMEOUT,
        "scheduler_options": {"dashboard_address": DASHBOARD},
        "worker_extra_args": ["--dashboard-address", DASHBOARD],
    }


def _ask_slurm(script: str) -> None:
    """Raise what Slurm has against a job: later on its refusals would only be retried."""
    asked = subprocess.run(
        ["sbatch", "--test-only"], input=script, capture_output=True, text=True, check=False
    )
    if asked.returncode:
        raise RuntimeError(asked.stderr.strip())


def _cancel(jobs: list[str]) -> None:
    """Cancel what is left of jobs; Slurm minds none that have ended."""
    if jobs:
        subprocess.run(["scancel", "--quiet", *jobs], capture_output=True, check=False)


@contextlib.contextmanager
def running_cluster(
    scheduler: str | None,
    scheduler_file: str | None,
    certificates: Path | None,
    *,
    insecure: bool,
) -> Iterator[Any]:
    """Yield a client of a scheduler that runs already.

    Raises
    ------
    ExecutorError
        Where it cannot be reached, or only unencrypted over a network, or has no workers.
    """
    from distributed import Client

    address = scheduler or _address_in(scheduler_file or "")
    if not (insecure or is_private(address)):
        raise ExecutorError(
            f"{address}: expected a tls:// address, since this one leaves the machine unencrypted.",
            "Whoever reaches the scheduler can run code as you: start it with the certificates "
            "of 'tomoseg cluster-certs', or give --insecure.",
        )
    tls = security(certificates) if certificates else None
    try:
        client = Client(address, timeout=20, security=tls)
    except (OSError, TimeoutError, ValueError, RuntimeError, TypeError) as error:
        hint = "Start one with 'dask scheduler', and workers with 'dask worker'."
        if urlsplit(address).scheme == "tls":
            hint = "Give its --certificates; they are those that it was started with."
        raise ExecutorError(
            f"{address}: no Dask scheduler answers there ({type(error).__name__}).", hint
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WAIT_SECONDS)
        except TimeoutError as error:
            raise ExecutorError(
                f"{address}: the scheduler had no workers for {WAIT_SECONDS} seconds.",
                "Start some with 'dask worker'.",
            ) from error
        except OSError as error:
            raise ExecutorError(
                f"{address}: the scheduler is gone.", "Start it again, and workers."
            ) from error
        yield client


def _address_in(scheduler_file: str) -> str:
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
