"""What the Slurm scripts call, with stand-ins for Slurm, Dask and tomoseg on the PATH.

A real Slurm runs them in tests/blockwise/test_slurm.py.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_lines import DEPLOY, check_dask, check_tomoseg

SLURM = DEPLOY / "slurm"
RECORD = """#!{python}
import json, os, sys
with open({log!r}, "a") as log:
    log.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + "\\n")
"""
LISTEN = """
if sys.argv[1] == "scheduler":
    import pathlib, time
    pathlib.Path(sys.argv[sys.argv.index("--scheduler-file") + 1]).write_text("{}")
    time.sleep(60)
"""
STAY = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
time.sleep(float(os.environ.get("STAND_IN_SECONDS", "0")) if sys.argv[1] == "segment" else 0)
"""
NUMBER = """
print(41 + sum(1 for _ in open(log.name)), end=";here\\n")
"""
START = "import time\ntime.sleep(60)\n"


class Lab:
    """A folder of stand-ins that write down how they are called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = folder / "calls.jsonl"
        self._bin = folder / "bin"
        self._bin.mkdir()
        self.stand_in("tomoseg", STAY)
        self.stand_in("dask", LISTEN)
        self.stand_in("python")
        self.stand_in("srun", START)
        self.stand_in("sbatch", NUMBER)

    def stand_in(self, name: str, then: str = "") -> None:
        program = self._bin / name
        program.write_text(RECORD.format(python=sys.executable, log=str(self._log)) + then)
        program.chmod(0o755)

    def start(self, script: str, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        settings = {
            "PATH": f"{self._bin}{os.pathsep}{os.environ['PATH']}",
            "SLURM_JOB_ID": "7",
            "SLURM_CPUS_PER_TASK": "4",
            "SLURM_MEM_PER_CPU": "1000",
            "SLURM_NTASKS": "3",
            **environment,
        }
        return subprocess.Popen(
            ["bash", SLURM / script, *arguments],
            cwd=self.folder,
            env=settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, *arguments: str, **environment: str) -> tuple[int, str]:
        process = self.start(script, *arguments, **environment)
        out, err = process.communicate(timeout=60)
        return process.returncode, out + err

    def calls(self, *program: str) -> list[list[str]]:
        """Return the arguments of the calls that begin with these words, in order."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        calls = [json.loads(line) for line in lines]
        return [call[1:] for call in calls if call[: len(program)] == list(program)]

    def wait_for(self, *program: str) -> None:
        end = time.monotonic() + 30
        while not self.calls(*program):
            assert time.monotonic() < end, f"{program} was not called"
            time.sleep(0.05)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def task(number: int, first: int, last: int) -> dict[str, str]:
    return {
        "SLURM_ARRAY_TASK_ID": str(number),
        "SLURM_ARRAY_TASK_MIN": str(first),
        "SLURM_ARRAY_TASK_MAX": str(last),
        "SLURM_ARRAY_TASK_COUNT": str(last - first + 1),
    }


@pytest.mark.parametrize("script", [*(p.name for p in SLURM.glob("*.sbatch")), "submit-array.sh"])
def test_without_arguments_says_how_it_is_called(lab: Lab, script: str) -> None:
    code, text = lab.run(script)
    assert code == 2
    assert f"usage: {'sbatch ' if script.endswith('sbatch') else ''}" in text
    assert not lab.calls()


def test_one_node_passes_what_the_job_has_and_what_it_is_given(lab: Lab) -> None:
    code, _ = lab.run("one-node.sbatch", "a b.mrc", "out.zarr", "--device", "cuda")
    assert code == 0
    (call,) = lab.calls("tomoseg")
    assert call == ["segment", "a b.mrc", "--out", "out.zarr", "--threads", "4",
                    "--memory", "3600MiB", "--device", "cuda"]  # fmt: skip
    check_tomoseg(call)


def test_the_shells_signal_reaches_tomoseg(lab: Lab) -> None:
    job = lab.start("one-node.sbatch", "a.mrc", "out.zarr", STAND_IN_SECONDS="30")
    lab.wait_for("tomoseg")
    time.sleep(0.5)  # the stand-in writes its call down before it minds the signal
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=20)
    assert job.returncode == 3


def test_array_tasks_count_from_zero_and_share_all(lab: Lab) -> None:
    for number in (5, 6, 7):
        assert lab.run("array.sbatch", "a.mrc", "out.zarr", **task(number, 5, 7))[0] == 0
    calls = lab.calls("tomoseg")
    assert [call[call.index("--shard-id") + 1] for call in calls] == ["0", "1", "2"]
    assert {call[call.index("--num-shards") + 1] for call in calls} == {"3"}
    for call in calls:
        check_tomoseg(call)


