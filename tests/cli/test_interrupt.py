"""Ctrl-C as a terminal sends it: to the whole process group, workers included."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import zarr

from tomoseg.blockwise.status import read_status

SHARDS = 24


@pytest.mark.parametrize("workers", ["1", "2"])
def test_stops_between_shards_and_goes_on(tomoseg, tmp_path, workers):
    values = np.random.default_rng(0).normal(size=(64, 64 * SHARDS, 64)).astype(np.float32)
    zarr.create_array(tmp_path / "in.zarr", data=values, chunks=(64,) * 3)
    output = tmp_path / "out.zarr"
    command = ["segment", str(tmp_path / "in.zarr"), "--out", str(output), "--voxel-size", "10"]
    command += ["--scope", "none", "--halo", "0", "--core", "64", "--shard", "64"]
    child = subprocess.Popen(
        [sys.executable, "-m", "tomoseg_cli.main", *command, "--workers", workers],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        said = iter(child.stderr.readline, "")
        assert any(line.startswith("segment 0/") for line in said)
        os.killpg(child.pid, signal.SIGINT)
        _, rest = child.communicate(timeout=120)
    finally:
        child.kill()
    assert child.returncode == 3, rest
    assert "The same command goes on" in rest
    assert "Traceback" not in rest
    assert read_status(output).done < SHARDS
    code, _, err = tomoseg(*command)
    assert code == 0, err
    assert read_status(output, verify=True).complete
