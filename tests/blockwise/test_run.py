import dataclasses
import json
import multiprocessing
import os
import shutil
import threading
import time

import numpy as np
import pytest
import zarr
from engine import SHAPE, config, digests, read, run, run_in_child, write_volume
from scipy import ndimage

from tomoseg.blockwise import plan, shard
from tomoseg.blockwise.clusters import is_private
from tomoseg.blockwise.execute import Resources, machine_memory
from tomoseg.blockwise.prepare import prepare
from tomoseg.blockwise.prepared import Request
from tomoseg.blockwise.status import read_status
from tomoseg.config import FEW, MANY
from tomoseg.errors import (
    FingerprintError,
    InputError,
    OutputExistsError,
    RequestError,
    Stopped,
    StorageError,
)
from tomoseg.intensity import normalise, robust_location_scale
from tomoseg.io.omezarr import ArrayStore
from tomoseg.io.volume import open_volume
from tomoseg.saliency.predict import Predictor
from tomoseg.saliency.weights import load, save


class Identity:
    """A network whose saliency is its input, so that every misplaced voxel shows."""

    def __init__(self, *_, **__):
        pass

    def saliency(self, windows):
        return np.clip((windows + 5) / 10, 0, 1)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 200, 65), (64, 64, 64), (130, 63, 70)])
@pytest.mark.parametrize("halo", [0, 16])
@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_an_identity_network_gives_back_the_volume(
    tmp_path, weights, monkeypatch, shape, halo, version
):
    monkeypatch.setattr(shard, "Predictor", Identity)
    values = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    zarr.create_array(tmp_path / "in.zarr", data=values)
    settings = config(weights, halo=halo, shard=128, ome_version=version)
    run(tmp_path / "in.zarr", tmp_path / "out.zarr", settings)
    statistics = prepare(
        Request(open_volume(tmp_path / "in.zarr"), tmp_path / "out.zarr", settings)
    ).statistics
    expected = np.rint(Identity().saliency(statistics.normalise(values, "dark")) * 255)
    found = read(tmp_path / "out.zarr")
    assert np.abs(found - expected).max() <= 1  # windows are blended in sixteenths
    assert (found != expected).mean() < 0.1
    np.testing.assert_array_equal(read(tmp_path / "out.zarr", "mask"), found >= 128)


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_a_network_sees_a_smoothed_volume_and_more_contrast(tmp_path, weights, monkeypatch, dtype):
    monkeypatch.setattr(shard, "Predictor", Identity)
    network, card = load(str(weights))
    asks = tmp_path / "asks.safetensors"
    save(asks, network, dataclasses.replace(card, smoothed=True, amplitude=1.5))
    values = (np.random.default_rng(1).normal(size=(130, 63, 70)) * 100).astype(dtype)
    zarr.create_array(tmp_path / "in.zarr", data=values)
    run(tmp_path / "in.zarr", tmp_path / "out.zarr", config(asks, shard=128))
    raw = normalise(values, *robust_location_scale(values.astype(np.float64)))
    smoothed = ndimage.correlate1d(raw, [0.25, 0.5, 0.25], 0, mode="nearest")
    for axis in (1, 2):
        smoothed = ndimage.correlate1d(smoothed, [0.25, 0.5, 0.25], axis, mode="nearest")
    found, expected = read(tmp_path / "out.zarr") / 255 * 10 - 5, -1.5 * smoothed / smoothed.std()
    inside = np.abs(expected) < 4
    assert np.abs(found - expected)[inside].max() < 0.2  # its scale is that of a sample
    with pytest.raises(FingerprintError, match="intensities"):
        run(tmp_path / "in.zarr", tmp_path / "out.zarr", config(weights, shard=128))


def test_cores_of_one_window_are_computed_once(tmp_path, volume, weights, monkeypatch):
    looks = []
    saliency = Predictor.saliency

    def counted(self, windows):
        looks.append(windows.shape)
        return saliency(self, windows)

    monkeypatch.setattr(Predictor, "saliency", counted)
    run(volume, tmp_path / "out.zarr", config(weights, shard=192))
    assert looks == [(1, 48, 96, 80)] * 2  # of six cores


