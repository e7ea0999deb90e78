"""One worker against two, and what the parts that were measured say of up to 256: a model.

    python benchmarks/scaling.py --pairs 3

Segments one volume of noise, of 12 shards of 64^3, scope none, with the default network and
one thread a worker, on clusters of one and of two workers by turns. The times are of the engine
alone, from the claim to the finished output; workers are up before, and have loaded torch.
Before it the network alone, in one process and in two at once: what two cores can give, and
what the processes of a cluster take while nothing is to be done.

The model is of 16,384 shards of 256^3 on workers like these, each with a core of its own and
files at the speed of here: every stage lasts as long as the worker that has most of its shards,
or as the driver, who hands them out one by one. It knows no congestion of network or disks.
"""

import argparse
import math
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import psutil
import zarr

from tomoseg.blockwise.clusters import local_cluster
from tomoseg.blockwise.execute import OnDask, Resources
from tomoseg.blockwise.prepare import prepare
from tomoseg.blockwise.prepared import Request
from tomoseg.blockwise.run import segment
from tomoseg.config import RefineConfig, SegmentConfig
from tomoseg.io.volume import open_volume
from tomoseg.saliency.predict import Predictor
from tomoseg.saliency.weights import load

SHAPE = (128, 128, 192)
SHARDS = 12
LARGE_SHARDS, LARGE_BLOCKS = 16_384, 64
"""Of the model: shards, and blocks in each."""

WORKERS = (1, 2, 4, 16, 64, 256)

IDLE_SECONDS = 15

WINDOWS = 6
READY: Barrier
"""Of the processes of the bare network, so that all compute at the same time."""


@dataclass(frozen=True)
class Timed:
    """One run: seconds of wall time from start to end, by stage, and of the driver's CPU."""

    start_up: float
    seconds: float
    stages: dict[str, float]
    driver_cpu: float


def timed(volume: Path, output: Path, workers: int) -> Timed:
    """Segment a volume on a cluster of so many workers."""
    resources = Resources(workers=workers, threads=1, device="cpu")
    config = SegmentConfig(refine=RefineConfig("none"), core=64, shard=64, voxel_size_angstrom=10.0)
    begun: dict[str, float] = {}
    before = time.perf_counter()
    with local_cluster(workers, 4 * 2**30, ()) as client:
        client.wait_for_workers(workers)
        client.run(__import__, "tomoseg.blockwise.shard")
        start_up = time.perf_counter() - before
        request = prepare(Request(open_volume(volume), output, config, resources))
        cpu, started = time.process_time(), time.perf_counter()

        def progress(stage: str, done: int, total: int) -> None:
            begun.setdefault(stage.partition(" ")[0], time.perf_counter())

        segment(request, OnDask(client, threading.Event()), progress)
        ended = time.perf_counter()
        cpu = time.process_time() - cpu
    ends = [*list(begun.values())[1:], ended]
    stages = {name: end - begin for (name, begin), end in zip(begun.items(), ends, strict=True)}
    return Timed(start_up, ended - started, stages, cpu)


def idle(workers: int) -> tuple[float, float]:
    """Return the shares of a core that the driver, and a worker, take for nothing at all."""
    with local_cluster(workers, 4 * 2**30, ()) as client:
        client.wait_for_workers(workers)
        driver = psutil.Process()
        found = [driver, *map(psutil.Process, client.run(os.getpid).values())]
        before = [sum(process.cpu_times()[:2]) for process in found]
        time.sleep(IDLE_SECONDS)
        own, *others = (
            (sum(process.cpu_times()[:2]) - cpu) / IDLE_SECONDS
            for process, cpu in zip(found, before, strict=True)
        )
    return own, statistics.mean(others)


def bare(processes: int) -> float:
    """Return the seconds of `WINDOWS` of the network alone, in so many processes at once."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(processes)
    with ProcessPoolExecutor(processes, context, _together, (ready,)) as pool:
        return max(pool.map(_windows, range(processes)))


def _together(ready: Barrier) -> None:
    global READY
    READY = ready


def _windows(_: int) -> float:
    network, _ = load("vnet3d")
    window = np.random.default_rng(0).normal(size=(1, 96, 96, 96)).astype(np.float32)
    model = Predictor(network)
    model.saliency(window)
    READY.wait()
    before = time.perf_counter()
    for _ in range(WINDOWS):
        model.saliency(window)
    return time.perf_counter() - before


def model(run: Timed, workers: int) -> float:
    """Return the hours that a large volume takes on so many workers, from a run on one."""
    block = {name: seconds / SHARDS for name, seconds in run.stages.items()}
    tasks = len(run.stages) * SHARDS
    handing_out = run.driver_cpu / tasks
    rounds = math.ceil(LARGE_SHARDS / workers)
    stages = (
        max(rounds * LARGE_BLOCKS * seconds, LARGE_SHARDS * handing_out)
        for seconds in block.values()
    )
    return (run.start_up + sum(stages)) / 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    pairs = parser.parse_args().pairs
    ones, ratios = [], []
    ceiling = [2 * bare(1) / bare(2) for _ in range(pairs)]
    print(f"the network alone in two processes: {statistics.median(ceiling):.2f} times", flush=True)
    driver, worker = idle(2)
    print(f"idle: the driver takes {driver:.1%} of a core, each of two workers {worker:.1%}")
    with tempfile.TemporaryDirectory() as holder:
        volume = Path(holder, "volume.zarr")
        noise = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
        zarr.create_array(volume, data=noise, chunks=(64,) * 3)
        for pair in range(pairs):
            one, two = (timed(volume, Path(holder, f"{pair}-{n}.zarr"), n) for n in (1, 2))
            ones.append(one)
            ratios.append(one.seconds / two.seconds)
            print(
                f"one worker {one.seconds:.1f} s, two {two.seconds:.1f} s: {ratios[-1]:.2f} times "
                f"(load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)",
                flush=True,
            )
    print(f"median {statistics.median(ratios):.2f} times")
    run = min(ones, key=lambda run: run.seconds)
    parts = ", ".join(f"{name} {1000 * s / SHARDS:.0f} ms" for name, s in run.stages.items())
    tasks = len(run.stages) * SHARDS
    print(f"a block: {parts}; driver {1000 * run.driver_cpu / tasks:.1f} ms of CPU a task")
    print("model of 16,384 shards of 256^3:\n| workers | hours | efficiency |\n|---|---|---|")
    for workers in WORKERS:
        hours = model(run, workers)
        print(f"| {workers} | {hours:.2f} | {model(run, 1) / workers / hours:.2f} |")


if __name__ == "__main__":
    main()
