"""Window, halo and blend against scores, seams and seconds, on simulated tomograms.

    python benchmarks/windows.py --each 2
    python benchmarks/windows.py --each 2 --cores 64 --halos 8 16 --split test

Tomograms of complexes that were not trained on, --each of SNR 0.5 and 1.5 and of every style with
objects unlike the training, are cut into cores of several edges with halos of several widths;
windows are blended over --blend of the halo (none: they are cropped). Printed are means over the
tomograms: maximum F and by how much the worst of them changes, S, the seam measure at the faces
of the cores, and what a voxel costs, beside core 64 and halo 16.

    python benchmarks/windows.py --tomogram emd_1155.mrc

Without truth, on any tomogram that fits into memory: how far saliency is from that of a single
window over all of it, on average and the share of voxels off by a quarter or more.
"""

import argparse
import dataclasses
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scoring import structures

from tomoseg.blockwise.blend import STEPS, contribution
from tomoseg.blockwise.plan import Plan
from tomoseg.blockwise.prepare import prepare
from tomoseg.blockwise.prepared import Request
from tomoseg.config import STRIDE, RefineConfig, SegmentConfig
from tomoseg.evaluation.cases import elsewhere, home, normalised
from tomoseg.evaluation.elsewhere.imaging import STYLES
from tomoseg.geometry import whole
from tomoseg.io.volume import open_volume
from tomoseg.metrics import score
from tomoseg.saliency.lanes import lane_setup, map_lanes
from tomoseg.saliency.predict import Predictor
from tomoseg.saliency.weights import load

CORES = (32, 64, 96, 128)
HALOS = (0, 8, 16, 24, 32)
BESIDE = (64, 16)
SNRS = (0.5, 1.5)
EMPTY = "empty"
MOST_VOXELS = 192**3
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
    plan = Plan(image.shape, 4, shard=cut.core, halo=cut.halo, lane_bytes=0, core=cut.core)

    def one(number: int) -> tuple[tuple[slice, ...], NDArray[np.uint16]]:
        window = plan.window(number)
        values = filled_up(image[window.valid.slices], window.pad)
        box, added = contribution(model.saliency(values[None])[0], window, image.shape, cut.width)
        return box.slices, added

    for place, added in map_lanes(one, range(len(plan.blocks)), lanes):
        total[place] += added
    return np.minimum(total / (255 * STEPS), 1).astype(np.float32)


def filled_up(values: NDArray[np.float32], after: Sequence[int]) -> NDArray[np.float32]:
    """Return a window whose last voxels are reflected, so many along each axis."""
    return np.pad(values, [(0, n) for n in after], mode="reflect")


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


def against_whole(path: Path, model: Predictor, cuts: list[tuple[int, int]], lanes: int) -> None:
    """Print how far every cut is from one window over a whole tomogram."""
    config = SegmentConfig(refine=RefineConfig("none"))
    source = prepare(Request(open_volume(path), Path("unused.zarr"), config)).source
    reader = source.reader()
    image = source.normalise(reader.read(whole(source.shape), map))
    reader.close()
    padded = filled_up(image, [-n % STRIDE for n in image.shape])
    one = model.saliency(padded[None])[0][whole(image.shape).slices]
    print(f"{path.name}, {' x '.join(map(str, image.shape))}\n")
    print("| core | halo | window | mean difference | off by a quarter | salient | cost |")
    print("|---" * 7 + "|", flush=True)
    unit = 0.0
    for core, halo in cuts:
        started = time.perf_counter()
        saliency = saliency_of(image, model, Cut(core, halo, min(core // 2, halo)), lanes)
        seconds = time.perf_counter() - started
        unit = unit or seconds
        off = np.abs(saliency - one)
        shares = [f"{share:.2%}" for share in ((off >= 0.25).mean(), (saliency >= 0.5).mean())]
        cells = [core, halo, core + 2 * halo, f"{off.mean():.4f}", *shares, f"{seconds / unit:.2f}"]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
    print(f"| all | | | 0 | 0 | {(one >= 0.5).mean():.2%} | |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="vnet3d")
    parser.add_argument("--each", type=int, default=1)
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--cores", nargs="+", type=int, default=CORES)
    parser.add_argument("--halos", nargs="+", type=int, default=HALOS)
    parser.add_argument("--tomogram", type=Path)
    parser.add_argument("--blend", type=float, default=1.0)
    parser.add_argument("--lanes", type=int, default=2)
    chosen = parser.parse_args()
    lane_setup()
    network, card = load(chosen.weights)
    model = Predictor(network)
    cuts = [cut for cut in itertools.product(chosen.cores, chosen.halos) if cut != BESIDE]
    cuts = [
        (core, halo)
        for core, halo in [BESIDE, *cuts]
        if (core + 2 * halo) % STRIDE == 0 and (core + 2 * halo) ** 3 <= MOST_VOXELS
    ]
    if chosen.tomogram:
        against_whole(chosen.tomogram, model, cuts, chosen.lanes)
        return
    sets = [home(snr, chosen.split) for snr in SNRS]
    sets += [elsewhere(style, chosen.split) for style in STYLES if style != EMPTY]
    tomograms = [data.make(n, structures()) for data in sets for n in range(chosen.each)]
    print(f"{len(tomograms)} tomograms of {chosen.split} complexes\n")
    print("| core | halo | window | maximum F | worst change | S | seam measure | cost |")
    print("|---" * 8 + "|", flush=True)
    unit, before = 0.0, np.zeros(len(tomograms))
    for core, halo in cuts:
        cut = Cut(core, halo, min(core // 2, round(halo * chosen.blend)))
        found, seconds = [], 0.0
        for tomogram in tomograms:
            image = normalised(tomogram.density, smoothed=card.smoothed, amplitude=card.amplitude)
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
