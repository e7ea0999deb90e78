"""Where commands compute: options for workers, clusters, jobs and shares, and their meaning."""

import dataclasses
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tomoseg.errors import RequestError
from tomoseg_cli.running import deadline, parse_bytes

if TYPE_CHECKING:
    from tomoseg.blockwise.clusters import Jobs
    from tomoseg.blockwise.execute import Resources
    from tomoseg.blockwise.run import Share

F = TypeVar("F", bound=Callable[..., Any])


def cluster_options(function: F) -> F:
    """Add the options of processes on this machine and of a scheduler that runs already."""
    options = (
        click.option(
            "--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes."
        ),
        click.option(
            "--memory",
            help="All workers on this machine together, as 16GB; 80 % by default. Of a scheduler "
            "that runs already: one worker.",
        ),
        click.option("--scheduler", help="Address of a running Dask scheduler."),
        click.option(
            "--scheduler-file",
            type=click.Path(dir_okay=False),
            help="Connection file of a Dask scheduler.",
        ),
        click.option(
            "--certificates",
            type=click.Path(file_okay=False, path_type=Path),
            help="Folder of 'tomoseg cluster-certs' that the scheduler was started with.",
        ),
        click.option(
            "--insecure", is_flag=True, help="Allow unencrypted traffic to a remote scheduler."
        ),
    )
    return _with(function, options)


def resource_options(function: F) -> F:
    """Add the options that say where it is computed; none changes a bit of the result."""
    options = (
        click.option(
            "--threads",
            type=click.IntRange(1),
            help="Windows at once in a worker; all cores by default.",
        ),
        click.option(
            "--device",
            default="auto",
            show_default=True,
            help="auto, cpu, cuda or cuda:N of the network.",
        ),
        click.option("--devices", help="CUDA devices, a worker process each, as cuda:0,cuda:1."),
        click.option(
            "--jobqueue", type=click.Choice(["slurm"]), help="Workers that are jobs of a queue."
        ),
        click.option(
            "--jobqueue-config",
            type=click.Path(dir_okay=False, path_type=Path),
            help="TOML file that says what a job asks for (deploy/slurm/jobqueue.toml).",
        ),
        click.option(
            "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Such jobs."
        ),
        click.option(
            "--shard-id", type=int, help="Compute a share alone, from 0: a task of an array."
        ),
        click.option(
            "--num-shards", type=int, help="Such shares; 'tomoseg finalize' ends the work."
        ),
        click.option(
            "--time-limit",
            help="Begin no shard that would not end in time: minutes, H:MM:SS or D-HH:MM:SS from "
            "now. In a Slurm job, what is left of it.",
        ),
    )
    return cluster_options(_with(function, options))


def _with(function: F, options: Sequence[Callable[[F], F]]) -> F:
    for option in reversed(options):
        function = option(function)
    return function


def cluster_of(flags: dict[str, Any]) -> "Resources":
    """Return what the flags of `cluster_options` ask for."""
    from tomoseg.blockwise.execute import Resources

    names = ("workers", "scheduler", "scheduler_file", "certificates", "insecure")
    return Resources(
        memory_bytes=parse_bytes(flags["memory"]), **{name: flags[name] for name in names}
    )


def resources_of(flags: dict[str, Any]) -> "Resources":
    """Return where and on how much the flags want it computed.

    Raises
    ------
    RequestError
        Where they cannot be understood.
    """
    devices = tuple(name.strip() for name in (flags["devices"] or "").split(",") if name.strip())
    if not all(re.fullmatch(r"cuda:\d+", name) for name in devices):
        raise RequestError(f"--devices: expected cuda:0,cuda:1 and so on, got {flags['devices']}.")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", flags["device"]):
        raise RequestError(f"--device: expected auto, cpu, cuda or cuda:N, got {flags['device']}.")
    return dataclasses.replace(
        cluster_of(flags),
        threads=flags["threads"],
        workers=len(devices) or flags["workers"],
        device="cuda" if devices else flags["device"],
        devices=devices,
        jobs=_jobs(flags),
        deadline=deadline(flags["time_limit"]),
    )


def _jobs(flags: dict[str, Any]) -> "Jobs | None":
    """Return what a job asks for, from its TOML file."""
    from tomoseg.blockwise.clusters import Jobs

    path: Path | None = flags["jobqueue_config"]
    if not flags["jobqueue"]:
        if path:
            raise RequestError("--jobqueue-config: expected --jobqueue slurm with it, got none.")
        return None
    try:
        values = tomllib.loads(path.read_text()) if path else {}
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: expected a TOML file, got {error}.") from error
    kinds = {field.name: type(field.default) for field in dataclasses.fields(Jobs)}
    kinds |= dict.fromkeys(("partition", "account", "walltime", "interface"), str)
    del kinds["count"]
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    values |= lists
    for name, value in values.items():
        if name not in kinds:
            raise RequestError(
                f"{path}: {name} is no key of it.", f"Known are {', '.join(sorted(kinds))}."
            )
        if not isinstance(value, kinds[name]):
            wanted = {str: "text", int: "a whole number", tuple: "a list of texts"}[kinds[name]]
            raise RequestError(f"{path}: expected {name} to be {wanted}, got {value!r}.")
    parse_bytes(values.get("memory"), f"{path}: memory")
    return Jobs(count=flags["jobs"], **values)


def share_of(flags: dict[str, Any]) -> "Share | None":
    """Return which share of a tomogram this process computes; None for all of it.

    Raises
    ------
    RequestError
        Where the flags do not say one.
    """
    from tomoseg.blockwise.run import Share

    number, count = flags["shard_id"], flags["num_shards"]
    if number is None and count is None:
        return None
    if number is None or count is None:
        raise RequestError("--shard-id and --num-shards: expected both or neither, got one.")
    if flags["overwrite"]:
        raise RequestError(
            "--overwrite: expected no --shard-id with it, for the tasks would undo each other.",
            "Remove the old output first.",
        )
    return Share(number, count)
