"""Where a network's errors lie: at the borders of what is salient, or away from them.

    python benchmarks/border.py --weights vnet3d --count 5

Simulated tomograms of complexes that were not trained on, at SNR 0.5 and 1.5 and, to see what noise
is to blame for, at 50; scope ``none``. A voxel is at a border where a neighbour across a face is of
the other kind. At the threshold of the best F: which share of the wrong voxels lies at borders, and
how many of the salient bodies (parts of the truth that hang together) the mask meets.
"""

import argparse

import numpy as np
from scipy import ndimage
from scoring import saliency_of_volume, structures

from tomoseg.evaluation.cases import Tomogram, home
from tomoseg.evaluation.intervals import cell
from tomoseg.metrics import Agreement

SNRS = (0.5, 1.5, 50.0)
COLUMNS = ("max F", "max F but for borders", "wrong voxels at borders", "bodies met")


def row(tomogram: Tomogram, weights: str) -> tuple[float, ...]:
    """Return the figures of one tomogram, in the order of `COLUMNS`."""
    saliency = saliency_of_volume(tomogram.density, tomogram.voxel_size_angstrom, weights)
    truth = tomogram.truth > 0
    border = ndimage.binary_dilation(truth) & ~ndimage.binary_erosion(truth, border_value=1)
    found = Agreement.of(saliency, truth)
    away = Agreement.of(saliency[~border], truth[~border])
    mask = saliency >= int(np.argmax(found.f_curve()))
    bodies, count = ndimage.label(truth)
    met = ndimage.maximum(mask, bodies, np.arange(1, count + 1))
    at_borders = (mask != truth)[border].sum() / (mask != truth).sum()
    return found.maximum_f, away.maximum_f, float(at_borders), float(np.mean(met))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="vnet3d")
    parser.add_argument("--count", type=int, default=5, help="tomograms at each SNR")
    chosen = parser.parse_args()
    print(f"| SNR | {' | '.join(COLUMNS)} |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for snr in SNRS:
        data = home(snr)
        made = (data.make(number, structures()) for number in range(chosen.count))
        columns = zip(*(row(tomogram, chosen.weights) for tomogram in made), strict=True)
        print(f"| {snr:g} | {' | '.join(cell(list(c)) for c in columns)} |", flush=True)


if __name__ == "__main__":
    main()
