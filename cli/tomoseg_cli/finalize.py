"""``tomoseg finalize``: from the shards of an array's tasks to a finished output."""

import dataclasses
from pathlib import Path

import click

from tomoseg_cli.console import ProgressReport, common_options, configure_logging, print_result
from tomoseg_cli.running import deadline, open_lazily, parse_bytes, stop_on_signal, summary_text


@click.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@click.option("--memory", help="All workers together, as 16GB; 80 % of this machine by default.")
@click.option("--time-limit", help="As for segment.")
@common_options
def finalize(
    output: Path,
    workers: int,
    memory: str | None,
    time_limit: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Finish an output whose shards were computed by 'segment --shard-id ...'.

    Exit code 3 where some are missing; the same command goes on once they are there.
    """
    from tomoseg.blockwise.execute import Resources
    from tomoseg.blockwise.prepare import prepare_again
    from tomoseg.blockwise.run import require_shares, segment

    configure_logging(quiet=quiet, verbose=verbose)
    resources = Resources(
        workers=workers, memory_bytes=parse_bytes(memory), deadline=deadline(time_limit)
    )
    with (
        stop_on_signal("shards") as stop,
        ProgressReport(quiet=quiet) as progress,
        open_lazily(resources, stop) as executor,
    ):
        prepared = prepare_again(output, resources)
        require_shares(prepared)
        summary = dataclasses.asdict(segment(prepared, executor(), progress))
    print_result(summary, summary_text(summary), as_json=as_json)
    return 0
