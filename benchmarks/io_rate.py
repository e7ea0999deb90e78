"""Everything but the network beside cp: an MRC file to saliency and mask in sharded Zarr.

    python benchmarks/io_rate.py --edge 768

A float32 volume of noise is copied (and flushed), converted to OME-Zarr, and segmented with
blobs in the network's place (`silent`): read with halos, normalised, cut, blended, hashed,
compressed, flushed, placed, its pyramid built. By turns, on the folder of temporary files
(TMPDIR); rates are of the input's bytes.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from children import run_measured
from networks import tomoseg
from speed import write_volume


def copied(source: Path, target: Path) -> float:
    """Return the seconds of a flushed copy."""
    started = time.perf_counter()
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=768)
    parser.add_argument("--turns", type=int, default=2)
    chosen = parser.parse_args()
    print("| | seconds | MB/s |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "volume.mrc")
        write_volume(source, chosen.edge)
        megabytes = source.stat().st_size / 1e6
        for turn in range(chosen.turns):
            copy, zarr, out = (Path(folder, f"{turn}{end}") for end in (".mrc", ".zarr", "-o.zarr"))
            silent = [sys.executable, str(Path(__file__).with_name("silent.py")), "--says", "blobs"]
            for name, seconds in (
                ("cp and fsync", copied(source, copy)),
                ("tomoseg convert", run_measured(tomoseg("convert", source, zarr)).seconds),
                (
                    "tomoseg segment",
                    run_measured([*silent, str(source), str(out)]).seconds,
                ),
            ):
                print(f"| {name} | {seconds:.1f} | {megabytes / seconds:.0f} |", flush=True)
            copy.unlink()
            shutil.rmtree(zarr)
            shutil.rmtree(out)


if __name__ == "__main__":
    main()
