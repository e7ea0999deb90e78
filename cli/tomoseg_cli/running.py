"""What commands that compute share: when to stop, an executor on demand, many works, words."""

import contextlib
import csv
import functools
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tomoseg.errors import ExecutorError, RequestError, Stopped, TomosegError
from tomoseg.io.storage import storage_errors
from tomoseg_cli.console import INTERRUPTED, describe_error, error_as_dict

if TYPE_CHECKING:
    from tomoseg.blockwise.execute import Executor, Resources


T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Failed:
    """One of several works that came to no result.

    Parameters
    ----------
    input
        What it was for.
    error
        Plain JSON values, as `tomoseg_cli.console.error_as_dict` has them.
    """

    input: str
    error: dict[str, Any]


def each(
    items: Sequence[T],
    work: Callable[[T], R],
    stop: threading.Event,
    *,
    name: Callable[[T], str],
    alone: bool,
    width: int = 1,
) -> list[R | Failed]:
    """Return what became of each; one that fails does not hold up the rest.

    Parameters
    ----------
    items, work
        What is done, and with what.
    stop
        Once it is set no other one is begun.
    name
        What an item is called.
    alone
        Whether there is but one, whose error is raised.
    width
        How many are worked on at once.

    Raises
    ------
    ExecutorError
        Where none can be done.
    """

    def one(item: T) -> R | Failed | None:
        if stop.is_set():
            return None
        try:
            return work(item)
        except Exception as error:
            if alone or isinstance(error, ExecutorError):
                raise
            click.echo(f"{name(item)}: {describe_error(error)}", err=True)
            return Failed(name(item), error_as_dict(error))

    with ThreadPoolExecutor(width, "tomogram") as pool:
        every = pool.map(one, items) if width > 1 else map(one, items)
        return [result for result in every if result is not None]


def exit_code(errors: Sequence[dict[str, Any]], *, done: int, count: int) -> int:
    """Return the exit code of a command of whose `count` works `done` are done."""
    if done == count:
        return 0
    resumable = any(error["exit_code"] == Stopped.exit_code for error in errors)
    every = len(errors) == count
    return TomosegError.exit_code if every and not resumable else Stopped.exit_code


def write_table(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Write a row for each work, as CSV; of a row what is no column is left out."""
    with storage_errors("Writing", path), path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(rows)


@contextlib.contextmanager
def stop_on_signal(units: str) -> Iterator[threading.Event]:
    """Stop between units of work on Ctrl-C or SIGTERM; at once on the second one.

    Parameters
    ----------
    units
        What is finished before the stop, in the plural: ``"shards"``.
    """
    stop = threading.Event()

    def handle(number: int, _: object) -> None:
        if stop.is_set():
            os._exit(INTERRUPTED)  # every command's records make any instant a safe one
        stop.set()
        click.echo(
            f"Stopping after the {units} that are being computed; once more stops at once.",
            err=True,
        )

    before = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def open_lazily(
    resources: "Resources", stop: threading.Event
) -> "Iterator[Callable[[], Executor]]":
    """Yield a function that opens the executor when it is first asked for one."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def executor() -> "Executor":
            from tomoseg.blockwise.execute import open_executor

            return stack.enter_context(open_executor(resources, stop))

        yield executor


def parse_bytes(text: str | None, what: str = "--memory") -> int | None:
    """Return the bytes that a size like ``16GB`` or ``900MiB`` means."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*([0-9.]+)\s*([kMGT]?)(i?)B?\s*", text, re.IGNORECASE)
    if not match:
        raise RequestError(f"{what}: expected a size like 16GB, got {text}.")
    number, prefix, binary = match.groups()
    base = 1024 if binary else 1000
    return int(float(number) * base ** " kmgt".index(prefix.lower() or " "))


def deadline(time_limit: str | None) -> float | None:
    """Return when this process will be killed, in seconds of the epoch; None for never.

    Parameters
    ----------
    time_limit
        As Slurm writes it (minutes, H:MM:SS, D-HH:MM:SS), from now on; None for what Slurm
        says of the job that this is part of, if it is.

    Raises
    ------
    RequestError
        Where it is none.
    """
    if time_limit is None:
        end = os.environ.get("SLURM_JOB_END_TIME", "")
        return float(end) if end.isdigit() else None
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(?:(\d+):)?(\d+)", time_limit)
    days, *parts = match.groups() if match else ("", "", "", "")
    numbers = [int(part) for part in parts if part]
    if not numbers or (len(numbers) == 2 and not days):
        raise RequestError(
            f"--time-limit: expected minutes, H:MM:SS or D-HH:MM:SS, got {time_limit}."
        )
    if days:
        numbers += [0] * (3 - len(numbers))  # D-HH, D-HH:MM
    elif len(numbers) == 1:
        numbers = [0, numbers[0], 0]
    hours, minutes, seconds = numbers
    return time.time() + ((24 * int(days or 0) + hours) * 60 + minutes) * 60 + seconds


def summary_text(result: dict[str, Any]) -> str:
    """Return what a finished run says, as one line."""
    seam = "one block" if result["seam"] is None else f"{result['seam']:.3f}"
    return (
        f"{result['output']}: {result['shards']} shards ({result['computed']} computed now), "
        f"{100 * result['salient_fraction']:.2f} % salient, seam measure {seam}"
    )
