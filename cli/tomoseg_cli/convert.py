"""``tomoseg convert``: MRC and OME-Zarr both ways, the header kept; TIFF and copick out."""

from pathlib import Path
from typing import Any, get_args

import click

from tomoseg.config import OmeVersion, SegmentConfig
from tomoseg.errors import RequestError
from tomoseg_cli.console import ProgressReport, common_options, configure_logging, print_result


@click.command()
@click.argument("source")
@click.argument("destination", required=False)
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
@click.option(
    "--copick",
    type=click.Path(path_type=Path),
    help="Copick project to write the mask to, in place of DESTINATION.",
)
@click.option(
    "--object", "object_name", default="salient", show_default=True, help="Name in copick."
)
@click.option("--user", default="tomoseg", show_default=True, help="Of copick.")
@click.option("--session", default="0", show_default=True, help="Of copick.")
@click.option("--tomo-name", help="Of the tomogram in copick; else the file's.")
@click.option("--overwrite", is_flag=True, help="Replace DESTINATION once the new one is whole.")
@common_options
def convert(
    source: str, destination: str | None, as_json: bool, quiet: bool, verbose: bool, **flags: Any
) -> int:
    """Convert SOURCE (MRC, OME-Zarr, Zarr) to DESTINATION (NAME.mrc, NAME.zarr or NAME.tif).

    Voxel size, origin and start indices are kept; the volume is never read whole.
    """
    from tomoseg.io.convert import convert as run

    configure_logging(quiet=quiet, verbose=verbose)
    if (destination is None) == (flags["copick"] is None):
        raise RequestError("convert: expected either DESTINATION or --copick PROJECT.")
    settings = {
        "array": flags["array"],
        "version": flags["ome_version"],
        "shard": flags["shard"],
        "voxel_size_angstrom": flags["voxel_size"],
        "overwrite": flags["overwrite"],
    }
    if flags["copick"]:
        destination, more = _copick(source, flags)
        settings |= more
    assert destination is not None
    with ProgressReport(quiet=quiet) as progress:
        result = run(
            source,
            destination,
            progress=lambda done, total: progress("convert", done, total),
            **settings,
        )
    text = ", ".join(f"{key} {value}" for key, value in result.items())
    print_result(result, text, as_json=as_json)
    return 0


def _copick(source: str, flags: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Describe the project, and return where a mask goes in it and how it is written there."""
    from tomoseg.io.copick import ensure_project, segmentation_path
    from tomoseg.io.particle_files import Export
    from tomoseg.particles.target import open_target

    export = Export(object_name=flags["object_name"], user=flags["user"], session=flags["session"])
    target = open_target(source, array=flags["array"], voxel_size=flags["voxel_size"])
    run = flags["tomo_name"] or target.name
    path = segmentation_path(flags["copick"], run, target.voxel_size_angstrom[2], export)
    ensure_project(flags["copick"], export, is_particle=False)
    array = flags["array"] or target.mask.array or None
    return str(path), {"version": "0.4", "array": array, "categorical": True}