def test_what_is_done_is_not_done_again(tmp_path, volume, weights):
    output = tmp_path / "out.zarr"
    first = run(volume, output, config(weights))
    assert first.computed == first.shards == 6
    again = run(volume, output, config(weights))
    assert again.computed == 0
    assert again.seam == first.seam
    assert 0 <= first.salient_fraction <= 1


def test_a_stopped_run_goes_on(tmp_path, volume, weights, expected):
    stop = threading.Event()

    def stop_soon(stage, done, total):
        if stage == "segment" and done == 1:
            stop.set()

    with pytest.raises(Stopped):
        run(volume, tmp_path / "out.zarr", config(weights), stop=stop, progress=stop_soon)
    status = read_status(tmp_path / "out.zarr")
    assert 1 <= status.done < status.shards
    assert not status.complete
    assert status.command == "a command"
    summary = run(volume, tmp_path / "out.zarr", config(weights))
    assert summary.computed == summary.shards == 6
    assert digests(tmp_path / "out.zarr") == expected["none"]


def test_another_request_is_refused_and_named(tmp_path, volume, weights):
    output = tmp_path / "out.zarr"
    run(volume, output, config(weights))
    before = digests(output)
    with pytest.raises(FingerprintError, match=r"config.seed was 0, now 1"):
        run(volume, output, config(weights, seed=1))
    other = write_volume(tmp_path / "other.zarr")
    zarr.open(other)[0, 0, 0] = 99
    with pytest.raises(FingerprintError, match="input"):
        run(other, output, config(weights))
    assert digests(output) == before


def test_overwrite_replaces_a_finished_output_only_when_the_new_one_is_finished(
    tmp_path, volume, weights
):
    output = tmp_path / "out.zarr"
    run(volume, output, config(weights))
    before = digests(output)
    stop = threading.Event()
    stop.set()
    new = config(weights, contrast="light")
    with pytest.raises(Stopped):
        run(volume, output, new, overwrite=True, stop=stop)
    assert digests(output) == before
    run(volume, output, new, overwrite=True)
    assert digests(output) != before
    assert read_status(output, verify=True).complete
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]


def test_a_replacement_killed_between_its_renames_is_finished(tmp_path, volume, weights):
    output = tmp_path / "out.zarr"
    new = config(weights, contrast="light")
    run(volume, output, new)
    wanted = digests(output)
    output.rename(tmp_path / ".out.zarr.replacing")
    run(volume, tmp_path / "old.zarr", config(weights))
    (tmp_path / "old.zarr").rename(tmp_path / ".out.zarr.0123abcd.partial")
    assert run(volume, output, new).computed == 0
    assert digests(output) == wanted
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]


def test_overwrite_starts_an_unfinished_output_of_another_request_anew(tmp_path, volume, weights):
    output = tmp_path / "out.zarr"
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        run(volume, output, config(weights, seed=4), stop=stop)
    run(volume, output, config(weights), overwrite=True)
    assert read_status(output, verify=True).complete


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_tomoseg_did_not_make_stays(tmp_path, volume, weights, overwrite):
    output = tmp_path / "out.zarr"
    output.mkdir()
    (output / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputExistsError, match="does not remove"):
        run(volume, output, config(weights), overwrite=overwrite)
    assert (output / "thesis.tex").read_text() == "years of work"
    file = tmp_path / "file.zarr"
    file.write_text("not a folder")
    with pytest.raises(OutputExistsError):
        run(volume, file, config(weights), overwrite=overwrite)


def test_a_second_driver_is_refused(tmp_path, volume, weights, expected):
    output = tmp_path / "out.zarr"
    spawn = multiprocessing.get_context("forkserver")
    child = spawn.Process(target=run_in_child, args=(volume, output, weights, "block"))
    child.start()
    while child.is_alive() and not ((output / "zarr.json").exists() and read_status(output).done):
        time.sleep(0.02)
    with pytest.raises(OutputExistsError, match="another run works on it"):
        run(volume, output, config(weights, "block"))
    child.join()
    assert child.exitcode == 0
    assert digests(output) == expected["block"]


