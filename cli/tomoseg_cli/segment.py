"""``tomoseg segment``: tomograms in, stitched OME-Zarr masks out."""

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from tomoseg.config import (
    PRESETS,
    ContrastRequest,
    LooksRequest,
    OmeVersion,
    OutputGrid,
    Precision,
    Resample,
    Rule,
    Scope,
    SegmentConfig,
    Unify,
    refinement,
)
from tomoseg.errors import RequestError
from tomoseg_cli.batch import Item, find_items, output_paths
from tomoseg_cli.console import (
    ProgressReport,
    common_options,
    configure_logging,
    print_result,
)
from tomoseg_cli.resources import resource_options, resources_of, share_of
from tomoseg_cli.running import (
    Failed,
    each,
    exit_code,
    open_lazily,
    stop_on_signal,
    summary_text,
    write_table,
)

if TYPE_CHECKING:
    from tomoseg.blockwise.execute import Executor, Resources
    from tomoseg.blockwise.prepared import Prepared
    from tomoseg.blockwise.run import Share
    from tomoseg.blockwise.stages import Progress

DEFAULT = SegmentConfig()

REFINE_FLAGS = (
    "scope", "rule", "iterations", "unify", "classes", "supervoxel_edge", "compactness", "sigma",
)  # fmt: skip


@click.command()
@click.argument("inputs", nargs=-1, required=True)
@click.option(
    "--out",
    required=True,
    help="OME-Zarr folder to write (NAME.zarr); of several inputs the folder that holds them.",
)
@click.option("--array", help="Path of the array in a Zarr input that holds several.")
@click.option(
    "--roi",
    help="Mask on the input's voxels (MRC, Zarr), a lamella's: all else is left out, and shards "
    "without any of it are skipped.",
)
@click.option(
    "--weights", default=DEFAULT.weights, show_default=True, help="Name, file, or random:SEED."
)
@click.option(
    "--preset",
    type=click.Choice(sorted(PRESETS)),
    default="default",
    show_default=True,
    help="Settings of the refinement; the flags below change single ones. default: thorough where "
    "the tomogram is so large that it costs little beside it, else quick.",
)
@click.option(
    "--scope",
    type=click.Choice(get_args(Scope)),
    help="Refine nothing, one set of weights for the volume, or one for each block.",
)
@click.option(
    "--rule",
    type=click.Choice(get_args(Rule)),
    help="Refine by self-training (teacher), or by Algorithm 1 of the paper: which labels are "
    "salient in the end.",
)
@click.option("--iterations", type=int, help="Gradient steps of the refinement at most.")
@click.option(
    "--unify", type=click.Choice(get_args(Unify)), help="What draws labels of Algorithm 1 together."
)
@click.option("--classes", type=int, help="Initial classes of Algorithm 1.")
@click.option("--supervoxel-edge", type=int, help="Edge of the lattice of supervoxel seeds.")
@click.option("--compactness", type=float, help="SLIC's weight of distance against intensity.")
@click.option("--sigma", type=float, help="Smoothing in voxels before SLIC.")
@click.option(
    "--looks",
    type=click.Choice(get_args(LooksRequest)),
    default=DEFAULT.looks,
    show_default=True,
    help="Flips of each window that saliency is the mean of, 8 for all; auto: 2 after "
    "self-training, else 1. Time grows with them.",
)
@click.option("--tta", "looks", flag_value="all", help="The same as --looks all.")
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    default=DEFAULT.precision,
    show_default=True,
    help="Of windows and self-training; bfloat16 takes half the time where 'doctor' lists it.",
)
@click.option(
    "--threshold",
    type=float,
    default=DEFAULT.threshold,
    show_default=True,
    help="Saliency from which a voxel belongs to the mask.",
)
@click.option(
    "--contrast",
    type=click.Choice(get_args(ContrastRequest)),
    default=DEFAULT.contrast,
    show_default=True,
    help="Whether objects are darker or lighter than their surroundings; auto looks.",
)
@click.option("--voxel-size", type=float, help="Angstrom; overrides the header.")
@click.option(
    "--resample",
    type=click.Choice(get_args(Resample)),
    default=DEFAULT.resample,
    show_default=True,
    help="Work at the weights' voxel size where the input's is more than 15 % off.",
)
@click.option(
    "--output-grid",
    type=click.Choice(get_args(OutputGrid)),
    default=DEFAULT.output_grid,
    show_default=True,
    help="Where it was resampled: the mask on the input's voxels, or on the model's.",
)
@click.option(
    "--core",
    type=int,
    help="Edge in voxels of what a window decides: 128 if not given, 64 with --scope block. "
    "64 needs a quarter of the memory, and sees less around.",
)
@click.option(
    "--halo",
    type=int,
    default=DEFAULT.halo,
    show_default=True,
    help="Voxels of real neighbours around a core.",
)
@click.option(
    "--shard",
    type=int,
    default=DEFAULT.shard,
    show_default=True,
    help="Edge of a shard in voxels: one file, one task.",
)
@click.option("--seed", type=int, default=DEFAULT.seed, show_default=True)
@click.option(
    "--ome-version",
    type=click.Choice(get_args(OmeVersion)),
    default=DEFAULT.ome_version,
    show_default=True,
)
@resource_options
@click.option(
    "--table",
    type=click.Path(dir_okay=False, path_type=Path),
    help="CSV file to write of what became of each input.",
)
@click.option("--overwrite", is_flag=True, help="Replace a finished output once this one is.")
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@common_options
def segment(inputs: tuple[str, ...], out: str, as_json: bool, **flags: Any) -> int:
    """Segment tomograms (MRC, OME-Zarr, Zarr; files, folders, globs, copick projects).

    NAME.csv is a table of inputs: columns path, out, array, voxel_size, contrast, roi, of
    which only the first is needed. What is finished already is left as it is.

    Repeat an interrupted command to go on where it stopped.
    """
    configure_logging(quiet=flags["quiet"], verbose=flags["verbose"])
    config, resources, share = _config(flags), resources_of(flags), share_of(flags)
    pairs = output_paths(find_items(inputs), out)
    if flags["roi"] and len(pairs) > 1:
        raise RequestError(
            f"--roi: expected one input with it, got {len(pairs)}.",
            "Give each its own in a table of inputs (NAME.csv, column roi).",
        )
    alone = len(pairs) == 1
    with (
        stop_on_signal("shards") as stop,
        ProgressReport(quiet=flags["quiet"]) as progress,
        open_lazily(resources, stop) as executor,
    ):

        def one(pair: tuple[Item, Path]) -> dict[str, Any]:
            item, output = pair
            own = dataclasses.replace(config, **item.changes)
            prepared = _prepare(item, output, own, resources, flags)
            if flags["dry_run"]:
                return prepared.describe()
            report = progress if alone else progress.of(output.stem)
            return {"input": item.path, **_run(prepared, share, executor(), report)}

        width = 1 if alone or flags["dry_run"] else executor().width
        found = each(pairs, one, stop, name=lambda pair: pair[0].path, alone=alone, width=width)
    results = [
        dataclasses.asdict(result) if isinstance(result, Failed) else result for result in found
    ]
    if flags["table"]:
        _write_table(flags["table"], results)
    return _report(results, len(pairs), as_json=as_json, dry_run=flags["dry_run"])


