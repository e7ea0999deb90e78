"""Can membranes be told from complexes by shape, in a mask? Simulated, so that truth is known.

    python benchmarks/shapes.py --structures MODELS --tomograms 6

Each tomogram holds three vesicles, and complexes at SNR 1; it is segmented with the shipped
weights. Of the voxels of the mask that are a membrane's or a complex's, and of the mask's
objects by what most of their voxels are, it prints how well measures of shape tell the two
apart: area under the ROC curve (0.5 is chance), and balanced accuracy (0.5 is chance) with the
threshold that is best on the other tomograms; then how much of the mask lies in objects that
hold both. ``sheetness`` is that of Martinez-Sanchez et al. (JSB 2014), of the Hessian of the
smoothed saliency; ``flatness`` that of the second moments of the mask under a Gaussian window,
or of a whole object; ``fill`` an object's volume over that of its ellipsoid of inertia. At last,
recall, precision and F1 at half a diameter of what pick takes for complexes.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import cc3d
import mrcfile
import numpy as np
from numpy.typing import NDArray
from pick import run_pick
from scipy import ndimage
from scipy.stats import rankdata

import tomoseg
from tomoseg.config import PickConfig
from tomoseg.evaluation.particles import Found, match
from tomoseg.simulate.recipes import standard_recipe
from tomoseg.simulate.sample import DatasetConfig, Sample, make
from tomoseg.simulate.scene import Kind

SHAPE, VOXEL = (96, 160, 160), 10.0
LEAST = 100
"""Voxels of an object that is judged."""

MIXED = 0.1
"""Share of the rarer class from which an object holds both."""

DIAMETER = 150.0
"""Angstrom, of the complexes."""

LEAST_VOLUME = 50_000.0
"""Cubic angstrom of a pick."""

LEAST_FILL = 0.4
SHEET, SHEET_SIGMA = 0.8, 4
"""Sheetness above which a voxel is left out, and the smoothing in voxels."""

Scores = dict[str, list[tuple[NDArray, NDArray]]]
"""Of each measure, for each tomogram: its values, and whether it is a membrane."""


def simulate(seed: int, structures: Path) -> Sample:
    random = np.random.default_rng(seed)
    recipe = standard_recipe(random, SHAPE, VOXEL, 1.0)
    scene = replace(recipe.scene, vesicles=3, filaments=0, beads=0, crowding=0.08)
    config = DatasetConfig(
        shape=SHAPE, voxel_size_angstrom=VOXEL, split="test", structures=str(structures)
    )
    return make(replace(recipe, scene=scene), config, random)


def segment(sample: Sample) -> tuple[NDArray, NDArray]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.mrc")
        with mrcfile.new(path) as file:
            file.set_data(sample.tomogram)
            file.set_volume()
            file.voxel_size = VOXEL
        found = tomoseg.segment(path, Path(folder, "m.zarr"), scope="none")
        return found.saliency[:], found.mask[:] > 0


def sheetness(field: NDArray, sigma: float) -> NDArray:
    """Return what the steepest descent across has over those along, 0 to 1."""
    hessian = np.empty((*field.shape, 3, 3), np.float32)
    for a in range(3):
        for b in range(a, 3):
            order = [0, 0, 0]
            order[a] += 1
            order[b] += 1
            hessian[..., a, b] = hessian[..., b, a] = ndimage.gaussian_filter(
                field.astype(np.float32), sigma, order=order
            )
    first, second, third = np.moveaxis(np.linalg.eigvalsh(hessian), -1, 0)
    along = np.sqrt(np.abs(second * third))
    return np.where(first < 0, np.maximum(-first - along, 0) / np.maximum(-first, 1e-9), 0)


def flatness(mask: NDArray, sigma: float) -> NDArray:
    """Return (second - third) / first principal moment of the mask near each voxel."""
    values = mask.astype(np.float64)
    grid = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in mask.shape), indexing="ij")
    smooth = lambda field: ndimage.gaussian_filter(field, sigma, truncate=3)  # noqa: E731
    weight = np.maximum(smooth(values), 1e-9)
    mean = [smooth(values * axis) / weight for axis in grid]
    moments = np.empty((*mask.shape, 3, 3))
    for a in range(3):
        for b in range(a, 3):
            square = smooth(values * grid[a] * grid[b]) / weight - mean[a] * mean[b]
            moments[..., a, b] = moments[..., b, a] = square
    third, second, first = np.moveaxis(np.linalg.eigvalsh(moments), -1, 0)
    return (second - third) / np.maximum(first, 1e-9)


def auc(values: NDArray, positive: NDArray) -> float:
    ranks, n = rankdata(values), int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(values) - n)))


def balanced(values: NDArray, positive: NDArray, threshold: float, sign: float) -> float:
    said = sign * values > threshold
    return float((said[positive].mean() + (~said[~positive]).mean()) / 2)


def transferred(tomograms: list[tuple[NDArray, NDArray]]) -> float:
    """Return the mean balanced accuracy, each at the threshold that is best on the others."""
    found = []
    for number, (values, positive) in enumerate(tomograms):
        others = tomograms[:number] + tomograms[number + 1 :]
        every = np.concatenate([v for v, _ in others])
        true = np.concatenate([p for _, p in others])
        sign = 1.0 if auc(every, true) >= 0.5 else -1.0
        steps = np.quantile(sign * every, np.linspace(0, 1, 101))
        best = max(steps, key=lambda step: balanced(every, true, step, sign))
        found.append(balanced(values, positive, best, sign))
    return float(np.mean(found))


def show(what: str, scores: Scores) -> None:
    for name, tomograms in scores.items():
        areas = [auc(values, positive) for values, positive in tomograms]
        print(f"{what:8} {name:34} {np.mean(areas):.3f}  {transferred(tomograms):.3f}", flush=True)


def judge_objects(labels: NDArray, classes: NDArray, fields: dict[str, NDArray], scores: Scores):
    """Add the measures of each object; return voxels in mixed objects, and in all."""
    membrane, columns, mixed, total = [], {}, 0, 0
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        at = labels[box] == number
        kinds = np.bincount(classes[box][at], minlength=6)[[Kind.COMPLEX, Kind.MEMBRANE]]
        if at.sum() < LEAST or not kinds.sum():
            continue
        total += at.sum()
        mixed += at.sum() * (kinds.min() / kinds.sum() >= MIXED)
        membrane.append(kinds[1] > kinds[0])
        spread = np.linalg.eigvalsh(np.cov(np.argwhere(at).T) + np.eye(3) / 12)
        ball = 4 / 3 * np.pi * 5**1.5 * np.sqrt(np.prod(spread))
        measures = {
            "volume": at.sum(),
            "elongation": np.sqrt(spread[2] / spread[0]),
            "flatness of the whole": (spread[1] - spread[0]) / spread[2],
            "fill": at.sum() / ball,
        } | {f"mean {name}": field[box][at].mean() for name, field in fields.items()}
        for name, value in measures.items():
            columns.setdefault(name, []).append(value)
    for name, values in columns.items():
        scores.setdefault(name, []).append((np.array(values, float), np.array(membrane)))
    return mixed, total, sum(membrane), len(membrane)


def picked(mask: NDArray, sheet: NDArray, true: NDArray) -> dict[str, Found]:
    """Return how picks of a mask, whole or without sheets, agree with true centres."""
    found = {}
    for cut, voxels in (("", mask), (", voxels of sheets left out", mask & (sheet <= SHEET))):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "m.mrc")
            with mrcfile.new(path) as file:
                file.set_data(voxels.astype(np.int8))
                file.set_volume()
                file.voxel_size = VOXEL
            for split in ("none", "distance"):
                for fill in (None, LEAST_FILL):
                    config = PickConfig(
                        diameter_angstrom=DIAMETER,
                        split=split,
                        min_volume_angstrom3=LEAST_VOLUME,
                        min_fill=fill,
                    )
                    name = f"--split {split}" + (f" --min-fill {fill}" if fill else "") + cut
                    centres = run_pick(path, config).centres
                    found[name] = match(centres, true, DIAMETER / 2 / VOXEL)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--structures", type=Path, required=True)
    parser.add_argument("--tomograms", type=int, default=6)
    options = parser.parse_args()
    voxels: Scores = {}
    objects: Scores = {}
    picks: dict[str, list[Found]] = {}
    counts = np.zeros(4)
    for seed in range(options.tomograms):
        sample = simulate(seed, options.structures)
        saliency, mask = segment(sample)
        fields = {f"sheetness, {s} voxels": sheetness(saliency, s) for s in (1, 2, 4)}
        fields |= {f"flatness, {s} voxels": flatness(mask, s) for s in (4, 8)}
        known = mask & np.isin(sample.classes, (Kind.COMPLEX, Kind.MEMBRANE))
        membrane = sample.classes[known] == Kind.MEMBRANE
        for name, field in fields.items():
            voxels.setdefault(name, []).append((field[known], membrane))
        labels = cc3d.connected_components(mask, connectivity=26)
        counts += judge_objects(labels, sample.classes, fields, objects)
        print(f"seed {seed}: {membrane.mean():.2f} of the voxels are membranes", flush=True)
        true = [p.centre_zyx for p in sample.particles if p.kind == Kind.COMPLEX]
        sheet = fields[f"sheetness, {SHEET_SIGMA} voxels"]
        for name, one in picked(mask, sheet, np.array(true)).items():
            picks.setdefault(name, []).append(one)
    mixed, total, membranes, number = counts
    print(f"{membranes:.0f} of {number:.0f} objects are membranes")
    print(f"{mixed / total:.2f} of the mask lies in objects that hold both")
    show("voxels", voxels)
    show("objects", objects)
    for name, each in picks.items():
        means = [
            np.mean([getattr(f, rate) for f in each]) for rate in ("recall", "precision", "f1")
        ]
        print(f"{name:64} " + "  ".join(f"{mean:.3f}" for mean in means))


if __name__ == "__main__":
    main()
