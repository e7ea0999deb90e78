"""``tomoseg convert``: MRC and OME-Zarr both ways, the header kept."""

from typing import get_args

import click

from tomoseg.config import OmeVersion, SegmentConfig
from tomoseg_cli.console import ProgressReport, common_options, configure_logging, print_result


@click.command()
@click.argument("source")
@click.argument("destination")
@click.option(
    "--array",
    help="Of an output of segment: mask (the default) or saliency; else the path of an array.",
)
@click.option("--voxel-size", type=float, help="Angstrom; overrides the header.")
@click.option(
    "--ome-version",
    type=click.Choice(get_args(OmeVersion)),
    default=SegmentConfig.ome_version,
    show_default=True,
)
@click.option("--shard", type=int, default=SegmentConfig.shard, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace DESTINATION once the new one is whole.")
@common_options
def convert(
    source: str,
    destination: str,
    array: str | None,
    voxel_size: float | None,
    ome_version: OmeVersion,
    shard: int,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Convert SOURCE (MRC, OME-Zarr, Zarr) to DESTINATION (NAME.mrc or NAME.zarr).

    Voxel size, origin and start indices are kept; the volume is never read whole.
    """
    from tomoseg.io.convert import convert as run

    configure_logging(quiet=quiet, verbose=verbose)
    with ProgressReport(quiet=quiet) as progress:
        result = run(
            source,
            destination,
            array=array,
            version=ome_version,
            shard=shard,
            voxel_size_angstrom=voxel_size,
            overwrite=overwrite,
            progress=lambda done, total: progress("convert", done, total),
        )
    text = ", ".join(f"{key} {value}" for key, value in result.items())
    print_result(result, text, as_json=as_json)
    return 0
