"""Peak memory of the process tree over the size of the volume, scope none.

    python benchmarks/memory.py 256 512 1024

A volume of EDGE^3 uint8 voxels of noise is made as Zarr, shard by shard, and segmented by
the command line with a small network (so that it ends) and two lanes.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import zarr
from children import run_measured
from networks import small_weights, tomoseg

from tomoseg.geometry import Lattice


def write_noise(path: Path, edge: int) -> None:
    array = zarr.create_array(
        path, shape=(edge,) * 3, chunks=(64,) * 3, shards=(256,) * 3, dtype=np.uint8
    )
    tile = np.random.default_rng(0).integers(0, 256, (256,) * 3).astype(np.uint8)
    for box in Lattice((edge,) * 3, 256):
        array[box.slices] = tile[tuple(slice(n) for n in box.shape)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("edges", nargs="*", type=int, default=[256, 512, 1024])
    parser.add_argument("--workers", type=int, default=1)
    edges, workers = parser.parse_args().edges, parser.parse_args().workers
    print(f"{'edge':>6} {'peak MiB':>9} {'seconds':>8}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        weights = small_weights(Path(folder))
        for edge in edges:
            source = Path(folder) / f"{edge}.zarr"
            write_noise(source, edge)
            arguments = ["--scope", "none", "--halo", "0", "--weights", str(weights)]
            arguments += ["--voxel-size", "10", "--workers", str(workers), "--quiet"]
            output = Path(folder) / f"{edge}-out.zarr"
            found = run_measured(tomoseg("segment", source, "--out", output, *arguments))
            print(f"{edge:6} {found.peak_bytes / 2**20:9.0f} {found.seconds:8.1f}", flush=True)


if __name__ == "__main__":
    main()
