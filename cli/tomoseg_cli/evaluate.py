"""``tomoseg evaluate``: a saliency or mask against a truth, in numbers."""

import dataclasses
from pathlib import Path

import click

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
    "--distance", type=click.FloatRange(0), help="Voxels between particles that still match."
)
@common_options
def evaluate(
    prediction: str,
    truth: str,
    array: str | None,
    truth_array: str | None,
    distance: float | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Score PREDICTION against TRUTH (MRC, Zarr, TIFF or PNG of one shape).

    PREDICTION is saliency (0-255, or 0-1 in floating point) or a mask of 0 and 1; of an
    output of segment the saliency. What is not 0 in TRUTH is inside. Volumes are read block
    by block. Two CSV tables with columns z, y, x (voxels) are particles: they are matched one
    to one, within --distance.
    """
    configure_logging(quiet=quiet, verbose=verbose)
    if prediction.endswith(".csv") and truth.endswith(".csv"):
        scores = _particles(Path(prediction), Path(truth), distance)
        return _print(scores, as_json=as_json)
    if distance is not None:
        raise RequestError("--distance: expected two CSV tables of particles, got volumes.")
    from tomoseg.evaluation.evaluate import evaluate as run

    with ProgressReport(quiet=quiet) as progress:
        scores = run(
            prediction,
            truth,
            prediction_array=array,
            truth_array=truth_array,
            progress=lambda done, total: progress("evaluate", done, total),
        ).to_dict()
    return _print(scores, as_json=as_json)


def _particles(prediction: Path, truth: Path, distance: float | None) -> dict[str, float]:
    from tomoseg.evaluation.particles import match, read_centres

    if distance is None:
        raise RequestError(
            "evaluate: expected --distance for particles, got none.", "Half a diameter is usual."
        )
    found = match(read_centres(prediction), read_centres(truth), distance)
    rates = {"precision": found.precision, "recall": found.recall, "f1": found.f1}
    return dataclasses.asdict(found) | rates


def _print(scores: dict[str, float], *, as_json: bool) -> int:
    text = "\n".join(f"{name.replace('_', ' '):20}  {value:.4g}" for name, value in scores.items())
    print_result(scores, text, as_json=as_json)
    return 0
