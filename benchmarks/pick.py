"""Picking measured: against known centres, over shard sizes, at full size, beside dask-image.

    python benchmarks/pick.py scores SEGMENTED.zarr TOMOGRAM.mrc PARTICLES.csv --diameter 200
    python benchmarks/pick.py shards SEGMENTED.zarr --diameter 200
    python benchmarks/pick.py large --shape 512 2048 2048 --objects 100000
    python benchmarks/pick.py part FOLDER --edge 512            # of what 'large' left in FOLDER

``scores`` prints recall, precision and F1 at half a diameter of pick and of a difference of
Gaussians with its peaks, the best of its thresholds chosen by the truth. ``shards`` compares
the particles over shard sizes and with cc3d on the whole mask. ``large`` makes a mask of
balls, picks by the command line and prints peak memory of the process tree. ``part`` times
pick and, where dask-image is installed in the Python given by --dask-image, its label.
"""

import argparse
import tempfile
import threading
from pathlib import Path

import cc3d
import mrcfile
import numpy as np
import zarr
from children import Measured, run_measured
from networks import tomoseg
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import peak_local_max

from tomoseg.blockwise.execute import Serial
from tomoseg.config import PickConfig
from tomoseg.evaluation.particles import Found, match
from tomoseg.geometry import Lattice
from tomoseg.io.picks import Picks
from tomoseg.particles.pick import pick
from tomoseg.particles.target import open_target

VOXEL = 10.0
SHARD = 256

DASK_IMAGE = """
import sys, zarr, dask.array as da
from dask_image.ndmeasure import label
import numpy as np
array = da.from_zarr(sys.argv[1])
edge = int(sys.argv[2])
part = array[:edge, :edge, :edge].rechunk(128)
labels, count = label(part, structure=np.ones((3, 3, 3)))
print(int(da.compute(count, labels.max())[0]))
"""


def run_pick(mask: Path, config: PickConfig) -> Picks:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "scratch"
        executor = Serial(threading.Event())
        target = open_target(str(mask))
        return pick(target, config, executor, scratch=scratch, progress=lambda *_: None)


def gaussians(density: NDArray[np.float32], diameter: float) -> tuple[NDArray, NDArray]:
    """Return peaks of a difference of Gaussians fit to the diameter (voxels), and heights."""
    dark = -density.astype(np.float32)
    sigma = diameter / 2 / np.sqrt(3)  # of the Laplacian of a Gaussian that fits a ball
    response = ndimage.gaussian_filter(dark, sigma / 1.26) - ndimage.gaussian_filter(dark, sigma)
    peaks = peak_local_max(
        response, min_distance=max(1, round(diameter / 2)), threshold_abs=0, exclude_border=False
    )
    return peaks, response[tuple(peaks.T)]


def best_of(peaks: NDArray, heights: NDArray, true: NDArray, distance: float) -> Found:
    """Return the best F1 over thresholds, which flatters the rival."""
    order = np.argsort(-heights)
    counts = np.unique(np.linspace(1, len(order), 60).astype(int))
    return max((match(peaks[order[:n]], true, distance) for n in counts), key=lambda f: f.f1)


def show(name: str, found: Found) -> None:
    print(
        f"{name:34} {found.predicted:6} {found.recall:7.3f} {found.precision:10.3f} {found.f1:6.3f}"
    )


def scores(options: argparse.Namespace) -> None:
    table = np.genfromtxt(options.particles, delimiter=",", names=True, dtype=None)
    true = np.stack([table[axis] for axis in "zyx"], 1)
    voxel = mrcfile.open(options.tomogram, header_only=True).voxel_size.x
    distance = options.diameter / 2 / voxel
    print(f"{len(true)} true; {'':24} picked  recall  precision     F1")
    for split in ("none", "distance", "saliency"):
        for apart in (0.0, options.diameter / 2, options.diameter):
            limits = {"min_volume_angstrom3": options.min_volume, "min_distance_angstrom": apart}
            config = PickConfig(diameter_angstrom=options.diameter, split=split, **limits)
            found = run_pick(options.mask, config)
            show(f"{split}, {apart:g} A apart", match(found.centres, true, distance))
    density = mrcfile.read(options.tomogram)
    peaks, heights = gaussians(density, options.diameter / voxel)
    show("difference of Gaussians, best", best_of(peaks, heights, true, distance))


