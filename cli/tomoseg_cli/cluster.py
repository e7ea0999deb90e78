"""``tomoseg cluster-certs``: the certificates of a Dask cluster of one's own."""

from pathlib import Path

import click

from tomoseg_cli.console import common_options, configure_logging, print_result


@click.command("cluster-certs")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--days", type=click.IntRange(1), default=365, show_default=True, help="Until they expire."
)
@common_options
def cluster_certs(folder: Path, days: int, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Make certificates with which scheduler, workers and segment trust each other alone.

    \b
    tomoseg cluster-certs certs
    DASK_CONFIG=certs dask scheduler --scheduler-file dask.json --dashboard-address 127.0.0.1:0
    DASK_CONFIG=certs dask worker --scheduler-file dask.json --dashboard-address 127.0.0.1:0
    tomoseg segment IN --out OUT.zarr --scheduler-file dask.json --certificates certs

    Whoever can read the folder can run code as you: keep it to yourself.
    """
    from tomoseg.blockwise.certificates import make_certificates

    configure_logging(quiet=quiet, verbose=verbose)
    make_certificates(folder, days=days)
    print_result({"folder": str(folder), "days": days}, str(folder), as_json=as_json)
    return 0
