"""What a million blocks cost besides computing them: start-up, the driver's memory, overhead.

    python benchmarks/scale.py

A sparse MRC file of 4096 x 8192 x 8192 zeros is 1,048,576 blocks in 16,384 shards of 256^3.

- **plan**: ``tomoseg segment --dry-run`` on it.
- **run**: the engine goes over the first --shards of them on a Dask cluster of two workers; a
  shard is begun and recorded, but neither read nor computed nor written. What is left is the
  overhead.
- **run**, once more: the same when all are **record**ed, up to the next stage's first shard.
- **around the network**: all of the engine, on 8 shards of 128^3, with a network that returns
  zeros: reading, windows, blending, hashing, writing, placing, pyramid.

The journal is flushed to the disk twice a shard. TMPDIR=/dev/shm keeps that out of the figures.
"""

import argparse
import contextlib
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import mrcfile
import numpy as np
import psutil
from children import Measured, run_measured
from networks import small_weights, tomoseg
from recorder import RecordedOnly
from silent import Silent

from tomoseg.blockwise import shard
from tomoseg.blockwise.execute import Resources, open_executor
from tomoseg.blockwise.journal import Turn, journal_folder
from tomoseg.blockwise.prepare import prepare
from tomoseg.blockwise.prepared import Prepared, Request
from tomoseg.blockwise.run import segment
from tomoseg.config import BLOCK, RefineConfig, SegmentConfig
from tomoseg.errors import Stopped
from tomoseg.io.volume import open_volume

SHAPE = (4096, 8192, 8192)
SMALL = (256, 256, 256)


def write_sparse(path: Path, shape: tuple[int, ...]) -> None:
    """Write an MRC file of zeros that takes no space."""
    with mrcfile.new(path, np.zeros((1, 1, 1), np.int8)) as file:
        file.header.nz, file.header.ny, file.header.nx = shape
        file.header.mz, file.header.my, file.header.mx = shape
        file.header.cella = tuple(10.0 * n for n in reversed(shape))
        length = int(np.prod(shape, dtype=np.int64))
        file.flush()
    with path.open("r+b") as raw:
        raw.truncate(1024 + length)


def prepared(volume: Path, output: Path, **settings: object) -> Prepared:
    """Prepare scope none with a small network, whose time and memory are not of interest."""
    config = SegmentConfig(
        weights=str(small_weights(volume.parent)), refine=RefineConfig("none"), **settings
    )
    return prepare(Request(open_volume(volume), output, config, Resources(workers=2, threads=1)))


def peak_mib() -> float:
    """Return the most memory that this process held, its children not counted."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def go_over(volume: Path, output: Path, shards: int) -> None:
    """Run until so many shards are recorded, or all are and the next stage begins."""
    request = RecordedOnly(**vars(prepared(volume, output)))
    stop = threading.Event()
    start = psutil.Process().create_time()
    seconds: dict[tuple[str, int], tuple[float, float]] = {}

    def progress(stage: str, done: int, total: int) -> None:
        if done in (0, 1, shards):
            seconds[stage, done] = time.time() - start, time.process_time()
        if (stage, done) in (("segment", shards), ("seams", 0)):
            stop.set()

    resources = Resources(workers=2, threads=1)
    with contextlib.suppress(Stopped), open_executor(resources, stop) as executor:
        segment(request, executor, progress)
    first, what = ("segment", 1), "the first shard"
    if first not in seconds:
        first, what = ("seams", 0), "the next stage"
    wall, cpu = seconds[first]
    text = f"{wall:.1f} s ({cpu:.1f} s of CPU) to {what} of {len(request.plan.shards)} shards"
    if ("segment", shards) in seconds:
        ended, blocks = (
            seconds["segment", shards],
            (shards - 1) * (request.plan.shard // BLOCK) ** 3,
        )
        wall, cpu = (1000 * (b - a) / blocks for a, b in zip(seconds[first], ended, strict=True))
        text += f"; then {wall:.3f} ms a block ({cpu:.3f} ms of the driver's CPU)"
    print(f"{text}; driver {peak_mib():.0f} MiB", flush=True)


def record_the_rest(volume: Path, output: Path) -> None:
    """Record every shard, in this process."""
    request = RecordedOnly(**vars(prepared(volume, output)))
    recorder = request.job(output, run=2).open()
    Turn(journal_folder(Path(recorder.job.layout.path))).take(2)
    for number in range(len(request.plan.shards)):
        recorder.segment(number)
    print(f"{len(request.plan.shards)} shards", flush=True)


def around_the_network(volume: Path, output: Path) -> None:
    """Run everything with a network that returns zeros, in this process."""
    shard.Predictor = Silent
    request = prepared(volume, output, shard=128)
    with open_executor(Resources(threads=1), threading.Event()) as executor:
        started = time.process_time()
        segment(request, executor, lambda *_: None)
        seconds = time.process_time() - started
    print(f"{1000 * seconds / len(request.plan.blocks):.1f} ms of CPU a block")


def in_words(found: Measured) -> str:
    """Return what a command took."""
    seconds = f"{found.seconds:.1f} s ({found.cpu_seconds:.1f} s of CPU)"
    return f"{seconds}, {found.peak_bytes / 2**20:.0f} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE)
    parser.add_argument("--shards", type=int, default=16_384)
    chosen = parser.parse_args()
    if chosen.step:
        name, volume, output = chosen.step[0], Path(chosen.step[1]), Path(chosen.step[2])
        if name == "run":
            go_over(volume, output, chosen.shards)
        elif name == "record":
            record_the_rest(volume, output)
        else:
            around_the_network(volume, output)
        return
    with tempfile.TemporaryDirectory() as holder:
        volume, output = Path(holder, "large.mrc"), Path(holder, "out.zarr")
        write_sparse(volume, tuple(chosen.shape))
        plan = run_measured(tomoseg("segment", volume, "--out", output, "--dry-run"))
        print(f"plan: {in_words(plan)}", flush=True)

        def step(name: str, *paths: Path) -> None:
            print(f"{name}: ", end="", flush=True)
            line = [sys.executable, __file__, "--shards", str(chosen.shards), "--step", name]
            subprocess.run([*line, *map(str, paths)], check=True)

        step("run", volume, output)
        step("record", volume, output)
        step("run", volume, output)
        status = run_measured(tomoseg("status", output), codes=(Stopped.exit_code,))
        print(f"status: {in_words(status)}", flush=True)
        write_sparse(volume.with_name("small.mrc"), SMALL)
        step("around the network", volume.with_name("small.mrc"), output.with_name("small.zarr"))


if __name__ == "__main__":
    main()
