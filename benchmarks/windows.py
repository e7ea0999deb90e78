"""Window, halo and blend against scores, seams and seconds, on simulated tomograms.

    python benchmarks/windows.py --tomograms 2

Tomograms of complexes that were not trained on, SNR 0.5 and 1.5 by turns, are cut into cores
of several edges with halos of several widths; windows are blended over --blend of the halo
(none: they are cropped). Printed are means over the tomograms: maximum F, S, the seam measure at
the faces of the cores, and what a voxel costs beside the product's window (core 64, halo 16).
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
from tomoseg.evaluation.cases import home
from tomoseg.geometry import Lattice, window_around
from tomoseg.metrics import score
from tomoseg.saliency.lanes import lane_setup, map_lanes
from tomoseg.saliency.predict import Predictor
from tomoseg.saliency.weights import load

CORES = (32, 64, 96, 128)
HALOS = (0, 8, 16, 24, 32)
PRODUCT = (64, 16)
SNRS = (0.5, 1.5)
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
        window = window_around(cells.cell(number), volume=image.shape, edge=cut.core, halo=cut.halo)
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
    parser.add_argument("--tomograms", type=int, default=2)
    parser.add_argument("--blend", type=float, default=1.0)
    parser.add_argument("--lanes", type=int, default=2)
    chosen = parser.parse_args()
    lane_setup()
    model = Predictor(load(chosen.weights)[0])
    tomograms = [
        home(SNRS[n % len(SNRS)]).make(n // len(SNRS), structures())
        for n in range(chosen.tomograms)
    ]
    cuts = [PRODUCT, *(cut for cut in itertools.product(CORES, HALOS) if cut != PRODUCT)]
    print("| core | halo | window | maximum F | S | seam measure | cost |\n" + "|---" * 7 + "|")
    unit = 0.0
    for core, halo in cuts:
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
        unit = unit or seconds
        f, s, jump = np.mean(found, axis=0)
        print(
            f"| {core} | {halo} | {core + 2 * halo} | {f:.4f} | {s:.4f} | {jump:.3f} "
            f"| {seconds / unit:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