def test_a_full_disk_stops_the_run_and_resume_goes_on(
    tmp_path, volume, weights, expected, monkeypatch
):
    output = tmp_path / "out.zarr"
    write, left = ArrayStore.write_shard, [5]

    def full(self, box, data):
        left[0] -= 1
        if left[0] < 0:
            raise StorageError(f"{self.files(box)[0]}: No space left on device.", "Make room.")
        write(self, box, data)

    with monkeypatch.context() as patch:
        patch.setattr(ArrayStore, "write_shard", full)
        with pytest.raises(StorageError, match="No space left"):
            run(volume, output, config(weights))
    assert read_status(output).done >= 1
    run(volume, output, config(weights))
    assert digests(output) == expected["none"]


def test_damage_is_found_named_and_redone(tmp_path, volume, weights, expected):
    output = tmp_path / "out.zarr"
    run(volume, output, config(weights))
    victims = [p for p in (output / "0").rglob("*") if p.is_file() and p.name != "zarr.json"]
    flipped, missing = sorted(victims)[:2]
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    missing.unlink()
    status = read_status(output, verify=True)
    assert len(status.damaged) == 2
    assert not status.complete
    assert run(volume, output, config(weights)).computed == 2
    assert digests(output) == expected["none"]
    assert read_status(output, verify=True).complete


def test_an_input_that_has_changed_is_named(tmp_path, weights):
    volume, output = write_volume(tmp_path / "in.zarr"), tmp_path / "out.zarr"
    run(volume, output, config(weights))
    assert read_status(output, verify=True).input_changed == []
    os.utime(volume / "zarr.json", ns=(1, 1))
    assert read_status(output, verify=True).input_changed == ["mtime_ns"]
    shutil.rmtree(volume)
    write_volume(volume, (20, 70, 64))
    assert {"shape", "sample_sha256"} <= set(read_status(output, verify=True).input_changed)
    shutil.rmtree(volume)
    (message,) = read_status(output, verify=True).input_changed
    assert "does not exist" in message
    assert read_status(output).input_changed == []


def test_a_moved_output_is_still_one(tmp_path, volume, weights):
    run(volume, tmp_path / "out.zarr", config(weights))
    shutil.move(tmp_path / "out.zarr", tmp_path / "moved.zarr")
    assert read_status(tmp_path / "moved.zarr", verify=True).complete


def test_provenance_names_everything_that_made_the_bits(tmp_path, volume, weights):
    run(volume, tmp_path / "out.zarr", config(weights, "volume"))
    attributes = json.loads((tmp_path / "out.zarr" / "zarr.json").read_text())["attributes"]
    provenance = attributes["tomoseg"]
    assert provenance["complete"] is True
    assert provenance["command"] == "a command"
    assert provenance["voxel_size_source"] == "--voxel-size"
    assert provenance["weights"]["trained"] is False
    assert len(provenance["weights"]["sha256"]) == 64
    assert provenance["config"]["seed"] == 0
    assert provenance["statistics"]["scale"] > 0
    assert provenance["summary"]["refinement"]["iterations"] == 2
    assert len(provenance["fingerprint"]["input"]["sample_sha256"]) == 64


@pytest.mark.parametrize(("affordable", "lessons"), [(0.0, FEW), (1e9, MANY)])
def test_a_volume_is_taught_what_its_size_affords(
    tmp_path, volume, weights, monkeypatch, affordable, lessons
):
    monkeypatch.setattr(plan, "AFFORDABLE", affordable)
    output = tmp_path / "out.zarr"
    asked = config(weights, "volume")
    run(volume, output, asked)
    attributes = json.loads((output / "zarr.json").read_text())["attributes"]["tomoseg"]
    taught = attributes["config"]["refine"]
    assert taught["iterations"] == attributes["summary"]["refinement"]["iterations"] == 2
    assert taught["windows_per_step"] == lessons.windows_per_step
    assert taught["learning_rate"] == lessons.learning_rate
    assert run(volume, output, asked).computed == 0  # the same request finds it done


def test_a_volume_without_a_voxel_size_is_asked_about(tmp_path, volume, weights):
    with pytest.raises(InputError, match="--voxel-size"):
        run(volume, tmp_path / "out.zarr", config(weights, voxel_size_angstrom=None))
    assert not (tmp_path / "out.zarr").exists()


