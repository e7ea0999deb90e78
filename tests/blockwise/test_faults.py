"""Each fault has its outcome: what goes on, what is said, and that the bits stay right."""

import multiprocessing
import os
import threading
import time

import numpy as np
import pytest
from engine import SHAPE, config, digests, run, write_volume

from tomoseg.blockwise import execute, shard
from tomoseg.blockwise.clock import Clock
from tomoseg.blockwise.execute import Lost, OnDask
from tomoseg.blockwise.journal import Turn, journal_folder, read_state
from tomoseg.blockwise.stages import PASSES
from tomoseg.blockwise.status import read_status
from tomoseg.blockwise.write import ShardWriter
from tomoseg.errors import InputError, Stopped, StorageError
from tomoseg.io.omezarr import Layout, create

LONG = (20, 64, 300)
"""Five shards in a row: the windows of one reach the shards beside it and no others."""


def failing(monkeypatch, number, times):
    """Let a shard raise so many times."""
    compute, left = shard.Worker._compute, [times]

    def fail(self, found, stored):
        if found == number and left[0]:
            left[0] -= 1
            raise RuntimeError("the voxels are too odd")
        return compute(self, found, stored)

    monkeypatch.setattr(shard.Worker, "_compute", fail)


def test_a_shard_that_fails_is_tried_again(tmp_path, volume, weights, expected, monkeypatch):
    failing(monkeypatch, 2, PASSES - 1)
    assert run(volume, tmp_path / "out.zarr", config(weights)).computed == 6
    assert digests(tmp_path / "out.zarr") == expected["none"]


def test_a_shard_that_fails_always_is_left_and_the_rest_goes_on(tmp_path, weights, monkeypatch):
    volume, output = write_volume(tmp_path / "long.zarr", LONG), tmp_path / "out.zarr"
    with monkeypatch.context() as patch:
        failing(patch, 0, 99)
        with pytest.raises(Stopped, match=r"1 shards failed 3 times.*too odd.*tomoseg status"):
            run(volume, output, config(weights))
    status = read_status(output)
    assert not status.complete
    assert list(status.failed) == [0]
    assert "too odd" in status.failed[0]
    assert sorted(read_state(journal_folder(output)).done) == [2, 3, 4]  # 0 and 1 rest on it
    assert run(volume, output, config(weights)).computed == 2
    run(volume, tmp_path / "undisturbed.zarr", config(weights))
    assert digests(output) == digests(tmp_path / "undisturbed.zarr")


def test_a_shard_that_kills_its_workers_is_left_too(tmp_path, weights, monkeypatch):
    volume, output = write_volume(tmp_path / "long.zarr", LONG), tmp_path / "out.zarr"
    in_order = execute.Serial.map

    def losing(self, function, tasks):
        for result in in_order(self, function, tasks):
            at_stake = getattr(result, "shard", None) == 4 and "segment" in str(function)
            yield Lost(4, "its workers died") if at_stake else result

    with monkeypatch.context() as patch:
        patch.setattr(execute.Serial, "map", losing)
        patch.setattr(ShardWriter, "_recorded", without_record_of(4))
        with pytest.raises(Stopped, match="its workers died"):
            run(volume, output, config(weights))
    assert sorted(read_state(journal_folder(output)).done) == [0, 1, 2]
    assert run(volume, output, config(weights)).computed == 2


def without_record_of(number):
    record = ShardWriter._recorded

    def recorded(self, found, compute):
        if found != number or "model" not in str(self._turn._number):
            return record(self, found, compute)
        self._journal.append(found, "begin")
        return shard.ShardResult(found, "", {})

    return recorded


def test_an_input_that_changes_under_a_run_is_no_result(tmp_path, weights):
    volume = write_volume(tmp_path / "in.zarr")

    def meddle(stage, done, total):
        if stage == "place" and done == 1:
            os.utime(volume / "zarr.json", ns=(1, 1))

    with pytest.raises(InputError, match=r"changed while it was segmented \(mtime_ns\)"):
        run(volume, tmp_path / "out.zarr", config(weights), progress=meddle)
    assert not read_status(tmp_path / "out.zarr").complete


# Time ------------------------------------------------------------------------------------


