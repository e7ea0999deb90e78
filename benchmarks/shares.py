"""How much of a further training to keep: averages of new and old weights, scored.

    python benchmarks/shares.py NEW.safetensors OLD.safetensors --count 2

For each share of the new weights: mean maximum F over tomograms of the split ``validation``
at home and elsewhere, each in one window as it is (not resampled), and the largest share of
an empty tomogram that is called salient. Never choose by test complexes.
"""

import argparse

import numpy as np
from scoring import structures
from ship_weights import averaged

from tomoseg.evaluation.cases import Data, Tomogram, elsewhere, home, normalised
from tomoseg.evaluation.elsewhere.imaging import STYLES
from tomoseg.evaluation.paper import SNRS
from tomoseg.metrics import score
from tomoseg.saliency.predict import Predictor
from tomoseg.saliency.usalnet import USalNet
from tomoseg.saliency.weights import Card, load

SHAPE = (64, 96, 96)
STRIDE = 16
EMPTY = "empty"


def validation_sets(count: int) -> list[tuple[Data, Tomogram]]:
    """Return `count` tomograms of every data set, each with the set that it belongs to."""
    sets = [home(snr, "validation", SHAPE) for snr in SNRS]
    sets += [elsewhere(style, "validation", SHAPE) for style in STYLES]
    return [(data, data.make(number, structures())) for data in sets for number in range(count)]


def maps(model: Predictor, scene: Tomogram, card: Card) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return saliency and truth of each view, cut to multiples of the network's stride."""
    found, views = [], scene.views(model.network.architecture.dim)
    if model.network.architecture.dim == 3:
        look = {"smoothed": card.smoothed, "amplitude": card.amplitude}
        views = [(normalised(scene.density, **look), scene.truth)]
    for image, truth in views:
        whole = tuple(slice(n - n % STRIDE) for n in image.shape)
        found.append((model.saliency(image[whole][None])[0], truth[whole]))
    return found


def scores(
    network: USalNet, scenes: list[tuple[Data, Tomogram]], card: Card
) -> tuple[float, float, float]:
    """Return mean maximum F at home and elsewhere, and the most that is salient in ice."""
    model = Predictor(network)
    home, away, ice = [], [], [0.0]
    for data, scene in scenes:
        for saliency, truth in maps(model, scene, card):
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
    (new, card), (old, _) = load(chosen.new), load(chosen.old)
    scenes = validation_sets(chosen.count)
    print("| share | home, max F | elsewhere, max F | empty, salient |\n|---|---|---|---|")
    for share in chosen.shares:
        home, away, ice = scores(averaged(new, old, share), scenes, card)
        print(f"| {share:g} | {home:.4f} | {away:.4f} | {ice:.3%} |", flush=True)


if __name__ == "__main__":
    main()