def _config(flags: dict[str, Any]) -> SegmentConfig:
    chosen = {name: flags[name] for name in REFINE_FLAGS if flags[name] is not None}
    return SegmentConfig(
        weights=flags["weights"],
        refine=refinement(flags["preset"], **chosen),
        looks=flags["looks"],
        precision=flags["precision"],
        threshold=flags["threshold"],
        contrast=flags["contrast"],
        voxel_size_angstrom=flags["voxel_size"],
        resample=flags["resample"],
        output_grid=flags["output_grid"],
        core=flags["core"],
        halo=flags["halo"],
        shard=flags["shard"],
        seed=flags["seed"],
        ome_version=flags["ome_version"],
    )


def _write_table(path: Path, results: list[dict[str, Any]]) -> None:
    """Write a row for each input, as CSV."""
    columns = (
        *("input", "status", "output", "shards", "computed"),
        *("salient_fraction", "seam", "error"),
    )
    rows = []
    for result in results:
        error = result.get("error", {}).get("message", "")
        done = "done" if result.get("computed") else "done before"
        rows.append(result | {"status": "failed" if error else done, "error": error})
    write_table(path, columns, rows)


def _prepare(
    item: Item, output: Path, config: SegmentConfig, resources: "Resources", flags: dict[str, Any]
) -> "Prepared":
    from tomoseg.blockwise.prepare import prepare
    from tomoseg.blockwise.prepared import Request
    from tomoseg.io.volume import open_volume

    roi = item.roi or flags["roi"]
    return prepare(
        Request(
            volume=open_volume(item.path, array=item.array or flags["array"]),
            output=output,
            config=config,
            resources=resources,
            overwrite=flags["overwrite"],
            command=shlex.join(["tomoseg", *sys.argv[1:]]),
            roi=open_volume(roi) if roi else None,
        )
    )


def _run(
    prepared: "Prepared", share: "Share | None", executor: "Executor", progress: "Progress"
) -> dict[str, Any]:
    from tomoseg.blockwise.run import segment as run
    from tomoseg.blockwise.run import segment_share

    if not prepared.card.trained:
        refined = prepared.request.config.refine.scope != "none"
        click.echo(
            f"{prepared.card.name} are untrained, random weights: the saliency "
            + ("rests on refinement alone (the paper's U+B)." if refined else "means nothing."),
            err=True,
        )
    if share:
        return segment_share(prepared, share, executor, progress)
    return dataclasses.asdict(run(prepared, executor, progress))


def _report(results: list[dict[str, Any]], count: int, *, as_json: bool, dry_run: bool) -> int:
    """Print what became of the inputs and return the exit code."""
    text = "\n".join(_text(result, dry_run=dry_run) for result in results)
    errors = [result["error"] for result in results if "error" in result]
    done = len(results) - len(errors)
    if count == done == 1:
        print_result(results[0], text, as_json=as_json)
        return 0
    text += f"\n{done} of {count} done, {len(errors)} failed"
    outcome = {"results": results, "failed": len(errors), "not_begun": count - len(results)}
    print_result(outcome, text, as_json=as_json)
    return exit_code(errors, done=done, count=count)


def _text(result: dict[str, Any], *, dry_run: bool) -> str:
    if "error" in result:
        return f"{result['input']}: {result['error']['message']}"
    if dry_run:
        return "\n".join(f"{key:28} {value}" for key, value in result.items())
    if "seam" not in result:
        return (
            f"{result['output']}: {result['shards']} shards of this share are computed "
            f"({result['computed']} now); 'tomoseg finalize {result['output']}' ends the work"
        )
    return summary_text(result)