def test_no_shard_is_begun_that_would_not_end_in_time(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("tomoseg.blockwise.clock.time.time", lambda: now[0])
    clock = Clock(deadline=1100.0)
    tasks = clock.tasks(range(10))
    for seconds in (30, 30, 39):  # of 1 left after them; and nothing is known at first
        next(tasks)
        now[0] += seconds
        clock.add(seconds)
    assert clock.over
    assert list(tasks) == []
    assert list(Clock(None).tasks(range(3))) == [0, 1, 2]


def test_a_run_out_of_time_stops_and_goes_on(tmp_path, volume, weights, expected):
    output = tmp_path / "out.zarr"
    with pytest.raises(Stopped, match="time left is too short"):
        run(volume, output, config(weights), deadline=time.time() - 1)
    run(volume, output, config(weights), deadline=time.time() + 3600)
    assert digests(output) == expected["none"]


# Workers that outlive their driver -------------------------------------------------------


def image(path) -> Layout:
    layout = Layout(str(path), SHAPE, (10.0,) * 3, (0.0,) * 3, 64)
    create(layout, {}, folder=".tomoseg")
    return layout


def test_a_worker_of_an_earlier_run_writes_nothing(tmp_path):
    layout = image(tmp_path / "out.zarr")
    folder = journal_folder(tmp_path / "out.zarr")
    late, own = (ShardWriter(layout, run=n) for n in (1, 2))
    Turn(folder).take(2)
    ones = lambda box: np.ones(box.shape, np.uint8)  # noqa: E731
    with pytest.raises(StorageError, match="run 1 is over"):
        late.write(0, ones)
    assert read_state(folder).done == {}
    own.write(0, ones)
    assert list(read_state(folder).done) == [0]
    assert read_state(folder).last_run == 2


def hold(folder, run, held, let_go):
    with Turn(folder).writing(run):
        held.set()
        let_go.wait(60)


def test_a_later_run_waits_for_who_still_writes(tmp_path):
    image(tmp_path / "out.zarr")
    folder = journal_folder(tmp_path / "out.zarr")
    spawn = multiprocessing.get_context("forkserver")
    held, let_go = spawn.Event(), spawn.Event()
    child = spawn.Process(target=hold, args=(folder, 1, held, let_go))
    child.start()
    assert held.wait(60)
    with pytest.raises(StorageError, match="still writes"):
        Turn(folder).take(2, seconds=0.5)
    taken = threading.Thread(target=Turn(folder).take, args=(3,))
    taken.start()
    assert taken.is_alive()
    child.kill()  # the system lets go for it
    taken.join(60)
    assert not taken.is_alive()
    assert Turn(folder).last() == 3


# Dask ------------------------------------------------------------------------------------


class Nobody:
    """A client whose workers are gone, and whose tasks never end."""

    status = "running"

    def nthreads(self):
        return {}

    def submit(self, *_, **__):
        return self

    def add_done_callback(self, _):
        pass


@pytest.mark.parametrize("asked", [True, False])
def test_nobody_is_waited_for_who_never_comes(asked):
    stop = threading.Event()
    results = OnDask(Nobody(), stop, patience=600 if asked else 0).map(str, [1])
    if asked:
        threading.Timer(0.2, stop.set).start()
    with pytest.raises(Stopped, match="no Dask worker is left"):
        next(results)


def test_a_scheduler_that_is_lost_while_it_is_asked_stops_the_run():
    class Deaf(Nobody):
        def nthreads(self):
            raise ConnectionResetError("by peer")

    with pytest.raises(Stopped, match="connection to the Dask scheduler was lost"):
        next(OnDask(Deaf(), threading.Event()).map(str, [1]))


def test_a_task_that_no_worker_survives_is_given_back(tmp_path, monkeypatch):
    from distributed import LocalCluster

    settings = {"distributed.scheduler.allowed-failures": 1}
    import dask

    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0",
            silence_logs=50,
        ) as cluster,
        cluster.get_client() as client,
    ):  # fmt: skip
        found = list(OnDask(client, threading.Event()).map(die_on_two, [1, 2, 3]))
    lost = [one.task for one in found if isinstance(one, Lost)]
    assert 2 in lost  # and perhaps one that waited beside it
    assert sorted(lost + [one for one in found if not isinstance(one, Lost)]) == [1, 2, 3]


def die_on_two(number):
    if number == 2:
        os._exit(1)
    return number
