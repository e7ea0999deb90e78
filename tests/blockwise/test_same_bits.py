"""The contract that everything else rests on: who computes, and when, changes no bit."""

import multiprocessing
import random

import pytest
from engine import CASES, config, digests, run, run_in_child

from tomoseg.blockwise.execute import Serial
from tomoseg.blockwise.status import read_status

SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["tomoseg.blockwise.run", "torch._dynamo"])  # the seconds of a start

KILLS = 10
"""Random instants for each case: forty in all."""


@pytest.fixture(scope="module")
def clusters():
    from distributed import LocalCluster

    opened = {}

    def address(workers):
        if workers not in opened:
            opened[workers] = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                silence_logs=40,
            )
        return opened[workers].scheduler_address

    yield address
    for cluster in opened.values():
        cluster.close()


@pytest.mark.parametrize("case", CASES)
def test_lanes(tmp_path, volume, weights, expected, case):
    run(volume, tmp_path / "out.zarr", config(weights, case), threads=3)
    assert digests(tmp_path / "out.zarr") == expected[case]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("workers", [1, 3])
def test_dask_workers(tmp_path, volume, weights, expected, clusters, case, workers):
    run(volume, tmp_path / "out.zarr", config(weights, case), scheduler=clusters(workers))
    assert digests(tmp_path / "out.zarr") == expected[case]


def test_the_embedded_cluster_of_two(tmp_path, volume, weights, expected):
    run(volume, tmp_path / "out.zarr", config(weights), workers=2)
    assert digests(tmp_path / "out.zarr") == expected["none"]


@pytest.mark.parametrize("case", CASES)
def test_order_of_tasks(tmp_path, volume, weights, expected, case, monkeypatch):
    in_order = Serial.map

    def shuffled(self, function, tasks):
        tasks = list(tasks)
        random.Random(1).shuffle(tasks)
        return in_order(self, function, tasks)

    monkeypatch.setattr(Serial, "map", shuffled)
    run(volume, tmp_path / "out.zarr", config(weights, case))
    assert digests(tmp_path / "out.zarr") == expected[case]


@pytest.mark.parametrize("version", ["0.5", "0.4"])
@pytest.mark.parametrize("case", ["none", "resampled"])
def test_shard_size_and_version(tmp_path, volume, weights, expected, case, version):
    run(volume, tmp_path / "out.zarr", config(weights, case, shard=128, ome_version=version))
    assert digests(tmp_path / "out.zarr") == expected[case]


@pytest.mark.parametrize("case", CASES[:4])
def test_killed_at_random_instants(tmp_path, volume, weights, undisturbed, case):
    output = tmp_path / "out.zarr"
    expected, whole = undisturbed[case]
    chance = random.Random(case)
    killed = 0
    for _ in range(KILLS):
        child = SPAWN.Process(target=run_in_child, args=(volume, output, weights, case))
        child.start()
        child.join(chance.uniform(0, whole))
        killed += child.is_alive()
        child.kill()
        child.join()
    assert killed, "no run was killed: the test showed nothing"
    run(volume, output, config(weights, case))
    assert digests(output) == expected
    assert read_status(output, verify=True).complete


@pytest.mark.parametrize(
    ("case", "moment", "count"),
    [
        ("none", "after the unlink", 3),
        ("none", "inside a write", 1),
        ("none", "inside a write", 6),
        ("none", "between write and journal", 2),
        ("none", "inside a journal line", 4),
        ("none", "in the pyramid", 1),
        ("none", "before the end", 1),
        ("resampled", "inside a write", 2),
        ("resampled", "inside a write", 7),
        ("resampled", "between write and journal", 3),
        ("resampled", "on the way back", 3),
        ("resampled", "while the scratch goes", 1),
        ("resampled", "before the end", 1),
        ("resampled", "before the end", 2),
    ],
)
def test_killed_at_the_worst_moments(tmp_path, volume, weights, expected, case, moment, count):
    output = tmp_path / "out.zarr"
    child = SPAWN.Process(
        target=run_in_child, args=(volume, output, weights, case, (moment, count))
    )
    child.start()
    child.join()
    assert child.exitcode == -9
    assert not read_status(output).complete
    run(volume, output, config(weights, case))
    assert digests(output) == expected[case]
    assert read_status(output, verify=True).complete
    assert not list((output / ".tomoseg").glob("*model*"))
