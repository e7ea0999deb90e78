"""Time, memory and size of a report of a tomogram too large for any of it to be read whole.

    python benchmarks/report.py FOLDER [--shape 512 4096 4096]   # again: measures again

writes a sparse MRC file (a slice in twelve holds noise, 3 GB of disk for the default shape of
34 GB) and an output for it, with specks in the levels that a report looks at, and prints what
`tomoseg report` takes: seconds of the clock and of the processor, peak memory, bytes.
"""

import argparse
import dataclasses
import resource
from pathlib import Path

import mrcfile
import numpy as np
from children import run_measured
from networks import tomoseg

from tomoseg.blockwise.prepare import prepare
from tomoseg.blockwise.prepared import Request
from tomoseg.blockwise.run import Summary
from tomoseg.config import configure
from tomoseg.io.omezarr import ArrayStore, create, update_attributes
from tomoseg.io.volume import open_volume

SPECKS = 0.02
"""Share of voxels that are salient, in the levels that hold any."""

FIRST_LEVEL = 2
"""Finer ones stay empty: to fill them would take longer than to segment."""


def write_tomogram(path: Path, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    with mrcfile.new_mmap(path, shape, mrc_mode=2) as file:
        file.voxel_size = 10.0
        for z in range(0, shape[0], 12):
            file.data[z] = random.normal(size=shape[1:])


def write_output(path: Path, tomogram: Path) -> None:
    random = np.random.default_rng(1)
    settings = configure(weights="random:0", scope="none")
    prepared = prepare(Request(open_volume(tomogram), path, settings))
    layout = prepared.layout(path)
    create(layout, prepared.attributes())
    for level in range(FIRST_LEVEL, layout.levels):
        for kind, value in (("image", 200), ("mask", 1)):
            store = ArrayStore(layout, kind, level)
            for box in layout.shards(level):
                inside = random.random(box.shape, np.float32) < SPECKS
                store.write_shard(box, inside.astype(np.uint8) * np.uint8(value))
    summary = Summary(str(path), len(layout.shards(0)), 0, 1.0, SPECKS, True, {})
    update_attributes(path, {"complete": True, "summary": dataclasses.asdict(summary)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 4096, 4096))
    chosen = parser.parse_args()
    tomogram, output = chosen.folder / "big.mrc", chosen.folder / "big.zarr"
    if not output.exists():
        chosen.folder.mkdir(parents=True, exist_ok=True)
        write_tomogram(tomogram, tuple(chosen.shape))
        write_output(output, tomogram)
    page = chosen.folder / "report.html"
    found = run_measured(tomoseg("report", output, "--out", page, "--overwrite", "--quiet"))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{found.seconds:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of the processor, "
        f"{found.peak_bytes / 1e9:.2f} GB at most, {page.stat().st_size / 1e6:.1f} MB of page"
    )


if __name__ == "__main__":
    main()
