"""``tomoseg status``: how far an output is, what failed, whether its bits are right."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tomoseg.errors import Stopped, TomosegError
from tomoseg_cli.console import ProgressReport, common_options, configure_logging, print_result

if TYPE_CHECKING:
    from tomoseg.blockwise.status import Status


@click.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--verify",
    is_flag=True,
    help="Compare every finished shard with its sha256, and the input with what was segmented.",
)
@common_options
def status(output: Path, verify: bool, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Tell how far an output of segment is, and how to go on.

    Exit code 0 where it is complete, 3 where it is not, 1 where shards are damaged or the
    input has changed.
    """
    from tomoseg.blockwise.status import read_status

    configure_logging(quiet=quiet, verbose=verbose)
    with ProgressReport(quiet=quiet) as progress:
        found = read_status(output, verify=verify, progress=progress)
    print_result(dataclasses.asdict(found), _text(found), as_json=as_json)
    if found.damaged or found.input_changed:
        return TomosegError.exit_code
    return 0 if found.complete else Stopped.exit_code


def _text(status: "Status") -> str:
    state = "complete" if status.complete else "not complete"
    lines = [f"{status.output}: {state}, {status.done} of {status.shards} shards done"]
    lines += [f"shard {number} failed: {error}" for number, error in status.failed.items()]
    lines += [f"shard {number} is damaged" for number in status.damaged]
    if status.input_changed:
        lines.append(f"the input is not what was segmented: {', '.join(status.input_changed)}")
    if not status.complete:
        lines.append(f"To go on: {status.command}")
    return "\n".join(lines)
