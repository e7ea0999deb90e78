"""``tomoseg benchmark``: the paper's tables and our own, computed and written as a page."""

import os
import shlex
import sys
from pathlib import Path

import click

from tomoseg_cli.console import ProgressReport, common_options, configure_logging, print_result
from tomoseg_cli.running import stop_on_signal

TABLES = ("table1", "table2", "table3", "table4", "figure5", "refine")
"""As in `tomoseg.evaluation.tables`, which loads torch; a test compares them."""

SPLITS = ("validation", "test")


@click.command()
@click.argument("tables", nargs=-1, type=click.Choice((*TABLES, "all")), required=True)
@click.option("--out", required=True, type=click.Path(file_okay=False), help="Folder of results.")
@click.option(
    "--dim",
    "dims",
    type=click.Choice(("2", "3")),
    multiple=True,
    help="Images or volumes; both without.",
)
@click.option(
    "--split",
    type=click.Choice(SPLITS),
    default="test",
    show_default=True,
    help="Complexes to report on, or to choose by.",
)
@click.option(
    "--count",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Tomograms of each data set.",
)
@click.option(
    "--limit", type=click.IntRange(1), help="Tomograms in each table and dimension at most."
)
@click.option("--structures", type=click.Path(), help="Folder of site models; built-in without.")
@click.option("--pictures", type=click.Path(), help="Folder of the ISIC pairs, for table4.")
@click.option("--weights", default="vnet3d", show_default=True, help="Of volumes.")
@click.option("--weights-2d", default="unet2d", show_default=True, help="Of images.")
@click.option("--plain", help="Weights without attention of volumes, for the rows P+B.")
@click.option("--plain-2d", help="Weights without attention of images.")
@click.option("--only", multiple=True, help="Name of a row that is wanted; all without.")
@click.option("--jobs", type=click.IntRange(1), help="Tomograms at once; all cores without.")
@common_options
def benchmark(
    tables: tuple[str, ...],
    out: str,
    dims: tuple[str, ...],
    split: str,
    count: int,
    limit: int | None,
    structures: str | None,
    pictures: str | None,
    weights: str,
    weights_2d: str,
    plain: str | None,
    plain_2d: str | None,
    only: tuple[str, ...],
    jobs: int | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Compare methods on tomograms whose truth is known.

    TABLES are table1 (methods), table2 (parts of ours), table3 (initial classes), table4 (the
    ISIC pairs), figure5, refine (refinements), or all (table4 with --pictures only). Leaves
    results.json, results.md and figures in the folder. Repeat an interrupted command to go
    on; results of other tables in the folder stay.
    """
    configure_logging(quiet=quiet, verbose=verbose)
    from tomoseg.evaluation.suite import Request, run
    from tomoseg.evaluation.tables import Table

    every = tuple(t for t in TABLES if t != "table4" or pictures) if "all" in tables else tables
    chosen: list[Table] = [table for table in TABLES if table in every]  # type: ignore[misc]
    plains = {2: plain_2d, 3: plain}
    request = Request(
        folder=Path(out),
        tables=chosen,
        dims=[int(dim) for dim in dims] or [2, 3],
        split=split,
        count=count,
        limit=limit,
        structures=Path(structures) if structures else None,
        pictures=Path(pictures) if pictures else None,
        weights={2: weights_2d, 3: weights},
        plain={dim: one for dim, one in plains.items() if one},
        jobs=jobs or len(os.sched_getaffinity(0)),
        only=only,
        command=shlex.join(["tomoseg", *sys.argv[1:]]),
    )
    with stop_on_signal("scores") as stop, ProgressReport(quiet=quiet) as progress:
        results = run(request, stop, lambda done, total: progress("benchmark", done, total))
    print_result(results, f"{Path(out) / 'results.md'}", as_json=as_json)
    return 0
