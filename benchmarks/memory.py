"""Peak memory of the process tree, and seconds, over the size of the volume; scope none.

    python benchmarks/memory.py 512x512x512 768x768x768 1024x1024x1024 1024x2048x2048

Sparse MRC files of int8 zeros (z x y x x), the default window, shard and lanes, and a network
that returns zeros, so that the largest ends; with --network the shipped one computes 16 windows of
every 256 (`silent`). All of them take more: the heap is in more pieces after many in a row.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from children import run_measured
from scale import write_sparse

SIZES = ("512x512x512", "768x768x768", "1024x1024x1024", "1024x2048x2048")


def command(network: bool, source: Path, output: Path) -> list[str]:
    """Return what segments a volume."""
    script = str(Path(__file__).with_name("silent.py"))
    says = "network" if network else "zeros"
    return [sys.executable, script, str(source), str(output), "--says", says]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", default=SIZES)
    parser.add_argument("--network", action="store_true")
    chosen = parser.parse_args()
    print("| volume | voxels | peak, MiB | seconds |\n|---|---|---|---|", flush=True)
    voxels, seconds = [], []
    for size in chosen.sizes:
        shape = tuple(map(int, size.split("x")))
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "volume.mrc")
            write_sparse(source, shape)
            found = run_measured(command(chosen.network, source, Path(folder, "out.zarr")))
        voxels.append(float(np.prod(shape)))
        seconds.append(found.seconds)
        print(
            f"| {size} | {voxels[-1]:.3g} | {found.peak_bytes / 2**20:.0f} | {found.seconds:.1f} |",
            flush=True,
        )
    if len(voxels) > 2:
        print(f"\nseconds over voxels: R^2 {np.corrcoef(voxels, seconds)[0, 1] ** 2:.4f} of a line")


if __name__ == "__main__":
    main()
