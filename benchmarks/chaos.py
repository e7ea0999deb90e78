"""Chaos: driver, workers or scheduler killed at random instants, and the bits that result.

    python benchmarks/chaos.py --kills 200

Small volumes, a small network, scopes none, volume and block in turn. In each round a driver
works with a scheduler and two workers, processes of their own. One to six times one of them
dies by SIGKILL at a random instant and another takes its place, while workers of a dead driver
may still write; the last driver ends its work, or another one without Dask does. Afterwards
every file of the arrays must be that of an undisturbed run, what was done must not have been
done again, and nothing may be locked or left over. The instants follow from --seed as far as
the machine lets them.
"""

import argparse
import asyncio
import contextlib
import hashlib
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import torch
import zarr
from networks import weights_of

from tomoseg.blockwise.execute import Resources, open_executor
from tomoseg.blockwise.journal import journal_folder, read_state
from tomoseg.blockwise.prepare import prepare
from tomoseg.blockwise.prepared import Request
from tomoseg.blockwise.run import Summary, segment
from tomoseg.blockwise.status import read_status
from tomoseg.config import RefineConfig, SegmentConfig
from tomoseg.errors import ExecutorError, Stopped, TomosegError
from tomoseg.io.volume import open_volume

SHAPE = (20, 70, 66)
SCOPES = ("none", "volume", "block")
VICTIMS = ("driver", "worker", "scheduler")
KILLS = 6
"""In a round, at most: where they are few they come in any stage, where many close together."""

LOOPBACK = "127.0.0.1"
PATIENCE = 300
"""Seconds within which what is left alive has to end."""

os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")
PROCESSES = multiprocessing.get_context("forkserver")
PRELOADED = ["tomoseg.blockwise.run", "distributed", "torch._dynamo"]
"""What takes seconds to import, once and for all processes."""

NETWORK = {"base_channels": 1, "generator_channels": 1, "local_kernel": 1}
"""A block in about 0.1 s of one core: the shards are few, what is around them is meant."""


@dataclass(frozen=True)
class Work:
    """A request, picklable, for whichever process drives it."""

    volume: Path
    config: SegmentConfig

    def run(self, output: Path, scheduler: str | None = None) -> Summary:
        """Do it, or what is left of it."""
        torch.set_num_threads(1)
        resources = Resources(threads=1, scheduler=scheduler)
        prepared = prepare(Request(open_volume(self.volume), output, self.config, resources))
        with open_executor(resources, threading.Event()) as executor:
            return segment(prepared, executor, lambda *_: None)