def shards(options: argparse.Namespace) -> None:
    target = open_target(str(options.mask))
    with target.mask.reader() as reader:
        whole = reader.read(Lattice(target.mask.shape, max(target.mask.shape)).cell(0))
    labels, count = cc3d.connected_components(whole, connectivity=26, return_N=True)
    voxels = np.sort(cc3d.statistics(labels)["voxel_counts"][1:])
    for split in ("none", "distance", "saliency"):
        diameter = None if split == "none" else options.diameter
        found = [
            run_pick(options.mask, PickConfig(diameter_angstrom=diameter, split=split, shard=edge))
            for edge in (64, 128, 256)
        ]
        same = all(
            np.array_equal(found[0].centres, other.centres)
            and all(np.array_equal(v, other.columns[k]) for k, v in found[0].columns.items())
            for other in found[1:]
        )
        print(f"{split}: {len(found[0])} particles; shards of 64, 128, 256 equal: {same}")
        if split == "none":
            sizes = np.sort(found[0].columns["voxels"])
            print(f"as cc3d on the whole: {len(sizes) == count and np.array_equal(sizes, voxels)}")


def write_balls(path: Path, shape: tuple[int, int, int], objects: int) -> None:
    """Write a mask of balls of radius 5 to 9 voxels at random places, shard by shard."""
    random = np.random.default_rng(0)
    centres = random.uniform(0, 1, (objects, 3)) * shape
    radii = random.uniform(5, 9, objects)
    array = zarr.create_array(
        path, shape=shape, chunks=(64,) * 3, shards=(SHARD,) * 3, dtype=np.uint8
    )
    for box in Lattice(shape, SHARD):
        data = np.zeros(box.shape, np.uint8)
        near = np.all((centres > np.array(box.start) - 9) & (centres < np.array(box.stop) + 9), 1)
        for centre, radius in zip(centres[near] - box.start, radii[near], strict=True):
            low = np.maximum(0, np.floor(centre - radius)).astype(int)
            high = np.minimum(box.shape, np.ceil(centre + radius).astype(int) + 1)
            high = np.maximum(low, high)
            axes = np.ogrid[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
            square = sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True))
            data[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] |= square < radius**2
        array[box.slices] = data


def figures(found: Measured) -> str:
    """Return what a command took; processor time, for the machine may have other work."""
    peak = found.peak_bytes / 2**20
    return f"{found.seconds:.1f} s, {found.cpu_seconds:.1f} s of processors, peak {peak:.0f} MiB"


def large(options: argparse.Namespace) -> None:
    folder = options.folder or Path(tempfile.mkdtemp())
    mask = folder / "balls.zarr"
    if not mask.exists():
        write_balls(mask, tuple(options.shape), options.objects)
    runs = {"components": []} | (
        {"split by distance": ["--diameter", "140"]} if options.split else {}
    )
    for name, more in runs.items():
        out = folder / "balls.csv"
        arguments = ["--voxel-size", VOXEL, "--out", out, "--overwrite", "--quiet", *more]
        found = run_measured(tomoseg("pick", mask, *arguments, "--workers", options.workers))
        rows = sum(1 for _ in out.open()) - 1
        print(f"{name}: {rows} particles, {figures(found)}", flush=True)


def part(options: argparse.Namespace) -> None:
    mask, edge = options.folder / "balls.zarr", options.edge
    small = options.folder / f"part-{edge}.zarr"
    if not small.exists():
        source = zarr.open_array(mask, mode="r")[:edge, :edge, :edge]
        zarr.create_array(small, data=source, chunks=(64,) * 3, zarr_format=2)
    out = options.folder / "part.csv"
    arguments = ["--voxel-size", VOXEL, "--out", out, "--overwrite", "--quiet"]
    found = run_measured(tomoseg("pick", small, *arguments))
    rows = sum(1 for _ in out.open()) - 1
    print(f"tomoseg pick {rows} objects, {figures(found)}", flush=True)
    if options.dask_image:
        found = run_measured([str(options.dask_image), "-c", DASK_IMAGE, str(small), str(edge)])
        print(f"dask-image {found.output.strip()} objects, {figures(found)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("scores")
    one.add_argument("mask", type=Path)
    one.add_argument("tomogram", type=Path)
    one.add_argument("particles", type=Path)
    one.add_argument("--diameter", type=float, default=200.0)
    one.add_argument("--min-volume", type=float, default=None)
    one.set_defaults(run=scores)
    two = commands.add_parser("shards")
    two.add_argument("mask", type=Path)
    two.add_argument("--diameter", type=float, default=200.0)
    two.set_defaults(run=shards)
    three = commands.add_parser("large")
    three.add_argument("--shape", type=int, nargs=3, default=(512, 2048, 2048))
    three.add_argument("--objects", type=int, default=100_000)
    three.add_argument("--folder", type=Path)
    three.add_argument("--workers", type=int, default=1)
    three.add_argument("--split", action="store_true", help="and once more, split by distance")
    three.set_defaults(run=large)
    four = commands.add_parser("part")
    four.add_argument("folder", type=Path)
    four.add_argument("--edge", type=int, default=512)
    four.add_argument("--dask-image", type=Path)
    four.set_defaults(run=part)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
