"""``tomoseg evaluate``: a saliency or mask against a truth, in numbers."""

import dataclasses
from pathlib import Path
from typing import Any, get_args

import click

from tomoseg.config import PARTICLE_SUFFIXES, Centre, PickConfig
from tomoseg.errors import RequestError
from tomoseg_cli.console import ProgressReport, common_options, configure_logging, print_result


@click.command()
@click.argument("prediction", type=click.Path())
@click.argument("truth", type=click.Path())
@click.option(
    "--array", help="Which array of PREDICTION, of a Zarr hierarchy; labels/mask/0 for the mask."
)
@click.option("--truth-array", help="Which array of TRUTH.")
@click.option(
    "--particles", is_flag=True, help="Compare particles: of a mask, its connected objects."
)
@click.option(
    "--distance", type=click.FloatRange(0), help="Voxels between particles that still match."
)
@click.option("--min-volume", type=float, help="Of a mask's objects, cubic angstrom.")
@click.option("--grid", type=click.Path(), help="The tomogram that two files of particles are of.")
@click.option("--tomo-name", help="Of the tomogram, in files of several.")
@click.option("--voxel-size", type=float, help="Angstrom; overrides the header.")
@click.option("--binning", type=float, help="Unbinned pixels in a voxel, of STAR. 1 by default.")
@click.option(
    "--tomograms", type=click.Path(dir_okay=False, path_type=Path), help="RELION's tomograms.star."
)
@click.option(
    "--centre",
    type=click.Choice(get_args(Centre)),
    default="half",
    show_default=True,
    help="Middle of RELION 5's coordinates.",
)
@common_options
def evaluate(
    prediction: str, truth: str, as_json: bool, quiet: bool, verbose: bool, **flags: Any
) -> int:
    """Score PREDICTION against TRUTH (MRC, Zarr, TIFF or PNG of one shape).

    PREDICTION is saliency (0-255, or 0-1 in floating point) or a mask of 0 and 1; of an
    output of segment the saliency. What is not 0 in TRUTH is inside. Volumes are read block
    by block.

    Particles (STAR, copick JSON, CSV or Parquet with columns z, y, x in voxels, ndjson, Dynamo,
    IMOD) are matched one to one, within --distance. Against a mask, and without --distance, a
    particle counts for the object of the mask that it lies in.
    """
    configure_logging(quiet=quiet, verbose=verbose)
    files = sum(Path(side).suffix.lower() in PARTICLE_SUFFIXES for side in (prediction, truth))
    with ProgressReport(quiet=quiet) as progress:
        if files or flags["particles"]:
            return _print(_particles(prediction, truth, flags, progress), as_json=as_json)
        if flags["distance"] is not None:
            raise RequestError("--distance: expected particles, got volumes; add --particles.")
        from tomoseg.evaluation.evaluate import evaluate as run

        scores = run(
            prediction,
            truth,
            prediction_array=flags["array"],
            truth_array=flags["truth_array"],
            progress=lambda done, total: progress("evaluate", done, total),
        ).to_dict()
    return _print(scores, as_json=as_json)


def _particles(
    prediction: str, truth: str, flags: dict[str, Any], progress: ProgressReport
) -> dict[str, float]:
    from tomoseg.evaluation.particles import Compared, compare
    from tomoseg.io.particle_files import Export, read_tomograms

    tomograms = read_tomograms(flags["tomograms"]) if flags["tomograms"] else None
    same = ("distance", "array", "truth_array", "grid", "voxel_size")
    options = Compared(
        config=PickConfig(min_volume_angstrom3=flags["min_volume"]),
        export=Export(centre=flags["centre"], binning=flags["binning"], tomograms=tomograms),
        name=flags["tomo_name"],
        **{name: flags[name] for name in same},
    )
    found = compare(prediction, truth, options, progress)
    rates = {"precision": found.precision, "recall": found.recall, "f1": found.f1}
    return dataclasses.asdict(found) | rates


def _print(scores: dict[str, float], *, as_json: bool) -> int:
    text = "\n".join(f"{name.replace('_', ' '):20}  {value:.4g}" for name, value in scores.items())
    print_result(scores, text, as_json=as_json)
    return 0
