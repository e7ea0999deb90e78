"""A real Slurm, jobs that are cancelled and killed in the midst, and the bits of a serial run.

Slurm comes from ../shared/slurm, which installs it where it is missing, and listens on
loopback alone; every session has one of its own, and takes it down at its end.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from engine import array_files, command, config, options, run, write_volume

from tomoseg.blockwise.journal import journal_folder, model_folder, read_state
from tomoseg.blockwise.status import read_status

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "deploy" / "slurm"
SHARDS = 6
SHAPE = (20, 70, 190)
OPTIONS = ("--scope", "none", "--halo", "0", "--looks", "all")  # eight looks: time to be killed in
SECONDS = 150
"""For any of the things that are waited for."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="session")
def slurm() -> Iterator[None]:
    """A Slurm of one node that says that it is large, and ``SLURM_CONF`` that names it."""
    here = ROOT.parent / "shared" / "slurm"
    if not here.is_dir():
        reason = f"no Slurm at {here}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as holder:
        Path(holder).chmod(0o755)  # munged looks at what is above its socket
        folder = Path(holder, "lab")
        settings = {"DIR": folder, "CPUS": 32, "MEM": 100_000, "GPUS": 0}
        settings |= {"CTLD_PORT": free_port(), "SLURMD_PORT": free_port()}
        environment = os.environ | {f"SLURM_LAB_{key}": str(settings[key]) for key in settings}
        stop = ["bash", str(here / "stop.sh")]
        try:
            start = ["bash", str(here / "start.sh")]
            subprocess.run(start, env=environment, check=True, timeout=300)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
                yield
        finally:
            subprocess.run(stop, env=environment, check=False, timeout=120)


@pytest.fixture(scope="module")
def tomogram(tmp_path_factory) -> Path:
    return write_volume(tmp_path_factory.mktemp("tomogram") / "volume.zarr", SHAPE)


@pytest.fixture(scope="module")
def serial(tmp_path_factory, tomogram, weights) -> dict[str, str]:
    output = tmp_path_factory.mktemp("serial") / "out.zarr"
    run(tomogram, output, config(weights, halo=0, looks="all"))
    return array_files(output)


@pytest.fixture
def here(tmp_path, slurm, monkeypatch) -> Path:
    """An empty folder to submit from, where the scripts find this tomoseg."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOMOSEG_BIN", str(Path(sys.executable).parent))
    monkeypatch.setenv("INTERFACE", "lo")
    return tmp_path


def slurm_says(*line: str) -> str:
    found = subprocess.run(line, check=True, capture_output=True, text=True, timeout=30)
    return found.stdout.strip()


def jobs(*options: str) -> list[str]:
    """The jobs in the queue; of an array each task."""
    return sorted(slurm_says("squeue", "-h", "-r", "-o", "%i", *options).split())


def wait_for(what: str, condition: Callable[[], object], folder: Path) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > end:
            logs = [f"{log}:\n{log.read_text()}" for log in folder.glob("*.log")]
            pytest.fail("\n".join([f"{what}: not within {SECONDS} s", *logs]))
        time.sleep(0.1)


def computed(output: Path) -> int:
    return len(read_state(journal_folder(model_folder(output))).done)


def kill_a_worker(job: str) -> None:
    """Kill one of Dask's worker processes of a job, with its nanny, which would start another."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if process.environ().get("SLURM_JOB_ID") == job and "multiprocessing.spawn" in line:
                process.parent().kill()
                process.kill()
                return
    pytest.fail(f"job {job} has no worker")


def assert_as_serial(output: Path, serial: dict[str, str]) -> None:
    wait_for("an empty queue", lambda: not jobs(), output.parent)
    assert array_files(output) == serial
    assert read_status(output, verify=True).complete


def test_jobs_that_are_cancelled_and_killed(here, tomogram, weights, serial):
    settings = here / "jobqueue.toml"
    settings.write_text('cores = 1\nmemory = "2GB"\ninterface = "lo"\nwalltime = "00:30:00"\n')
    output = here / "out.zarr"
    queue = ("--jobqueue", "slurm", "--jobqueue-config", str(settings), "--jobs", "2")
    with (here / "driver.log").open("w") as log:
        line = command(tomogram, output, weights, *OPTIONS, *queue)
        driver = subprocess.Popen(line, stdout=log, stderr=log)
    try:
        wait_for(
            "two jobs and a shard", lambda: len(jobs("-t", "R")) == 2 and computed(output), here
        )
        cancelled, killed = jobs("-t", "R")
        slurm_says("scancel", cancelled)
        kill_a_worker(killed)
        assert computed(output) < SHARDS, "nothing was killed in the midst"
        assert driver.wait(SECONDS) == 0, (here / "driver.log").read_text()
        assert f"job {cancelled} is submitted" in (here / "driver.log").read_text()
    finally:
        driver.kill()
        driver.wait()
    assert_as_serial(output, serial)
    journals = "".join(path.read_text() for path in journal_folder(output).glob("*.jsonl"))
    assert journals.count('"job":') >= 2 * SHARDS


def test_many_nodes_with_a_worker_killed(here, tomogram, weights, serial):
    output = here / "out.zarr"
    line = ["sbatch", "--parsable", "--nodes=1", "--ntasks=2", SCRIPTS / "many-nodes.sbatch"]
    line += [tomogram, output, *options(weights), *OPTIONS]
    job = slurm_says(*map(str, line))
    wait_for("a shard", lambda: computed(output), here)
    kill_a_worker(job)
    assert computed(output) < SHARDS, "nothing was killed in the midst"
    assert_as_serial(output, serial)
    assert not list(here.glob(".tomoseg-*"))


def test_an_array_with_a_task_killed(here, tomogram, weights, serial):
    output = here / "out.zarr"
    line = ["bash", SCRIPTS / "submit-array.sh", tomogram, output, 2, *options(weights), *OPTIONS]
    slurm_says(*map(str, line))
    wait_for("two tasks", lambda: len(jobs("-t", "R")) == 2, here)
    slurm_says("scancel", "--full", "--signal=KILL", jobs("-t", "R")[1])  # shards take moments
    wait_for("an empty queue", lambda: not jobs(), here)
    assert 0 < computed(output) < SHARDS
    (early,) = here.glob("tomoseg-finalize-*.log")
    assert f"of {SHARDS} shards are not computed yet" in early.read_text()
    slurm_says(*map(str, line))
    assert_as_serial(output, serial)
