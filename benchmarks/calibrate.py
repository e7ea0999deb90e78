"""Which slope and pivot make a network's saliency most like the truth, on validation.

    python benchmarks/calibrate.py WEIGHTS.safetensors --count 2

For each slope and pivot (`ship_weights.py`): the means of MAE, adaptive F, adaptive E and S
over tomograms of the split ``validation``, at home and elsewhere, each in one window as it is
(not resampled), their sum with MAE negative, and the largest share of an empty tomogram that
is called salient. Never choose by test complexes.
"""

import argparse
import itertools

import numpy as np
from scoring import structures

from tomoseg.evaluation.cases import Data, Scene, Tomogram, elsewhere, home
from tomoseg.evaluation.elsewhere.imaging import STYLES
from tomoseg.evaluation.paper import SNRS
from tomoseg.metrics import score
from tomoseg.saliency.predict import Predictor
from tomoseg.saliency.weights import load

SHAPE = (64, 96, 96)
STRIDE = 16
SLOPES, PIVOTS = (1.0, 1.5, 2.0, 2.5), (0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
EMPTY = "empty"
TINY = 1e-5


def validation_sets(count: int) -> list[tuple[Data, Tomogram]]:
    """Return `count` tomograms of every data set, each with the set that it belongs to."""
    sets = [home(snr, "validation", SHAPE) for snr in SNRS]
    sets += [elsewhere(style, "validation", SHAPE) for style in STYLES]
    return [(data, data.make(number, structures())) for data in sets for number in range(count)]


def maps(model: Predictor, scene: Scene) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return saliency and truth of each view, cut to multiples of the network's stride."""
    found = []
    for image, truth in scene.views(model.network.architecture.dim):
        whole = tuple(slice(n - n % STRIDE) for n in image.shape)
        found.append((model.saliency(image[whole][None])[0], truth[whole]))
    return found


def calibrated(saliency: np.ndarray, slope: float, pivot: float) -> np.ndarray:
    p = saliency.clip(TINY, 1 - TINY).astype(np.float64)
    logit = slope * (np.log(p / (1 - p)) - np.log(pivot / (1 - pivot)))
    return (1 / (1 + np.exp(-logit))).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights")
    parser.add_argument("--count", type=int, default=2, help="tomograms of each data set")
    chosen = parser.parse_args()
    model = Predictor(load(chosen.weights)[0])
    full, empty = [], []
    for data, scene in validation_sets(chosen.count):
        (empty if data.name == EMPTY else full).extend(maps(model, scene))
    print("| slope | pivot | MAE | F | E | S | sum | empty |\n" + "|---" * 8 + "|")
    for slope, pivot in itertools.product(SLOPES, PIVOTS):
        scores = [score(calibrated(s, slope, pivot), truth) for s, truth in full]
        names = ("mean_absolute_error", "adaptive_f", "adaptive_e", "structure")
        mae, f, e, s = (float(np.mean([getattr(one, name) for one in scores])) for name in names)
        salient = max(float((saliency >= pivot).mean()) for saliency, _ in empty)
        print(f"| {slope} | {pivot} | {mae:.4f} | {f:.4f} | {e:.4f} | {s:.4f} | "
              f"{f + e + s - mae:.4f} | {salient:.3%} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