def test_an_array_with_gaps_is_refused(lab: Lab) -> None:
    gaps = {**task(3, 1, 3), "SLURM_ARRAY_TASK_COUNT": "2"}
    code, text = lab.run("array.sbatch", "a.mrc", "out.zarr", **gaps)
    assert code == 2
    assert "without gaps" in text


def test_finalize_waits_for_the_array_however_it_ends(lab: Lab) -> None:
    code, text = lab.run("submit-array.sh", "a.mrc", "out.zarr", "4", "--scope", "none")
    assert (code, text) == (0, "array 42, finalize 43\n")
    array, finalize = lab.calls("sbatch")
    assert array[:2] == ["--parsable", "--array=0-3"]
    assert array[3:] == ["a.mrc", "out.zarr", "--scope", "none"]
    assert finalize[:2] == ["--parsable", "--dependency=afterany:42"]
    assert finalize[3:] == ["out.zarr"]
    assert Path(array[2]).name == "array.sbatch"
    assert Path(finalize[2]).name == "finalize.sbatch"


def test_finalize_calls_the_command(lab: Lab) -> None:
    assert lab.run("finalize.sbatch", "out.zarr")[0] == 0
    (call,) = lab.calls("tomoseg")
    assert call == ["finalize", "out.zarr"]
    check_tomoseg(call)


def test_tomograms_takes_its_line_of_the_list(lab: Lab) -> None:
    (lab.folder / "list.txt").write_text("a.mrc\nfolder/b c.mrc\n")
    assert lab.run("tomograms.sbatch", "list.txt", "masks", **task(2, 1, 2))[0] == 0
    code, text = lab.run("tomograms.sbatch", "list.txt", "masks", **task(3, 1, 3))
    assert (code, text) == (2, "list.txt has no line 3\n")
    (call,) = lab.calls("tomoseg")
    assert call[:4] == ["segment", "folder/b c.mrc", "--out", "masks"]
    check_tomoseg(call)


def assert_nothing_left(lab: Lab) -> None:
    assert not list(lab.folder.glob(".tomoseg-*"))
    left = subprocess.run(["pgrep", "-f", str(lab.folder / "bin")], capture_output=True, text=True)
    assert left.stdout == ""


def test_many_nodes_starts_all_encrypted_and_leaves_nothing(lab: Lab) -> None:
    code, text = lab.run("many-nodes.sbatch", "a.mrc", "out.zarr", "--scope", "none")
    assert code == 0, text
    certificates, segment = lab.calls("tomoseg")
    private = Path(certificates[1]).parent
    assert private.parent == lab.folder
    scheduler_file = str(private / "scheduler.json")
    assert segment[segment.index("--scheduler-file") + 1] == scheduler_file
    assert segment[segment.index("--certificates") + 1] == certificates[1]
    assert segment[-2:] == ["--scope", "none"]
    (scheduler,) = lab.calls("dask")
    (workers,) = lab.calls("srun")
    start = workers.index("dask")
    assert "--ntasks=3" in workers[:start]
    assert "--cpus-per-task=4" in workers[:start]
    for command in (scheduler, workers[start + 1 :]):
        check_dask(command)
        assert command[command.index("--scheduler-file") + 1] == scheduler_file
        assert command[command.index("--dashboard-address") + 1].startswith("127.0.0.1:")
    assert_nothing_left(lab)
    check_tomoseg(certificates)
    check_tomoseg(segment)


def test_many_nodes_hands_the_signal_to_the_driver_alone(lab: Lab) -> None:
    job = lab.start("many-nodes.sbatch", "a.mrc", "out.zarr", STAND_IN_SECONDS="40")
    lab.wait_for("tomoseg", "segment")
    time.sleep(0.5)
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=30)
    assert job.returncode == 3
    assert_nothing_left(lab)


def test_many_nodes_does_not_wait_for_workers_that_are_gone(lab: Lab) -> None:
    lab.stand_in("srun")
    code, text = lab.run("many-nodes.sbatch", "a.mrc", "out.zarr", STAND_IN_SECONDS="40")
    assert code == 3
    assert "the same command goes on" in text
    assert_nothing_left(lab)


def test_many_nodes_says_when_no_worker_comes(lab: Lab) -> None:
    lab.stand_in("python", "sys.exit(1)")
    code, text = lab.run("many-nodes.sbatch", "a.mrc", "out.zarr")
    assert code == 1
    assert "no worker came" in text
    assert not lab.calls("tomoseg", "segment")
    assert_nothing_left(lab)
