"""How much of a further training to keep: averages of new and old weights, scored.

    python benchmarks/shares.py NEW.safetensors OLD.safetensors --validation validation.zarr

For each share of the new weights: the share of two empty tomograms that is called salient
and maximum F of one tomogram, both of `tomoseg.evaluation.elsewhere`, each in one window as it is
(not resampled), and maximum F on the validation windows. Never choose by test complexes.
"""

import argparse
from pathlib import Path

import numpy as np
from scoring import structures
from ship_weights import averaged

from tomoseg.evaluation.cases import elsewhere
from tomoseg.metrics import Agreement
from tomoseg.pretrain.recipe import preset
from tomoseg.pretrain.samples import Source
from tomoseg.pretrain.validate import validate
from tomoseg.saliency.predict import Predictor
from tomoseg.saliency.usalnet import USalNet
from tomoseg.saliency.weights import load
from tomoseg.simulate.dataset import open_dataset

STRIDE = 16
EMPTY, FULL = "empty", "volume_domain"


def agreement(network: USalNet, style: str, seed: int) -> Agreement:
    """Return how a network agrees with the truth of a tomogram."""
    made = elsewhere(style).make(seed, structures())
    whole = tuple(slice(n - n % STRIDE) for n in made.density.shape)
    saliency = Predictor(network).saliency(made.intensities[whole][None])[0]
    return Agreement.of(np.rint(saliency * 255).astype(np.uint8), made.truth[whole])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("new")
    parser.add_argument("old")
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--shares", type=float, nargs="+", default=[0, 0.25, 0.35, 0.45, 0.55, 1])
    chosen = parser.parse_args()
    new, old = load(chosen.new)[0], load(chosen.old)[0]
    windows = Source(open_dataset(chosen.validation), preset("default", 3, 1, window=48))
    print(f"| share | {EMPTY}, salient | {FULL}, max F | validation, max F |\n|---|---|---|---|")
    for share in chosen.shares:
        network = averaged(new, old, share)
        empty = [agreement(network, EMPTY, seed) for seed in range(2)]
        salient = np.mean([a.counts[:, 128:].sum() / a.voxels for a in empty])
        scores = validate(network, windows.validation(), dice=1.0, lanes=2)
        full = agreement(network, FULL, 0).maximum_f
        print(f"| {share:g} | {salient:.2%} | {full:.3f} | {scores.maximum_f:.3f} |", flush=True)


if __name__ == "__main__":
    main()
