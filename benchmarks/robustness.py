"""What a network without refinement withstands: maximum F over one property at a time.

    python benchmarks/robustness.py --weights random:0 --figure robustness.png

Everything else is the plain microscope of the tables (10 A, +-60 degrees, SNR 1), complexes
are those that were not trained on. Beside each curve that of a difference of Gaussians. The
last panel is ice alone: the share of voxels that come out salient, which should be none.
Options after -- go to ``tomoseg segment``.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from networks import split_arguments
from pictures import draw_curves
from scoring import NETWORK, RIVAL, Results, evaluate_volume, make_by

from tomoseg.evaluation.cases import SHAPE, VOXEL_SIZE
from tomoseg.evaluation.intervals import interval
from tomoseg.simulate.recipes import Recipe, standard_recipe, without_objects

Change = Callable[[Recipe, float], Recipe]


def _snr(recipe: Recipe, value: float) -> Recipe:
    return replace(recipe, imaging=replace(recipe.imaging, snr=value))


def _tilt(recipe: Recipe, value: float) -> Recipe:
    return replace(recipe, imaging=replace(recipe.imaging, tilt_min=-value, tilt_max=value))


def _defocus(recipe: Recipe, value: float) -> Recipe:
    return replace(recipe, imaging=replace(recipe.imaging, defocus=value or None))


def _crowding(recipe: Recipe, value: float) -> Recipe:
    return replace(recipe, scene=replace(recipe.scene, crowding=value))


def _same(recipe: Recipe, value: float) -> Recipe:
    return recipe


def _ice(recipe: Recipe, value: float) -> Recipe:
    """Return noise alone, smoothed by so many voxels: the more, the more it looks like blobs."""
    recipe = without_objects(recipe)
    scene, imaging = replace(recipe.scene, texture=0.0), recipe.imaging
    return replace(recipe, scene=scene, imaging=replace(imaging, lowpass_voxels=value))


@dataclass(frozen=True)
class Curve:
    """One property: its name and unit, its values, and how a recipe takes one."""

    label: str
    values: tuple[float, ...]
    change: Change
    score: str = "maximum_f"


CURVES = {
    "snr": Curve("SNR", (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0), _snr),
    "voxel_size": Curve("voxel size (A)", (5.0, 7.5, 10.0, 13.0, 16.0, 20.0), _same),
    "tilt": Curve("largest tilt (degrees)", (40.0, 50.0, 60.0, 70.0), _tilt),
    "defocus": Curve("defocus (um), 0 without", (0.0, 1.5, 3.0, 5.0, 8.0, 12.0), _defocus),
    "crowding": Curve("share filled by complexes", (0.005, 0.02, 0.06, 0.12, 0.2, 0.28), _crowding),
    "ice": Curve(
        "ice alone, low-pass (voxels)", (0.0, 0.5, 1.0, 1.5, 2.0), _ice, "salient_fraction"
    ),
}


def recipe_of(curve: Curve, value: float, seed: int, voxel_size: float) -> Recipe:
    """Return the plain recipe of a seed with one property changed.

    Coarse voxels are fewer: the scene is not larger than at 10 A.
    """
    random = np.random.default_rng(seed)
    shrink = min(1.0, VOXEL_SIZE / voxel_size)
    z, y, x = (round(n * shrink) for n in SHAPE)
    return curve.change(standard_recipe(random, (z, y, x), voxel_size, 1.0), value)


def measure(name: str, seeds: int, weights: str, options: list[str]) -> Results:
    """Score network and baselines at each value of one property."""
    curve, results = CURVES[name], Results()
    for value in curve.values:
        voxel_size = value if name == "voxel_size" else VOXEL_SIZE
        for seed in range(seeds):
            recipe = recipe_of(curve, value, seed, voxel_size)
            scores = evaluate_volume(make_by(recipe, seed, voxel_size), weights, *options)
            for method in (NETWORK, RIVAL):
                results.add(str(value), method, scores[method])
    return results


def lines(curve: Curve, results: Results) -> dict[str, list[tuple[float, float, float]]]:
    """Return mean, low and high at each value, by method."""
    return {
        method: [interval(results.values[str(v)][method][curve.score]) for v in curve.values]
        for method in (NETWORK, RIVAL)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="random:0")
    parser.add_argument("--seeds", type=int, default=4, help="tomograms at each value")
    parser.add_argument("--curves", nargs="+", choices=list(CURVES), default=list(CURVES))
    parser.add_argument("--figure", type=Path, default=Path("robustness.png"))
    parser.add_argument("--json", type=Path)
    own, rest = split_arguments()
    chosen = parser.parse_args(own)
    panels, record = [], {}
    for name in chosen.curves:
        curve = CURVES[name]
        results = measure(name, chosen.seeds, chosen.weights, rest)
        drawn = lines(curve, results)
        panels.append((curve.label, curve.score.replace("_", " "), curve.values, drawn))
        record[name] = {"values": curve.values, "scores": results.summary()}
        for method, points in drawn.items():
            shown = "  ".join(
                f"{v:g}: {p[0]:.3f}" for v, p in zip(curve.values, points, strict=True)
            )
            print(f"{name:12}{method:26}{shown}", flush=True)
    draw_curves(chosen.figure, panels)
    if chosen.json:
        text = json.dumps({"weights": chosen.weights, "options": rest, "curves": record}, indent=1)
        chosen.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
