"""``tomoseg segment``: tomograms in, stitched OME-Zarr masks out."""

import dataclasses
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from tomoseg.config import (
    PRESETS,
    ContrastRequest,
    OmeVersion,
    OutputGrid,
    RefineConfig,
    Resample,
    Rule,
    Scope,
    SegmentConfig,
    Unify,
)
from tomoseg.errors import ExecutorError, RequestError, Stopped, TomosegError
from tomoseg_cli.console import (
    ProgressReport,
    common_options,
    configure_logging,
    describe_error,
    error_as_dict,
    print_result,
)
from tomoseg_cli.running import open_lazily, stop_on_signal

if TYPE_CHECKING:
    from tomoseg.blockwise.execute import Executor, Resources
    from tomoseg.blockwise.prepare import Prepared

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
    "--weights", default=DEFAULT.weights, show_default=True, help="Name, file, or random:SEED."
)
@click.option(
    "--preset",
    type=click.Choice(sorted(PRESETS)),
    default="default",
    show_default=True,
    help="Settings of the refinement; the flags below change single ones.",
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
    "--tta", is_flag=True, help="Mean over the 8 flips of each window: a little better, 8 x slower."
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
    "--halo",
    type=int,
    default=DEFAULT.halo,
    show_default=True,
    help="Voxels of real neighbours around a block.",
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
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="Windows at once in a worker; all cores by default.",
)
@click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N of the network."
)
@click.option("--memory", help="All workers on this machine together, as 16GB; 80 % by default.")
@click.option("--scheduler", help="Address of a running Dask scheduler.")
@click.option(
    "--scheduler-file", type=click.Path(dir_okay=False), help="Connection file of a Dask scheduler."
)
@click.option("--insecure", is_flag=True, help="Allow unencrypted traffic to a remote scheduler.")
@click.option("--overwrite", is_flag=True, help="Replace a finished output once this one is.")
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@common_options
def segment(inputs: tuple[str, ...], out: str, as_json: bool, **flags: Any) -> int:
    """Segment tomograms (MRC, OME-Zarr, Zarr; files, folders, globs).

    Repeat an interrupted command to go on where it stopped.
    """
    configure_logging(quiet=flags["quiet"], verbose=flags["verbose"])
    config, resources = _config(flags), _resources(flags)
    pairs = output_paths(_find(inputs), out)
    results: list[dict[str, Any]] = []
    with (
        stop_on_signal("shards") as stop,
        ProgressReport(quiet=flags["quiet"]) as progress,
        open_lazily(resources, stop) as executor,
    ):
        for path, output in pairs:
            if stop.is_set():
                break
            try:
                prepared = _prepare(path, output, config, resources, flags)
                if flags["dry_run"]:
                    results.append(prepared.describe())
                else:
                    results.append(_run(prepared, executor(), progress))
            except Exception as error:
                if len(pairs) == 1 or isinstance(error, ExecutorError):
                    raise
                click.echo(f"{path}: {describe_error(error)}", err=True)
                results.append({"input": path, "error": error_as_dict(error)})
    return _report(results, len(pairs), as_json=as_json, dry_run=flags["dry_run"])


def _find(inputs: tuple[str, ...]) -> list[str]:
    from tomoseg.io.volume import find_inputs

    return find_inputs(inputs)


def output_paths(inputs: list[str], out: str) -> list[tuple[str, Path]]:
    """Pair every input with its output.

    Raises
    ------
    RequestError
        Where two inputs would be written to one output, or several to a ``.zarr``.
    """
    target = Path(out)
    if target.suffix == ".zarr":
        if len(inputs) > 1:
            raise RequestError(
                f"--out {out}: expected a folder for {len(inputs)} inputs, got one .zarr.",
                "Give a folder; each output is called after its input.",
            )
        return [(inputs[0], target)]
    pairs = [(path, target / f"{Path(path).stem}.zarr") for path in inputs]
    outputs = [output for _, output in pairs]
    twice = sorted({str(output) for output in outputs if outputs.count(output) > 1})
    if twice:
        raise RequestError(
            f"--out {out}: expected inputs of different names, found several for {twice[0]}.",
            "Segment them one by one, or into several folders.",
        )
    return pairs


