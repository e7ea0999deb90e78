"""``tomoseg simulate``: a tomogram with its truth, or a whole data set."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from tomoseg.config import Contrast
from tomoseg.errors import RequestError, Stopped
from tomoseg_cli.console import ProgressReport, common_options, configure_logging, print_result
from tomoseg_cli.running import open_lazily, stop_on_signal

if TYPE_CHECKING:
    from tomoseg.simulate.sample import DatasetConfig

LOOKS = ("random", "standard", "paper")
SPLITS = ("train", "validation", "test")
PRESETS = ("demo", "standard", "pretrain", "paper")
"""As in `tomoseg.simulate`, which loads scipy and zarr; a test compares them."""


@click.command()
@click.option(
    "--out",
    required=True,
    help="NAME.mrc: one tomogram with its truth beside it; NAME.zarr: a data set.",
)
@click.option(
    "--preset",
    type=click.Choice(PRESETS),
    default="demo",
    show_default=True,
    help="Where to start from; the flags below change single settings.",
)
@click.option("--count", type=int, help="Tomograms of a data set.")
@click.option("--shape", type=int, nargs=3, help="Voxels along z, y, x.")
@click.option("--voxel-size", "voxel_size_angstrom", type=float, help="Angstrom.")
@click.option("--look", type=click.Choice(LOOKS), help="Where scene and imaging are drawn from.")
@click.option("--snr", type=float, multiple=True, help="Of the tomogram; several take turns.")
@click.option("--split", type=click.Choice(SPLITS), help="Which complexes of the library.")
@click.option("--structures", help="Folder of site models; built-in complexes without.")
@click.option("--membranes", help="Archive (.npz) of segmented membranes to take pieces of.")
@click.option("--volumes", type=int, help="64^3 crops to export from each tomogram.")
@click.option("--slices", type=int, help="200^2 slices to export from each tomogram.")
@click.option("--contrast", type=click.Choice(get_args(Contrast)), help="Of objects to ice.")
@click.option("--empty", is_flag=True, default=None, help="No objects: ice and noise alone.")
@click.option("--seed", type=int)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@click.option("--overwrite", is_flag=True, help="Replace the files of NAME.mrc.")
@common_options
def simulate(
    out: str,
    preset: str,
    workers: int,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **settings: Any,
) -> int:
    """Simulate tomograms whose truth is known.

    Repeat an interrupted command to go on where it stopped.
    """
    from tomoseg.simulate.sample import PRESETS

    configure_logging(quiet=quiet, verbose=verbose)
    chosen = {k: v for k, v in settings.items() if v is not None and v != ()}
    config = dataclasses.replace(PRESETS[preset], **chosen)
    if config.look == "random" and "snr" in chosen:
        raise RequestError(
            f"--snr: expected none with the look random, which draws its own, got {config.snr}.",
            "Leave it out, or give --look standard.",
        )
    path = Path(out)
    if path.suffix == ".zarr":
        return _dataset(path, config, workers, as_json=as_json, quiet=quiet)
    return _tomogram(path, config, overwrite=overwrite, as_json=as_json)


def _tomogram(path: Path, config: "DatasetConfig", *, overwrite: bool, as_json: bool) -> int:
    from tomoseg.simulate.files import output_files, write_tomogram
    from tomoseg.simulate.sample import simulate as make

    files = output_files(path, overwrite=overwrite)
    sample = make(config, 0)
    write_tomogram(files, sample, config, overwrite=overwrite)
    figures = {name: sample.record[name] for name in ("snr", "salient_fraction")}
    text = "\n".join(f"{name:12} {file}" for name, file in files.items())
    result = {"files": {name: str(file) for name, file in files.items()}, **figures}
    print_result(result, text, as_json=as_json)
    return 0


def _dataset(
    path: Path, config: "DatasetConfig", workers: int, *, as_json: bool, quiet: bool
) -> int:
    from tomoseg.blockwise.execute import Resources
    from tomoseg.simulate import dataset

    left = dataset.create(path, config)
    done = config.count - len(left)
    with stop_on_signal("tomograms") as stop, ProgressReport(quiet=quiet) as progress:
        progress("simulate", done, config.count)
        task = functools.partial(make_one, str(path), json.dumps(config.to_dict()))
        with open_lazily(Resources(workers=workers), stop) as executor:
            for _ in executor().map(task, left) if left else ():
                done += 1
                progress("simulate", done, config.count)
    if done < config.count:
        raise Stopped(
            f"{path}: stopped after {done} of {config.count} tomograms.",
            "Repeat the command to go on.",
        )
    result = {"dataset": str(path), "tomograms": config.count, "computed": len(left)}
    print_result(result, f"{path}: {config.count} tomograms", as_json=as_json)
    return 0


def make_one(path: str, config: str, number: int) -> int:
    """Make and write one tomogram of a data set, on a worker; return its number."""
    from tomoseg.simulate import dataset, sample

    settings = sample.DatasetConfig.from_dict(json.loads(config))
    dataset.write(Path(path), settings, number, sample.simulate(settings, number))
    return number
