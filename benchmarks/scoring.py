"""What the accuracy benchmarks share: intensities, network saliency, scores and tables."""

import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import mrcfile
import numpy as np
from independent_scene import data_folder
from networks import tomoseg

from tomoseg.blockwise.statistics import measure, sample_bricks
from tomoseg.blockwise.status import layout_of
from tomoseg.config import Contrast
from tomoseg.evaluation.baselines import TRIVIAL, UNSUPERVISED, Baseline
from tomoseg.geometry import Index, whole
from tomoseg.io.omezarr import ArrayStore
from tomoseg.metrics import score
from tomoseg.saliency.architecture import Architecture
from tomoseg.saliency.initialise import random_network
from tomoseg.saliency.predict import Predictor
from tomoseg.saliency.usalnet import USalNet
from tomoseg.saliency.weights import RANDOM, load
from tomoseg.simulate.recipes import Recipe
from tomoseg.simulate.sample import DatasetConfig, Sample, simulate
from tomoseg.simulate.sample import make as make_sample

STRIDE = 16
SLICES = 4
"""Slices along each axis that a 2-D network is scored on."""

REDRAWS = 2000
"""Bootstrap samples behind an interval."""

HOME_SHAPE = (96, 128, 128)
HOME_SEED = 77_001
"""Of the simulated tomograms that are reported on; a training set has another seed."""

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


def home_config(snr: float, voxel_size: float = 10.0, shape: Index = HOME_SHAPE) -> DatasetConfig:
    """Return the set that tables report on: one plain microscope, complexes of ``test``."""
    return DatasetConfig(
        shape=shape,
        voxel_size_angstrom=voxel_size,
        look="standard",
        snr=(snr,),
        split="test",
        structures=str(data_folder() / "structures"),
        seed=HOME_SEED,
    )


def make_home(seed: int, snr: float) -> tuple[np.ndarray, np.ndarray]:
    """Return simulated tomogram number `seed` at 10 A: density with dark objects, truth."""
    return _arrays(simulate(home_config(snr), seed))


def make_by(recipe: Recipe, seed: int, voxel_size: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a tomogram of a recipe: density with dark objects, truth."""
    random = np.random.default_rng([HOME_SEED, seed])
    config = home_config(1.0, voxel_size, recipe.scene.shape)
    return _arrays(make_sample(recipe, config, random))


def _arrays(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    return sample.tomogram, sample.salient


def normalised(density: np.ndarray, contrast: Contrast = "dark") -> np.ndarray:
    """Return a volume as the network sees it: robust standard deviations, objects bright."""
    bricks = sample_bricks(density.shape, lambda box: density[box.slices], seed=0)
    return measure(bricks, "tomogram").normalise(density, contrast)


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


def evaluate_volume(
    density: np.ndarray, truth: np.ndarray, voxel_size: float, weights: str, *options: str
) -> dict[str, dict[str, float]]:
    """Score a network and every baseline on a volume whose objects are dark."""
    intensities = normalised(density)
    maps = {NETWORK: saliency_of_volume(density, voxel_size, weights, *options)}
    maps |= {name: baseline(intensities) for name, baseline in BASELINES.items()}
    return {name: evaluate(saliency, truth) for name, saliency in maps.items()}


def evaluate_slices(
    density: np.ndarray, truth: np.ndarray, model: Predictor
) -> dict[str, dict[str, float]]:
    """Score a 2-D network and every baseline on slices across the three axes, and average.

    Slices without truth are left out where others have some: their F says nothing.
    """
    methods = {NETWORK: lambda image: saliency_of_image(model, image), **BASELINES}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in methods}
    for image, image_truth in slices(normalised(density), truth):
        if image_truth.any() or not truth.any():
            for name, method in methods.items():
                rows[name].append(evaluate(method(image), image_truth))
    return {name: mean_scores(scores) for name, scores in rows.items()}


def slices(density: np.ndarray, truth: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield images and truths, evenly spaced along each axis."""
    for axis in range(3):
        for at in (np.arange(SLICES) + 0.5) * density.shape[axis] / SLICES:
            yield density.take(int(at), axis), truth.take(int(at), axis)


def interval(values: list[float]) -> tuple[float, float, float]:
    """Return the mean, and the ends of its 95 % bootstrap interval."""
    sample = np.array(values)
    drawn = np.random.default_rng(0).choice(sample, (REDRAWS, len(sample)))
    low, high = np.percentile(drawn.mean(1), (2.5, 97.5))
    return float(sample.mean()), float(low), float(high)


def cell(values: list[float]) -> str:
    """Return a mean and its interval as the cell of a table."""
    mean, low, high = interval(values)
    return f"{mean:.3f} ({low:.3f} to {high:.3f})" if len(values) > 1 else f"{mean:.3f}"