def drive(work: Work, output: Path, scheduler: str) -> None:
    try:
        work.run(output, scheduler)
    except TomosegError as error:
        print(f"  the driver: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def serve_scheduler(told: Connection) -> None:
    from distributed import Scheduler

    async def serve() -> None:
        async with Scheduler(host=LOOPBACK, port=0, dashboard_address=f"{LOOPBACK}:0") as found:
            told.send(found.address)
            await found.finished()

    asyncio.run(serve())


def serve_worker(scheduler: str, folder: Path) -> None:
    from distributed import Worker

    async def serve() -> None:
        options = {"host": LOOPBACK, "dashboard_address": f"{LOOPBACK}:0", "death_timeout": 10}
        async with Worker(scheduler, nthreads=2, local_directory=str(folder), **options) as found:
            await found.finished()

    asyncio.run(serve())


def start(function: object, *arguments: object) -> BaseProcess:
    process = PROCESSES.Process(target=function, args=arguments)
    process.start()
    return process


@dataclass(frozen=True)
class Cluster:
    """A scheduler's address, and the processes."""

    address: str
    scheduler: BaseProcess
    workers: list[BaseProcess]


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start a scheduler and two workers, and kill what is left of them."""
    here, there = PROCESSES.Pipe()
    scheduler = start(serve_scheduler, there)
    if not here.poll(PATIENCE):
        raise SystemExit("the scheduler did not start")
    address = here.recv()
    workers = [start(serve_worker, address, folder) for _ in range(2)]
    try:
        yield Cluster(address, scheduler, workers)
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.join()


def array_files(output: Path) -> dict[str, str]:
    """Return the sha256 of every file of the arrays."""
    return {
        str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in output.rglob("*")
        if path.is_file() and "c" in path.relative_to(output).parts
    }


def faults(output: Path, expected: dict[str, str]) -> Iterator[str]:
    """Yield what is wrong with an output that is finished."""
    if array_files(output) != expected:
        yield "other bits"
    if not read_status(output, verify=True).complete:
        yield "its status is not complete"
    if left := [path for path in output.parent.rglob("*partial*") if path.exists()]:
        yield f"left over: {left}"
    if list((output / ".tomoseg").glob("*model*")):
        yield "parts are left"


def play(
    work: Work, victims: list[str], seconds: float, chance: random.Random, expected: dict[str, str]
) -> tuple[list[str], list[str]]:
    """Play a round: who was killed in the midst of the work, and what is wrong afterwards."""
    killed: list[str] = []
    with tempfile.TemporaryDirectory() as holder, contextlib.ExitStack() as stack:
        folder, output = Path(holder), Path(holder, "out.zarr")
        found = stack.enter_context(cluster(folder / "dask"))
        driver = start(drive, work, output, found.address)
        for victim in victims:
            driver.join(chance.uniform(0, 2 * seconds / (1 + len(victims))))
            if not driver.is_alive():
                break
            killed.append(victim)
            if victim == "driver":
                driver.kill()
                driver.join()
                driver = start(drive, work, output, found.address)
            elif victim == "worker":
                found.workers[-1].kill()
                found.workers.append(start(serve_worker, found.address, folder / "dask"))
            else:
                found.scheduler.kill()
                driver.join(PATIENCE)
                if driver.exitcode not in (0, Stopped.exit_code, ExecutorError.exit_code):
                    return killed, [f"without a scheduler the driver ended with {driver.exitcode}"]
                found = stack.enter_context(cluster(folder / "dask"))
                driver = start(drive, work, output, found.address)
        before = len(read_state(journal_folder(output)).done)
        if chance.random() < 0.5:  # the last one is left alone, or another goes on without Dask
            driver.join(PATIENCE)
            if driver.exitcode:
                return killed, [f"undisturbed, the driver ended with {driver.exitcode}"]
        driver.kill()
        driver.join()
        summary = work.run(output)
        wrong = list(faults(output, expected))
        if summary.computed > summary.shards - before:
            wrong.append(f"{before} shards were done, and {summary.computed} were computed again")
        return killed, wrong


def works(folder: Path) -> Iterator[Work]:
    """Yield the request of each scope, over one volume of dark balls in noise."""
    chance = np.random.default_rng(0)
    voxels = chance.normal(0, 1, SHAPE).astype(np.float32)
    for centre in chance.uniform(0, SHAPE, (4, len(SHAPE))):
        offsets = np.ogrid[tuple(slice(n) for n in SHAPE)]
        distance = sum((a - c) ** 2 for a, c in zip(offsets, centre, strict=True))
        voxels[distance < 36] -= 3
    volume, weights = folder / "volume.zarr", weights_of(folder, **NETWORK)
    zarr.create_array(volume, data=voxels, chunks=(64,) * 3)
    for scope in SCOPES:
        rule = "teacher" if scope == "volume" else "majority"
        # of Algorithm 1 without supervoxels, which take most of its time and write nothing
        refine = RefineConfig(scope, rule, "continuity", 4, iterations=2, sample_blocks=1)
        yield Work(
            volume,
            SegmentConfig(
                weights=str(weights), refine=refine, core=64, shard=64, voxel_size_angstrom=10.0,
                halo=16 if scope == "none" else 0,
            ),
        )  # fmt: skip


def undisturbed(work: Work, folder: Path) -> tuple[dict[str, str], float]:
    """Return the files of a run without a cluster, and the seconds of one with it."""
    files = folder / "serial.zarr", folder / "cluster.zarr"
    work.run(files[0])
    with cluster(folder / "dask") as found:
        started = time.monotonic()
        driver = start(drive, work, files[1], found.address)
        driver.join()
        seconds = time.monotonic() - started
    expected = array_files(files[0])
    if driver.exitcode or array_files(files[1]) != expected:
        raise SystemExit("without any kill the bits differ")
    return expected, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    PROCESSES.set_forkserver_preload(PRELOADED)
    chance = random.Random(chosen.seed)
    killed: Counter[tuple[str, str]] = Counter()
    bad = 0
    with tempfile.TemporaryDirectory() as holder:
        cases = list(works(Path(holder)))
        known: dict[str, tuple[dict[str, str], float]] = {}
        rounds = 0
        while killed.total() < chosen.kills:
            work = cases[rounds % len(cases)]
            scope = work.config.refine.scope
            if scope not in known:
                known[scope] = undisturbed(work, Path(holder, scope))
                print(f"{scope}: {known[scope][1]:.1f} s undisturbed", flush=True)
            expected, seconds = known[scope]
            left = chosen.kills - killed.total()
            victims = chance.choices(VICTIMS, k=min(chance.randint(1, KILLS), left))
            died, wrong = play(work, victims, seconds, chance, expected)
            killed.update((scope, victim) for victim in died)
            rounds += 1
            bad += bool(wrong)
            said = "; ".join(wrong) or "the same bits"
            print(f"{killed.total()}: {scope}, {', '.join(died) or 'nobody'}: {said}", flush=True)
    for (scope, victim), count in sorted(killed.items()):
        print(f"{scope:8} {victim:10} {count:4} killed")
    print(f"{killed.total()} killed in {rounds} rounds, {bad} of them with a fault")
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()
