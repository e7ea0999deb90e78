"""``tomoseg evaluate``: a saliency or mask against a truth, in numbers."""

import click

from tomoseg_cli.console import ProgressReport, common_options, configure_logging, print_result


@click.command()
@click.argument("prediction", type=click.Path())
@click.argument("truth", type=click.Path())
@click.option(
    "--array", help="Which array of PREDICTION, of a Zarr hierarchy; labels/mask/0 for the mask."
)
@click.option("--truth-array", help="Which array of TRUTH.")
@common_options
def evaluate(
    prediction: str,
    truth: str,
    array: str | None,
    truth_array: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Score PREDICTION against TRUTH (MRC, Zarr, TIFF or PNG of one shape).

    PREDICTION is saliency (0-255, or 0-1 in floating point) or a mask of 0 and 1; of an
    output of segment the saliency. What is not 0 in TRUTH is inside. Volumes are read block
    by block.
    """
    configure_logging(quiet=quiet, verbose=verbose)
    from tomoseg.evaluation.evaluate import evaluate as run

    with ProgressReport(quiet=quiet) as progress:
        scores = run(
            prediction,
            truth,
            prediction_array=array,
            truth_array=truth_array,
            progress=lambda done, total: progress("evaluate", done, total),
        ).to_dict()
    text = "\n".join(f"{name.replace('_', ' '):20}  {value:.4f}" for name, value in scores.items())
    print_result(scores, text, as_json=as_json)
    return 0
