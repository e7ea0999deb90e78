"""What the accuracy benchmarks share: intensities, network saliency, scores and tables."""

import os
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import mrcfile
import numpy as np
from networks import tomoseg

from tomoseg.blockwise.status import layout_of
from tomoseg.evaluation.baselines import TRIVIAL, UNSUPERVISED, Baseline
from tomoseg.evaluation.cases import SEEDS, Tomogram, home_config
from tomoseg.evaluation.intervals import cell, interval
from tomoseg.geometry import whole
from tomoseg.io.omezarr import ArrayStore
from tomoseg.metrics import score
from tomoseg.saliency.architecture import Architecture
from tomoseg.saliency.initialise import random_network
from tomoseg.saliency.predict import Predictor
from tomoseg.saliency.usalnet import USalNet
from tomoseg.saliency.weights import RANDOM, load
from tomoseg.simulate.recipes import Recipe
from tomoseg.simulate.sample import make as make_sample

STRIDE = 16
NETWORK = "network"
RIVAL = "difference of Gaussians"
"""The baseline that is hardest to beat."""

BASELINES: dict[str, Baseline] = {
    RIVAL: UNSUPERVISED[RIVAL],
    "blur + Otsu": UNSUPERVISED["blur + Otsu"],
    **TRIVIAL,
}
"""What every table here has beside a network, in the order of its rows."""


# Tomograms -----------------------------------------------------------------------------


def data_folder() -> Path:
    """Return the folder of test data: $TOMOSEG_DATA, or ../shared/data."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TOMOSEG_DATA", beside))
    if not folder.is_dir():
        raise SystemExit(f"no data at {folder}: set TOMOSEG_DATA")
    return folder


def structures() -> Path:
    """Return the folder of complexes."""
    return data_folder() / "structures"


def make_by(recipe: Recipe, seed: int, voxel_size: float) -> Tomogram:
    """Return a tomogram of a recipe and of complexes that were not trained on."""
    random = np.random.default_rng([SEEDS["test"], seed])
    config = home_config(1.0, "test", recipe.scene.shape, structures(), voxel_size)
    sample = make_sample(recipe, config, random)
    return Tomogram(sample.tomogram, sample.salient, voxel_size)


# Networks ------------------------------------------------------------------------------


def load_2d(weights: str) -> Predictor:
    """Load a 2-D network by name, path or ``random:SEED``."""
    if weights.startswith(RANDOM):
        return Predictor(random_network(Architecture(dim=2), int(weights.removeprefix(RANDOM))))
    network, _ = load(weights)
    return Predictor(_require_2d(network, weights))


def _require_2d(network: USalNet, weights: str) -> USalNet:
    if network.architecture.dim != 2:
        raise SystemExit(f"weights {weights}: expected a 2-D network; give --dim 3")
    return network


def saliency_of_volume(
    density: np.ndarray, voxel_size: float, weights: str, *options: str
) -> np.ndarray:
    """Run ``tomoseg segment`` on an array, objects dark; return saliency 0-255.

    Scope ``none`` unless `options` (of the command) say otherwise.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "tomogram.mrc"
        with mrcfile.new(source) as file:
            file.set_data(density.astype(np.float32))
            file.set_volume()
            file.voxel_size = voxel_size
        output = Path(folder) / "mask.zarr"
        segment(source, output, "--contrast", "dark", "--weights", weights, *options)
        return read_output(output)


def segment(source: Path, output: Path, *options: str) -> None:
    """Run ``tomoseg segment`` as a user does, scope ``none`` unless told otherwise."""
    command = tomoseg("segment", source, "--out", output, "--quiet", "--scope", "none", *options)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def read_output(output: Path, kind: str = "image") -> np.ndarray:
    """Return the saliency (``image``) or the ``mask`` of an output, whole."""
    layout, _ = layout_of(output)
    return ArrayStore(layout, kind, 0).read(whole(layout.shape))


def saliency_of_image(model: Predictor, image: np.ndarray) -> np.ndarray:
    """Return the saliency of an image of normalised intensities in one window."""
    pads = [(0, -n % STRIDE) for n in image.shape]
    padded = np.pad(image, pads, mode="reflect")
    return model.saliency(padded[None])[0][tuple(slice(n) for n in image.shape)]


# Scores --------------------------------------------------------------------------------

COLUMNS = {
    "adaptive F": "adaptive_f",
    "max F": "maximum_f",
    "adaptive E": "adaptive_e",
    "max E": "maximum_e",
    "S": "structure",
    "Dice": "dice",
    "MAE": "mean_absolute_error",
    "salient": "salient_fraction",
}
"""Columns of the tables; the last is the share of voxels in the mask at 0.5."""


@dataclass
class Results:
    """Scores of many tomograms: by data set, then method, then score, one for each tomogram."""

    values: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)

    def add(self, data: str, method: str, scores: dict[str, float]) -> None:
        """Add the scores of one tomogram."""
        kept = self.values.setdefault(data, {}).setdefault(method, {})
        for name, value in scores.items():
            kept.setdefault(name, []).append(value)

    def table(self, data: str) -> str:
        """Return one data set as Markdown: mean, and a 95 % interval of the mean."""
        methods = self.values[data]
        count = len(next(iter(next(iter(methods.values())).values())))
        lines = [f"\n**{data}**, {count} tomogram{'s' if count > 1 else ''}\n"]
        lines.append(f"| method | {' | '.join(COLUMNS)} |")
        lines.append("|---" * (len(COLUMNS) + 1) + "|")
        for method, scores in methods.items():
            cells = [cell(scores[name]) for name in COLUMNS.values()]
            lines.append(f"| {method} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def summary(self) -> dict[str, object]:
        """Return means, intervals and every single value, as plain JSON values."""
        return {
            data: {
                method: {
                    name: dict(zip(("mean", "low", "high"), interval(all_), strict=True))
                    | {"values": all_}
                    for name, all_ in scores.items()
                }
                for method, scores in methods.items()
            }
            for data, methods in self.values.items()
        }


def evaluate(saliency: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return every score of one saliency, and the share of voxels at or above 0.5."""
    return score(saliency, truth).to_dict() | {"salient_fraction": _salient(saliency)}


def _salient(saliency: np.ndarray) -> float:
    return float((saliency >= (128 if saliency.dtype == np.uint8 else 0.5)).mean())


def mean_scores(scores: Iterable[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each score, over the images of one tomogram."""
    rows = list(scores)
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def evaluate_volume(tomogram: Tomogram, weights: str, *options: str) -> dict[str, dict[str, float]]:
    """Score a network and every baseline on a volume whose objects are dark."""
    saliency = saliency_of_volume(tomogram.density, tomogram.voxel_size_angstrom, weights, *options)
    maps = {NETWORK: saliency}
    maps |= {name: baseline(tomogram.intensities) for name, baseline in BASELINES.items()}
    return {name: evaluate(saliency, tomogram.truth) for name, saliency in maps.items()}


def evaluate_slices(tomogram: Tomogram, model: Predictor) -> dict[str, dict[str, float]]:
    """Score a 2-D network and every baseline on slices across the three axes, and average."""
    methods = {NETWORK: lambda image: saliency_of_image(model, image), **BASELINES}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in methods}
    for image, truth in tomogram.slices():
        for name, method in methods.items():
            rows[name].append(evaluate(method(image), truth))
    return {name: mean_scores(scores) for name, scores in rows.items()}
