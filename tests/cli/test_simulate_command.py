"""The simulator as its user runs it."""

import csv
import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from tomoseg_cli import simulate as command

from tomoseg.simulate import dataset, sample
from tomoseg.simulate.recipes import Look
from tomoseg.simulate.structures import SPLITS

SMALL = ["--preset", "pretrain", "--shape", 64, 64, 64, "--seed", 2, "--quiet"]


def hashes(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file of a data set, by its path in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_help_lists_what_the_simulator_knows():
    assert set(sample.PRESETS) == set(command.PRESETS)
    assert set(SPLITS) == set(command.SPLITS)
    assert set(Look.__args__) == set(command.LOOKS)


def test_one_tomogram_with_its_truth(tomoseg, tmp_path):
    out = tmp_path / "tomo.mrc"
    code, printed, err = tomoseg(
        "simulate", "--out", out, "--shape", 48, 64, 64, "--snr", 2, "--voxel-size", 9, "--json"
    )
    assert code == 0, err
    result = json.loads(printed)
    files = result["files"]
    with mrcfile.open(out) as tomogram, mrcfile.open(files["truth"]) as truth:
        assert tomogram.data.shape == truth.data.shape == (48, 64, 64)
        assert tomogram.voxel_size.x == pytest.approx(9.0)
        assert set(np.unique(truth.data)) == {0, 1}
        inside = truth.data == 1
        assert tomogram.data[inside].mean() < tomogram.data[~inside].mean()  # dark
    with mrcfile.open(files["instances"]) as instances, Path(files["particles"]).open() as table:
        rows = list(csv.DictReader(table))
        assert {int(r["instance"]) for r in rows} >= set(np.unique(instances.data)) - {0}
    assert result["snr"] == pytest.approx(2.0, rel=1e-3)
    assert json.loads(Path(files["recipe"]).read_text())["config"]["voxel_size_angstrom"] == 9


def test_nothing_is_overwritten_unasked(tomoseg, tmp_path):
    out = tmp_path / "tomo.mrc"
    (tmp_path / "tomo_truth.mrc").write_text("mine")
    code, _, err = tomoseg("simulate", "--out", out, "--shape", 32, 32, 32)
    assert code == 2
    assert "--overwrite" in err
    assert not out.exists()
    assert (tmp_path / "tomo_truth.mrc").read_text() == "mine"


def test_the_same_bits_for_one_and_two_workers_and_after_a_stop(tmp_path):
    folders = {}
    for name, more in (("one", []), ("two", ["--workers", "2"])):
        folders[name] = tmp_path / f"{name}.zarr"
        run = _start(folders[name], *more)
        assert run.wait(timeout=300) == 0
    stopped = tmp_path / "stopped.zarr"
    run = _start(stopped)
    _wait_for(lambda: list((stopped / "records").glob("*.json")))
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert len(list((stopped / "records").glob("*.json"))) < 4
    assert _start(stopped).wait(timeout=300) == 0
    expected = hashes(folders["one"])
    assert len(expected) > 12
    assert hashes(folders["two"]) == expected
    assert hashes(stopped) == expected


def _start(folder: Path, *more: str) -> subprocess.Popen[bytes]:
    words = ["simulate", "--out", folder, "--count", 4, *SMALL, *more]
    return subprocess.Popen([Path(sys.executable).parent / "tomoseg", *map(str, words)])


def _wait_for(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_another_configuration_is_refused(tomoseg, tmp_path):
    out = tmp_path / "data.zarr"
    dataset.create(out, sample.DatasetConfig(count=1, shape=(64, 64, 64)))
    code, _, err = tomoseg("simulate", "--out", out, "--count", 2, *SMALL)
    assert code == 2
    assert "another one" in err


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--out", "x.tif"], "NAME.mrc or NAME.zarr"),
        (["--out", "x.mrc", "--snr", 0], "snr"),
        (["--out", "x.zarr", "--preset", "pretrain", "--snr", 0.2], "--look standard"),
        (["--out", "x.mrc", "--structures", "nowhere"], "nowhere"),
    ],
)
def test_wrong_requests_are_one_line(tomoseg, flags, word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = tomoseg("simulate", "--shape", 32, 32, 32, *flags)
    assert code in (1, 2)
    assert word in err
    assert not list(tmp_path.iterdir())
