"""What a network makes of one tomogram on other scales, smoothed or not.

    python benchmarks/intensities.py --weights vnet3d --count 2

Volumes of the split ``validation``, at home and elsewhere, each in one window: maximum F, S and
adaptive F, means over tomograms. Intensities are in robust standard deviations of what the
network is shown, plain or smoothed (`tomoseg.intensity.smooth`), times an amplitude. For ice the
share that is called salient.
"""

import argparse
import itertools

import numpy as np
from scoring import structures

from tomoseg.evaluation.cases import elsewhere, home, normalised
from tomoseg.evaluation.elsewhere.imaging import STYLES
from tomoseg.evaluation.paper import SNRS
from tomoseg.intensity import CLIP
from tomoseg.metrics import score
from tomoseg.saliency.lanes import lane_setup
from tomoseg.saliency.predict import Predictor
from tomoseg.saliency.weights import load

EMPTY = "empty"


def scores(
    model: Predictor, image: np.ndarray, truth: np.ndarray, amplitude: float
) -> tuple[float, ...]:
    """Return maximum F, S and adaptive F; of ice the salient share alone."""
    shown = np.clip(np.float32(amplitude) * image, -CLIP, CLIP)
    saliency = model.saliency(shown[None])[0]
    if not truth.any():
        return (float((saliency >= 0.5).mean()),)
    found = score(saliency, truth)
    return found.maximum_f, found.structure, found.adaptive_f


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="vnet3d")
    parser.add_argument("--count", type=int, default=2, help="tomograms of each data set")
    parser.add_argument("--edge", type=int, default=64, help="of a tomogram, in voxels")
    parser.add_argument("--amplitudes", type=float, nargs="+", default=[0.6, 1, 1.6, 2.5])
    chosen = parser.parse_args()
    lane_setup()
    model = Predictor(load(chosen.weights)[0])
    looks = list(itertools.product((False, True), chosen.amplitudes))
    shape = (chosen.edge,) * 3
    sets = [home(snr, "validation", shape) for snr in SNRS]
    sets += [elsewhere(style, "validation", shape) for style in STYLES]
    names = [f"{'smoothed' if smoothed else 'plain'} x {by:g}" for smoothed, by in looks]
    print(f"| tomograms ({chosen.count} each) | {' | '.join(names)} |")
    print("|---" * (len(names) + 1) + "|", flush=True)
    away: list[list[list[float]]] = []
    for data in sets:
        tomograms = [data.make(number, structures()) for number in range(chosen.count)]
        row = []
        for smoothed, amplitude in looks:
            images = [normalised(t.density, smoothed=smoothed) for t in tomograms]
            found = [
                scores(model, image, tomogram.truth, amplitude)
                for image, tomogram in zip(images, tomograms, strict=True)
            ]
            row.append([float(np.mean(values)) for values in zip(*found, strict=True)])
        if data.style and data.name != EMPTY:
            away.append(row)
        print_row(data.name, row)
    print_row("elsewhere, mean", np.mean(away, axis=0).tolist())


def print_row(name: str, row: list[list[float]]) -> None:
    """Print one line of the table."""
    cells = [" ".join(f"{v:.3f}" for v in c) if len(c) > 1 else f"{c[0]:.3%}" for c in row]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