def test_a_worker_that_is_too_small_is_refused_before_anything_is_written(
    tmp_path, volume, weights
):
    with pytest.raises(RequestError, match="--memory"):
        run(volume, tmp_path / "out.zarr", config(weights), memory_bytes=10_000_000)
    assert not (tmp_path / "out.zarr").exists()


def test_lanes_that_nobody_asked_for_give_way_to_memory(tmp_path, volume, weights, monkeypatch):
    def prepared(**resources):
        chosen = Resources(memory_bytes=memory, **resources)
        return prepare(Request(open_volume(volume), tmp_path / "o.zarr", config(weights), chosen))

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    memory = 2**40
    assert prepared().lanes == 8
    memory = prepared().plan.worker_bytes(3)
    assert prepared().lanes == 3
    with pytest.raises(RequestError, match="--threads 1"):
        prepared(threads=8)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.float16, np.float32])
def test_every_dtype_and_a_constant_volume(tmp_path, weights, dtype):
    zarr.create_array(tmp_path / "in.zarr", data=np.full((5, 40, 66), 3, dtype))
    summary = run(tmp_path / "in.zarr", tmp_path / "out.zarr", config(weights))
    assert summary.salient_fraction == 0


def test_voxels_that_are_no_numbers_do_not_spread(tmp_path, weights):
    values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    values[:10] = np.nan
    values[10, 0, 0] = np.inf
    zarr.create_array(tmp_path / "in.zarr", data=values)
    run(tmp_path / "in.zarr", tmp_path / "out.zarr", config(weights))
    zarr.create_array(tmp_path / "nan.zarr", data=np.full(SHAPE, np.nan, np.float32))
    with pytest.raises(InputError, match="finite"):
        run(tmp_path / "nan.zarr", tmp_path / "out2.zarr", config(weights))


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("tcp://127.0.0.1:8786", True),
        ("localhost:8786", True),
        ("tcp://[::1]:8786", True),
        ("tls://10.0.0.5:8786", True),
        ("tcp://10.0.0.5:8786", False),
        ("node17:8786", False),
        ("tcp://127.0.0.1.example.org:8786", False),
    ],
)
def test_only_loopback_and_tls_are_private(address, private):
    assert is_private(address) is private


def test_an_unencrypted_remote_scheduler_is_refused(tmp_path, volume, weights):
    with pytest.raises(RequestError, match="--insecure"):
        run(volume, tmp_path / "out.zarr", config(weights), scheduler="tcp://10.0.0.5:8786")


def test_resources_divide_cores_and_memory():
    assert Resources(threads=5).lanes("cpu") == 5
    assert Resources(threads=5).lanes("cuda:0") == 1
    assert Resources(workers=4, memory_bytes=400).worker_memory() == 100


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("0::/slurm/job_7/step_0", "sys/fs/cgroup/slurm/job_7/memory.max"),
        ("4:memory:/slurm/job_7", "sys/fs/cgroup/memory/slurm/job_7/memory.limit_in_bytes"),
    ],
)
def test_a_job_has_the_memory_of_its_control_group(tmp_path, line, file):
    assert machine_memory(tmp_path) > 2**30  # nothing is limited there
    groups = tmp_path / "proc" / "self" / "cgroup"
    groups.parent.mkdir(parents=True)
    groups.write_text(f"8:pids:/elsewhere\n{line}\n")
    limit = tmp_path / file
    limit.parent.mkdir(parents=True)
    limit.write_text("max\n")
    assert machine_memory(tmp_path) > 2**30
    limit.write_text("123456789\n")
    assert machine_memory(tmp_path) == 123456789


def test_the_mean_over_flips_is_a_request_of_its_own(tmp_path, volume, weights, expected):
    output = tmp_path / "out.zarr"
    run(volume, output, config(weights, looks="all"), threads=2)
    found = digests(output)
    assert found["image/0"] != expected["none"]["image/0"]
    with pytest.raises(FingerprintError, match="looks was all, now auto"):
        run(volume, output, config(weights))
    run(volume, tmp_path / "again.zarr", config(weights, looks="all"), threads=1)
    assert digests(tmp_path / "again.zarr") == found