def _config(flags: dict[str, Any]) -> SegmentConfig:
    chosen = {name: flags[name] for name in REFINE_FLAGS if flags[name] is not None}
    refine: RefineConfig = dataclasses.replace(PRESETS[flags["preset"]], **chosen)
    return SegmentConfig(
        weights=flags["weights"],
        refine=refine,
        tta=flags["tta"],
        threshold=flags["threshold"],
        contrast=flags["contrast"],
        voxel_size_angstrom=flags["voxel_size"],
        resample=flags["resample"],
        output_grid=flags["output_grid"],
        halo=flags["halo"],
        shard=flags["shard"],
        seed=flags["seed"],
        ome_version=flags["ome_version"],
    )


def _resources(flags: dict[str, Any]) -> "Resources":
    from tomoseg.blockwise.execute import Resources

    names = ("workers", "threads", "device", "scheduler", "scheduler_file", "insecure")
    return Resources(
        memory_bytes=parse_bytes(flags["memory"]), **{name: flags[name] for name in names}
    )


def parse_bytes(text: str | None) -> int | None:
    """Return the bytes that a size like ``16GB`` or ``900MiB`` means."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*([0-9.]+)\s*([kMGT]?)(i?)B?\s*", text, re.IGNORECASE)
    if not match:
        raise RequestError(f"--memory: expected a size like 16GB, got {text}.")
    number, prefix, binary = match.groups()
    base = 1024 if binary else 1000
    return int(float(number) * base ** " kmgt".index(prefix.lower() or " "))


def _prepare(
    path: str, output: Path, config: SegmentConfig, resources: "Resources", flags: dict[str, Any]
) -> "Prepared":
    from tomoseg.blockwise.prepare import Request, prepare
    from tomoseg.io.volume import open_volume

    return prepare(
        Request(
            volume=open_volume(path, array=flags["array"]),
            output=output,
            config=config,
            resources=resources,
            overwrite=flags["overwrite"],
            command=shlex.join(["tomoseg", *sys.argv[1:]]),
        )
    )


def _run(prepared: "Prepared", executor: "Executor", progress: ProgressReport) -> dict[str, Any]:
    from tomoseg.blockwise.run import segment as run

    if not prepared.card.trained:
        refined = prepared.request.config.refine.scope != "none"
        click.echo(
            f"{prepared.card.name} are untrained, random weights: the saliency "
            + ("rests on refinement alone (the paper's U+B)." if refined else "means nothing."),
            err=True,
        )
    return dataclasses.asdict(run(prepared, executor, progress))


def _report(results: list[dict[str, Any]], count: int, *, as_json: bool, dry_run: bool) -> int:
    """Print what became of the inputs and return the exit code."""
    failed = [result for result in results if "error" in result]
    if count == 1:
        print_result(results[0], _text(results[0], dry_run=dry_run), as_json=as_json)
        return 0
    text = "\n".join(_text(result, dry_run=dry_run) for result in results)
    left = count - len(results)
    outcome = {"results": results, "failed": len(failed), "not_begun": left}
    text += f"\n{count - left - len(failed)} of {count} done, {len(failed)} failed"
    print_result(outcome, text, as_json=as_json)
    if not failed and not left:
        return 0
    resumable = any(result["error"]["exit_code"] == Stopped.exit_code for result in failed)
    return TomosegError.exit_code if len(failed) == count and not resumable else Stopped.exit_code


def _text(result: dict[str, Any], *, dry_run: bool) -> str:
    if "error" in result:
        return f"{result['input']}: {result['error']['message']}"
    if dry_run:
        return "\n".join(f"{key:28} {value}" for key, value in result.items())
    seam = "one block" if result["seam"] is None else f"{result['seam']:.3f}"
    return (
        f"{result['output']}: {result['shards']} shards ({result['computed']} computed now), "
        f"{100 * result['salient_fraction']:.2f} % salient, seam measure {seam}"
    )
