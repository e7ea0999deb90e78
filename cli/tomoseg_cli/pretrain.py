"""``tomoseg pretrain``: simulated tomograms in, weights with a card out."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from tomoseg.config import Precision
from tomoseg.errors import RequestError
from tomoseg.pretrain.recipe import Preset, Recipe, preset
from tomoseg.saliency.architecture import Architecture
from tomoseg_cli.console import common_options, configure_logging, print_result
from tomoseg_cli.running import stop_on_signal

if TYPE_CHECKING:
    from tomoseg.pretrain.samples import Tomograms

VALIDATION_TOMOGRAMS = 24
"""That are chosen by where all are made on the fly."""


@click.command()
@click.argument("data", type=click.Path(file_okay=False), nargs=-1)
@click.option(
    "--validation",
    type=click.Path(file_okay=False),
    help="Simulated tomograms that the best weights are chosen by.",
)
@click.option(
    "--on-the-fly",
    type=click.IntRange(1),
    metavar="COUNT",
    help="Instead of DATA and --validation: simulate so many tomograms while training.",
)
@click.option("--structures", help="With --on-the-fly: folder of site models.")
@click.option("--membranes", help="With --on-the-fly: archive (.npz) of segmented membranes.")
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False),
    help="Folder of weights, checkpoint and curve; repeat the command to go on.",
)
@click.option(
    "--dim",
    type=click.Choice(["2", "3"]),
    default="3",
    show_default=True,
    help="Train on slices or on volumes.",
)
@click.option("--steps", type=click.IntRange(1), default=4000, show_default=True)
@click.option("--max-minutes", type=float, help="Stop, resumably, after so long.")
@click.option(
    "--preset",
    "preset_name",
    type=click.Choice(get_args(Preset)),
    default="default",
    show_default=True,
    help="Settings of the training; the flags below change single ones.",
)
@click.option("--seed", type=click.IntRange(0), default=Recipe.seed, show_default=True)
@click.option("--batch", type=click.IntRange(1), help="Windows per step.")
@click.option("--window", type=click.IntRange(16), help="Edge of a window in voxels.")
@click.option("--learning-rate", type=float, help="At its peak.")
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    help="bfloat16 mixes precisions: for a GPU, and CPUs that have it.",
)
@click.option(
    "--base-channels",
    type=click.IntRange(1),
    help="Channels at full resolution; weights of --init are widened to them.",
)
@click.option("--init", help="Weights to start from: name or file; random ones by default.")
@click.option(
    "--attend-from",
    type=click.IntRange(0, 4),
    default=Architecture.finest_attention,
    show_default=True,
    help="Finest level of the decoder that attends; 0, full resolution, in the paper.",
)
@click.option("--plain", is_flag=True, help="Without attention: the paper's ablation of U.")
@click.option(
    "--deepen",
    is_flag=True,
    help="Give the weights of --init the preset's convolutions in the decoder.",
)
@click.option(
    "--freeze-norm-at",
    type=click.FloatRange(0, 1),
    help="Share of the steps after which normalisation is frozen; 0 to fine-tune.",
)
@click.option("--validate-every", type=click.IntRange(1), help="Steps between validations.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="Groups of windows at once on a CPU; all cores by default. Does not change the weights.",
)
@click.option("--overwrite", is_flag=True, help="Start anew in a folder that holds a training.")
@common_options
def pretrain(
    data: tuple[str, ...],
    validation: str | None,
    out: str,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **flags: Any,
) -> int:
    """Train a network on all of DATA, made by "tomoseg simulate", or on the fly.

    Repeat a stopped command to go on: the weights have the same bits as without a stop.
    """
    configure_logging(quiet=quiet, verbose=verbose)
    recipe = _recipe(flags)
    from tomoseg.pretrain.train import Request, train

    training, choosing, names = _tomograms(data, validation, flags)
    request = Request(
        recipe=recipe,
        training=training,
        validation=choosing,
        names=names,
        folder=Path(out),
        init=flags["init"],
        deepen=flags["deepen"],
        widen=flags["base_channels"] is not None,
        device=flags["device"],
        lanes=flags["threads"] or len(os.sched_getaffinity(0)),
        max_minutes=flags["max_minutes"],
        overwrite=flags["overwrite"],
    )
    with stop_on_signal("steps") as stop:
        outcome = train(request, stop)
    text = (
        f"{outcome.weights}: best of {outcome.steps} steps after {outcome.best_step}, "
        f"maximum F {outcome.scores.maximum_f:.3f} on {request.names[1]}"
    )
    print_result(dataclasses.asdict(outcome), text, as_json=as_json)
    return 0


def _tomograms(
    data: tuple[str, ...], validation: str | None, flags: dict[str, Any]
) -> "tuple[Tomograms, Tomograms, tuple[str, str]]":
    from tomoseg.pretrain.samples import Joined
    from tomoseg.simulate.dataset import Simulated, open_dataset
    from tomoseg.simulate.sample import PRESETS

    count = flags["on_the_fly"]
    library = {name: flags[name] for name in ("structures", "membranes") if flags[name]}
    if count is None and data and validation and not library:
        names = (" + ".join(Path(one).name for one in data), Path(validation).name)
        training = Joined([open_dataset(Path(one)) for one in data])
        return training, open_dataset(Path(validation)), names
    if count is None or data or validation:
        raise RequestError(
            "pretrain: expected DATA and --validation, or --on-the-fly COUNT with --structures "
            "and --membranes where wanted, got a part of one or both.",
            "Make data with 'tomoseg simulate', or let it be made while training.",
        )
    config = dataclasses.replace(PRESETS["pretrain"], count=count, **library)
    choosing = dataclasses.replace(config, count=VALIDATION_TOMOGRAMS, split="validation")
    return Simulated(config), Simulated(choosing), ("made on the fly",) * 2


def _recipe(flags: dict[str, Any]) -> Recipe:
    names = ("batch", "window", "learning_rate", "precision", "freeze_norm_at", "validate_every")
    changes = {name: flags[name] for name in names if flags[name] is not None}
    dim = int(flags["dim"])
    usual = preset(flags["preset_name"], dim, 1).architecture
    channels = flags["base_channels"] or usual.base_channels
    changes["architecture"] = dataclasses.replace(
        usual,
        base_channels=channels,
        attention=not flags["plain"],
        finest_attention=flags["attend_from"],
    )
    if flags["deepen"] and not flags["init"]:
        raise RequestError("--deepen: expected --init with the weights to deepen, got none.")
    return preset(flags["preset_name"], dim, flags["steps"], seed=flags["seed"], **changes)
