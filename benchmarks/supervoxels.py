"""Our SLIC against scikit-image's: voxels per second, and how well borders are kept.

    python benchmarks/supervoxels.py

Simulated tomograms of validation, of several looks, are cut as windows of 96^3 voxels. Both
get the same edge, compactness and smoothing, by default the refinement's. Speed is measured
in turns (scikit-image and ours, each in one thread and in two), so that what else the machine
does befalls all; printed are the median rate, the ratio of each turn's rates as median and
range, and the same of CPU time, which suffers less. Quality is printed for volumes and slices.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from scoring import structures

from tomoseg.config import RefineConfig
from tomoseg.evaluation.cases import Image, Truth, elsewhere, home
from tomoseg.evaluation.partition import score_partition
from tomoseg.saliency.lanes import map_lanes
from tomoseg.saliency.supervoxels import Labels, reference_supervoxels, supervoxels

WINDOW = 96
LOOKS = [home(snr, "validation", (WINDOW,) * 3) for snr in (0.5, 1.5)] + [
    elsewhere(style, "validation", (WINDOW,) * 3)
    for style in ("sparse_clean", "dense_noisy", "dense_clean", "low_dose_sart")
]
LANES = (1, 2)
SCORES = ("boundary_recall", "undersegmentation", "achievable_accuracy", "boundary_share")

Slic = Callable[[Image], Labels]


def timed(slic: Slic, windows: Sequence[Image], lanes: int) -> tuple[float, float]:
    """Return Mvoxel/s of wall time and of CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    map_lanes(slic, windows, lanes)
    voxels = sum(window.size for window in windows) / 1e6
    return voxels / (time.perf_counter() - wall), voxels / (time.process_time() - cpu)


def compare_speed(methods: dict[str, Slic], windows: Sequence[Image], turns: int) -> None:
    """Print rates, and ratios of rates, of both methods in one thread and in two."""
    rates: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for _ in range(turns):
        for name, slic in methods.items():
            for lanes in LANES:
                rates.setdefault((name, lanes), []).append(timed(slic, windows, lanes))
    print(f"{len(windows)} windows of {WINDOW}^3, {turns} turns, {os.cpu_count()} cores\n")
    print("| method | threads | Mvoxel/s | Mvoxel/s of CPU time |\n|---|---|---|---|")
    for (name, lanes), found in rates.items():
        wall, cpu = (statistics.median(values) for values in zip(*found, strict=True))
        print(f"| {name} | {lanes} | {wall:.2f} | {cpu:.2f} |")
    theirs, ours = methods
    print("\n| ours over scikit-image | wall: median (range) | CPU time |\n|---|---|---|")
    for ours_in, theirs_in in ((1, 1), (2, 1), (2, 2)):
        pairs = zip(rates[ours, ours_in], rates[theirs, theirs_in], strict=True)
        wall, cpu = zip(*((a / c, b / d) for (a, b), (c, d) in pairs), strict=True)
        print(
            f"| {ours_in} over {theirs_in} thread{'s' * (theirs_in > 1)} "
            f"| {statistics.median(wall):.1f} ({min(wall):.1f} to {max(wall):.1f}) "
            f"| {statistics.median(cpu):.1f} |",
            flush=True,
        )


def quality(slic: Slic, views: Sequence[tuple[Image, Truth]]) -> np.ndarray:
    """Return the scores of `SCORES`, as means over views."""
    found = [score_partition(slic(image), truth) for image, truth in views]
    return np.array([[getattr(scores, name) for name in SCORES] for scores in found]).mean(0)


def shifted(views: Sequence[tuple[Image, Truth]]) -> list[tuple[Image, Truth]]:
    """Return images less 4 voxels of each edge, with the lattice of seeds 0 to 3 further on.

    In an image the luck of where the lattice falls upon few objects shows.
    """
    return [
        (image[n : n - 4, n : n - 4], truth[n : n - 4, n : n - 4])
        for image, truth in views
        for n in range(4)
    ]


def compare_quality(methods: dict[str, Slic], data: dict[str, list[tuple[Image, Truth]]]) -> None:
    """Print scores of ours and scikit-image's, and their ratios."""
    titles = [name.replace("_", " ") for name in SCORES]
    print(f"\n| ours / scikit-image (ratio) | {' | '.join(titles)} |\n|---|---|---|---|---|")
    ratios = []
    for name, views in data.items():
        theirs, ours = (quality(slic, views) for slic in methods.values())
        ratios.append(ours / theirs)
        cells = [f"{a:.4f} / {b:.4f} ({a / b:.4f})" for a, b in zip(ours, theirs, strict=True)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    cells = [f"{ratio:.4f}" for ratio in np.mean(ratios, axis=0)]
    print(f"| mean ratio | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = RefineConfig()
    parser.add_argument("--edge", type=int, default=default.supervoxel_edge)
    parser.add_argument("--compactness", type=float, default=default.compactness)
    parser.add_argument("--sigma", type=float, default=default.sigma)
    parser.add_argument("--turns", type=int, default=5, help="0 for quality alone")
    chosen = parser.parse_args()
    settings = {name: getattr(chosen, name) for name in ("edge", "compactness", "sigma")}
    methods: dict[str, Slic] = {
        "scikit-image": partial(reference_supervoxels, **settings),
        "ours": partial(supervoxels, **settings),
    }
    tomograms = {data.name: data.make(0, structures()) for data in LOOKS}
    if chosen.turns:
        windows = [tomogram.intensities for tomogram in tomograms.values()][:4]
        compare_speed(methods, windows, chosen.turns)
    compare_quality(methods, {name: found.views(3) for name, found in tomograms.items()})
    slices = {f"{name}, slices": shifted(found.views(2)) for name, found in tomograms.items()}
    compare_quality(methods, slices)


if __name__ == "__main__":
    main()
