"""What commands that compute share: stopping on a signal, and an executor on demand."""

import contextlib
import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from tomoseg_cli.console import INTERRUPTED

if TYPE_CHECKING:
    from tomoseg.blockwise.execute import Executor, Resources


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
