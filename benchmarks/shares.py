"""How much of a further training to keep: averages of new and old weights, scored.

    python benchmarks/shares.py NEW.safetensors OLD.safetensors --count 2

For each share of the new weights: mean maximum F over tomograms of the split ``validation``
at home and elsewhere, each in one window as it is (not resampled), and the largest share of
an empty tomogram that is called salient. Never choose by test complexes.
"""

import argparse

import numpy as np
from calibrate import EMPTY, maps, validation_sets
from ship_weights import averaged

from tomoseg.evaluation.cases import Data, Scene
from tomoseg.metrics import score
from tomoseg.saliency.predict import Predictor
from tomoseg.saliency.usalnet import USalNet
from tomoseg.saliency.weights import load


def scores(network: USalNet, scenes: list[tuple[Data, Scene]]) -> tuple[float, float, float]:
    """Return mean maximum F at home and elsewhere, and the most that is salient in ice."""
    model = Predictor(network)
    home, away, ice = [], [], [0.0]
    for data, scene in scenes:
        for saliency, truth in maps(model, scene):
            if data.name == EMPTY:
                ice.append(float((saliency >= 0.5).mean()))
            else:
                (away if data.style else home).append(score(saliency, truth).maximum_f)
    return float(np.mean(home)), float(np.mean(away)), max(ice)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("new")
    parser.add_argument("old")
    parser.add_argument("--count", type=int, default=2, help="tomograms of each data set")
    parser.add_argument("--shares", type=float, nargs="+", default=[0, 0.25, 0.5, 0.75, 1])
    chosen = parser.parse_args()
    new, old = load(chosen.new)[0], load(chosen.old)[0]
    scenes = validation_sets(chosen.count)
    print("| share | home, max F | elsewhere, max F | empty, salient |\n|---|---|---|---|")
    for share in chosen.shares:
        home, away, ice = scores(averaged(new, old, share), scenes)
        print(f"| {share:g} | {home:.4f} | {away:.4f} | {ice:.3%} |", flush=True)


if __name__ == "__main__":
    main()
