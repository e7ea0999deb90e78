"""What every command shares: options, logs, progress, JSON, errors and exit codes.

Results go to stdout, logs and progress to stderr. Loads neither torch nor dask.
"""

import json
import logging
import os
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tomoseg.errors import TomosegError

F = TypeVar("F", bound=Callable[..., Any])

INTERRUPTED = 130
PLAIN_SECONDS = 10.0
"""Seconds between two plain progress lines, where stderr is no terminal."""


def common_options(function: F) -> F:
    """Add the options that every command has."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout."),
        click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors on stderr."),
        click.option("-v", "--verbose", is_flag=True, help="More on stderr."),
        click.option(
            "--config",
            type=click.Path(dir_okay=False),
            callback=_read_config,
            is_eager=True,
            expose_value=False,
            help="TOML file with a table for this command; flags and TOMOSEG_* win.",
        ),
    ):
        function = option(function)
    return function


def _read_config(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is None:
        return
    try:
        tables = tomllib.loads(Path(value).read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"expected a TOML file, got {error}.") from error
    name = context.command.name or ""
    settings = tables.get(name, {})
    known = {
        option.removeprefix("--"): p.name
        for p in context.command.params
        for option in p.opts
        if option.startswith("--") and p is not parameter
    }
    unknown = sorted(settings.keys() - known.keys())
    if unknown:
        raise click.BadParameter(
            f"[{name}] has unknown keys {', '.join(unknown)}; known are {', '.join(sorted(known))}."
        )
    defaults = {known[key]: value for key, value in settings.items()}
    context.default_map = {**(context.default_map or {}), **defaults}


def configure_logging(*, quiet: bool, verbose: bool) -> None:
    """Send the log of tomoseg to stderr; other libraries only warn."""
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logging.captureWarnings(True)
    logging.getLogger("tomoseg").setLevel(level)
    # zarr and dask tell of what a user of tomoseg cannot act on; dask configures its own
    # logging when it is loaded, here and in its workers, from the environment
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "error")
    # its client has a level of its own, and tells of a lost scheduler by tracebacks
    logging.getLogger("distributed.client").disabled = not verbose


class ProgressReport:
    """Progress on stderr: a bar on a terminal, a plain line now and then elsewhere.

    Parameters
    ----------
    quiet
        Whether to say nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}
        self._said: dict[str, float] = {}

    def __enter__(self) -> "ProgressReport":
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def of(self, name: str) -> Callable[[str, int, int], None]:
        """Return a report of the progress of one of several works."""
        return lambda stage, done, total: self(f"{name}: {stage}", done, total)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` are done in a stage."""
        if self._bar is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bar.add_task(stage, total=total)
            self._bar.update(self._tasks[stage], completed=done, total=total)
        elif not self._quiet:
            self._say(stage, done, total)

    def _say(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        due = now - self._said.get(stage, -PLAIN_SECONDS) >= PLAIN_SECONDS
        if done == total or due:
            self._said[stage] = now
            click.echo(f"{stage} {done}/{total}", err=True)


def print_result(result: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Print a result on stdout, as one JSON object or as text."""
    click.echo(json.dumps(result, indent=2) if as_json else text)


def report_error(error: Exception, *, as_json: bool) -> None:
    """Report an error on stderr, and as JSON on stdout where asked."""
    click.echo(f"Error: {describe_error(error)}", err=True)
    if as_json:
        click.echo(json.dumps({"error": error_as_dict(error)}, indent=2))


def describe_error(error: Exception) -> str:
    """Return an error as one line for a user."""
    if isinstance(error, TomosegError):
        return str(error)
    if os.environ.get("TOMOSEG_DEBUG"):
        logging.getLogger("tomoseg").error("internal error", exc_info=error)
    return (
        f"internal error: {type(error).__name__}: {error}. "
        "This is a fault of tomoseg, please report it; TOMOSEG_DEBUG=1 shows where it happened."
    )


def error_as_dict(error: Exception) -> dict[str, Any]:
    """Return an error as plain JSON values."""
    if isinstance(error, TomosegError):
        return {
            "type": type(error).__name__,
            "message": error.message,
            "hint": error.hint,
            "exit_code": error.exit_code,
        }
    return {"type": type(error).__name__, "message": str(error), "hint": "", "exit_code": 1}
