"""Window, halo and blend against scores, seams and seconds, on simulated tomograms.

    python benchmarks/windows.py --each 2
    python benchmarks/windows.py --each 2 --cores 64 --halos 8 16 --split test

Tomograms of complexes that were not trained on, --each of SNR 0.5 and 1.5 and of every style with
objects unlike the training, are cut into cores of several edges with halos of several widths;
windows are blended over --blend of the halo (none: they are cropped). Printed are means over the
tomograms: maximum F and by how much the worst of them changes, S, the seam measure at the faces
of the cores, and what a voxel costs, beside core 64 and halo 16.
"""

import argparse
import dataclasses
import itertools
import time

import numpy as np
from numpy.typing import NDArray
from scoring import structures

from tomoseg.blockwise.blend import STEPS, contribution
from tomoseg.config import STRIDE
from tomoseg.evaluation.cases import elsewhere, home
from tomoseg.evaluation.elsewhere.imaging import STYLES
from tomoseg.geometry import Lattice, window_around
from tomoseg.metrics import score
from tomoseg.saliency.lanes import lane_setup, map_lanes
from tomoseg.saliency.predict import Predictor
from tomoseg.saliency.weights import load

CORES = (32, 64, 96, 128)
HALOS = (0, 8, 16, 24, 32)
BESIDE = (64, 16)
SNRS = (0.5, 1.5)
EMPTY = "empty"
MOST_VOXELS = 160**3
"""Of a window: beyond it a lane takes more memory than a laptop has for one."""


@dataclasses.dataclass(frozen=True)
class Cut:
    """How a volume is cut, and over how many voxels on both sides of a face it is blended."""

    core: int
    halo: int
    width: int


def saliency_of(
    image: NDArray[np.float32], model: Predictor, cut: Cut, lanes: int
) -> NDArray[np.float32]:
    """Return the blended saliency of a normalised volume."""
    total = np.zeros(image.shape, np.int64)
    cells = Lattice(image.shape, cut.core)

    def one(number: int) -> tuple[tuple[slice, ...], NDArray[np.uint16]]:
        window = window_around(
            cells.cell(number), volume=image.shape, uncut=(cut.core,) * 3, halo=cut.halo
        )
        values = np.pad(image[window.valid.slices], window.pad, mode="reflect")
        box, added = contribution(model.saliency(values[None])[0], window, image.shape, cut.width)
        return box.slices, added

    for place, added in map_lanes(one, range(len(cells)), lanes):
        total[place] += added
    return np.minimum(total / (255 * STEPS), 1).astype(np.float32)


def seam(saliency: NDArray[np.float32], core: int) -> float:
    """Return jumps at the faces of cores over those beside, over the same at the stride."""
    jumps: dict[tuple[bool, bool], list[float]] = {
        key: [] for key in itertools.product((True, False), repeat=2)
    }
    for axis, length in enumerate(saliency.shape):
        others = tuple(k for k in range(3) if k != axis)
        jump = np.abs(np.diff(saliency, axis=axis)).mean(axis=others)
        for plane in range(STRIDE, length, STRIDE):
            face = plane % core == 0
            jumps[face, True].append(float(jump[plane - 1]))
            jumps[face, False] += [float(jump[k - 1]) for k in (plane - 1, plane + 1) if k < length]
    if not jumps[True, True]:
        return float("nan")  # one core holds it all
    means = {key: np.mean(values) for key, values in jumps.items()}
    return float(means[True, True] / means[True, False] * means[False, False] / means[False, True])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="vnet3d")
    parser.add_argument("--each", type=int, default=1)
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--cores", nargs="+", type=int, default=CORES)
    parser.add_argument("--halos", nargs="+", type=int, default=HALOS)
    parser.add_argument("--blend", type=float, default=1.0)
    parser.add_argument("--lanes", type=int, default=2)
    chosen = parser.parse_args()
    lane_setup()
    model = Predictor(load(chosen.weights)[0])
    sets = [home(snr, chosen.split) for snr in SNRS]
    sets += [elsewhere(style, chosen.split) for style in STYLES if style != EMPTY]
    tomograms = [data.make(n, structures()) for data in sets for n in range(chosen.each)]
    cuts = [cut for cut in itertools.product(chosen.cores, chosen.halos) if cut != BESIDE]
    print(f"{len(tomograms)} tomograms of {chosen.split} complexes\n")
    print("| core | halo | window | maximum F | worst change | S | seam measure | cost |")
    print("|---" * 8 + "|", flush=True)
    unit, before = 0.0, np.zeros(len(tomograms))
    for core, halo in [BESIDE, *cuts]:
        if (core + 2 * halo) % STRIDE or (core + 2 * halo) ** 3 > MOST_VOXELS:
            continue
        cut = Cut(core, halo, min(core // 2, round(halo * chosen.blend)))
        found, seconds = [], 0.0
        for tomogram in tomograms:
            image = tomogram.intensities
            started = time.perf_counter()
            saliency = saliency_of(image, model, cut, chosen.lanes)
            seconds += time.perf_counter() - started
            scores = score(saliency, tomogram.truth)
            found.append((scores.maximum_f, scores.structure, seam(saliency, core)))
        maxima = np.array([f for f, _, _ in found])
        if not unit:
            unit, before = seconds, maxima
        f, s, jump = np.mean(found, axis=0)
        print(
            f"| {core} | {halo} | {core + 2 * halo} | {f:.4f} | {np.min(maxima - before):+.4f} "
            f"| {s:.4f} | {jump:.3f} | {seconds / unit:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
