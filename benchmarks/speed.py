"""The whole job against the bare network, and against MONAI's SlidingWindowInferer.

    pip install -c constraints.txt -e '.[bench]'
    python benchmarks/speed.py --edge 512

One MRC volume, one network, the same windows (edge 128 + 2 * halo, 128 apart). Each way runs
in a process of its own, reads the volume from disk, and (but the bare network) writes
saliency and mask to Zarr. MONAI runs with Gaussian blending and torch's own threads; the
bare network both with lanes and with torch's own threads, of which the faster counts.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import mrcfile
import numpy as np
from children import run_measured
from networks import tomoseg

from tomoseg.config import CORE
from tomoseg.geometry import Lattice

THREADS = 2
MOST_WINDOWS = 128
"""Of the bare network; the seconds of more follow."""


def write_volume(path: Path, edge: int) -> None:
    random = np.random.default_rng(0)
    with mrcfile.new_mmap(path, (edge,) * 3, mrc_mode=2, overwrite=True) as file:
        for plane in file.data:
            plane[:] = random.normal(size=plane.shape)
        file.voxel_size = 10.0
        file.update_header_stats()


def bare(weights: str, edge: int, halo: int, lanes: int) -> None:
    """Run the network alone; print its seconds for as many windows as the volume has."""
    import torch

    from tomoseg.saliency.lanes import lane_setup, map_lanes
    from tomoseg.saliency.predict import Predictor
    from tomoseg.saliency.weights import load

    model = Predictor(load(weights)[0])
    window = np.random.default_rng(0).normal(size=(1, *(CORE + 2 * halo,) * 3))
    window = window.astype(np.float32)
    blocks = len(Lattice((edge,) * 3, CORE))
    count = min(blocks, MOST_WINDOWS)  # each takes as long as the next
    started = time.perf_counter()
    if lanes > 1:
        map_lanes(lambda _: model.saliency(window).sum(), range(count), lanes)
    else:
        lane_setup()
        values = torch.from_numpy(window[:, None])
        torch.set_num_threads(THREADS)
        with torch.inference_mode():
            for _ in range(count):
                model.network.logits(values).sigmoid()
    print((time.perf_counter() - started) * blocks / count)


def monai(weights: str, source: str, output: str, halo: int, batch: int) -> None:
    """Do what MONAI's documentation does, on the same volume and network."""
    import torch
    import zarr
    from monai.inferers import SlidingWindowInferer

    from tomoseg.saliency.weights import load

    torch.set_num_threads(THREADS)
    network, _ = load(weights)
    with mrcfile.open(source) as file:
        data = file.data.astype(np.float32)
    data = (np.median(data) - data) / data.std()
    window = CORE + 2 * halo
    inferer = SlidingWindowInferer(
        roi_size=window, sw_batch_size=batch, overlap=1 - CORE / window, mode="gaussian"
    )
    with torch.inference_mode():
        values = torch.from_numpy(data)[None, None]
        saliency = inferer(values, lambda x: network.logits(x).sigmoid())[0, 0]
        levels = (saliency * 255).round().to(torch.uint8).numpy()
    zarr.create_array(f"{output}/saliency", data=levels, chunks=(64,) * 3, shards=(192,) * 3)
    mask = (levels >= 128).astype(np.uint8)
    zarr.create_array(f"{output}/mask", data=mask, chunks=(64,) * 3, shards=(192,) * 3)


def compare(edge: int, weights: str, halo: int, repeats: int) -> None:
    voxels = edge**3 / 1e6
    with tempfile.TemporaryDirectory() as folder:
        source = f"{folder}/volume.mrc"
        write_volume(Path(source), edge)
        this = [sys.executable, __file__, "--halo", str(halo), "--weights", weights]
        arguments = ["--weights", weights, "--scope", "none", "--halo", halo, "--quiet"]
        rows: dict[str, list[tuple[float, int]]] = {}
        for repeat in range(repeats):
            for lanes in (1, THREADS):
                found = run_measured([*this, "--bare", str(lanes), "--edge", str(edge)])
                name = f"bare network, {lanes} lane{'s' if lanes > 1 else ', 2 torch threads'}"
                seconds = float(found.output.split()[-1])
                rows.setdefault(name, []).append((seconds, found.peak_bytes))
            output = f"{folder}/out{repeat}.zarr"
            found = run_measured(tomoseg("segment", source, "--out", output, *arguments))
            rows.setdefault("tomoseg segment", []).append((found.seconds, found.peak_bytes))
            found = run_measured([*this, "--monai", source, f"{folder}/monai{repeat}"])
            rows.setdefault("MONAI", []).append((found.seconds, found.peak_bytes))
            for name, values in rows.items():
                seconds, peak = values[-1]
                rate = voxels / seconds
                print(f"{name:36}{seconds:9.1f} s {rate:8.3f} Mvoxel/s {peak / 2**20:8.0f} MiB")
            best = min(values[-1][0] for name, values in rows.items() if name.startswith("bare"))
            ours, theirs = rows["tomoseg segment"][-1], rows["MONAI"][-1]
            print(f"voxel rate of the whole job over the bare network: {best / ours[0]:.3f}")
            print(f"wall over MONAI's: {ours[0] / theirs[0]:.3f}")
            print(f"peak memory over MONAI's: {ours[1] / theirs[1]:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=512)
    parser.add_argument("--halo", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--weights", default="vnet3d")
    parser.add_argument("--bare", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--monai", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.bare:
        bare(chosen.weights, chosen.edge, chosen.halo, chosen.bare)
    elif chosen.monai:
        monai(chosen.weights, *chosen.monai, chosen.halo, batch=1)
    else:
        compare(chosen.edge, chosen.weights, chosen.halo, chosen.repeats)


if __name__ == "__main__":
    main()
