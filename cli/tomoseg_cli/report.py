"""``tomoseg report``: one HTML file that shows what a segmentation is worth."""

from pathlib import Path
from typing import Any

import click

from tomoseg_cli.console import common_options, configure_logging, print_result


@click.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="HTML file to write; NAME.html beside NAME.zarr if not given.",
)
@click.option("--input", "source", help="Where the tomogram lies now, if it was moved.")
@click.option(
    "--particles",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of particles, of any format that pick writes; measured on the mask if not given.",
)
@click.option("--overwrite", is_flag=True, help="Replace the file.")
@common_options
def report(
    output: Path,
    out: Path | None,
    source: str | None,
    particles: Path | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Show an output of segment in one HTML file that opens offline.

    Slices with the mask's outline, the saliency's histogram, particles, provenance, and
    warnings. Made in seconds, whatever the size of the tomogram.
    """
    from tomoseg.report.write import write_report

    configure_logging(quiet=quiet, verbose=verbose)
    result = write_report(output, out, source=source, particles=particles, overwrite=overwrite)
    print_result(result, _text(result), as_json=as_json)
    return 0


def _text(result: dict[str, Any]) -> str:
    warnings = [f"warning: {text}" for text in result["warnings"]]
    said = f"{result['report']}: {result['bytes'] / 1e6:.1f} MB, {result['particles']} particles"
    return "\n".join([*warnings, said])
