"""Runs a command as a user would and measures the whole tree of its processes."""

import resource
import subprocess
import time
from dataclasses import dataclass

import psutil

INTERVAL = 0.05
"""Seconds between two looks at the memory."""


@dataclass(frozen=True)
class Measured:
    """Wall and CPU time in seconds and peak resident memory in bytes of a process tree."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    output: str


def run_measured(
    command: list[str],
    environment: dict[str, str] | None = None,
    codes: tuple[int, ...] = (0,),
) -> Measured:
    """Run a command to its end; raises where it ends with another exit code."""
    started, cpu = time.perf_counter(), _cpu_of_children()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    peak = 0
    while child.poll() is None:
        peak = max(peak, _resident(child.pid))
        time.sleep(INTERVAL)
    seconds = time.perf_counter() - started
    output = child.stdout.read() if child.stdout else ""
    if child.returncode not in codes:
        raise SystemExit(f"{command} ended with {child.returncode}")
    return Measured(seconds, _cpu_of_children() - cpu, peak, output)


def _cpu_of_children() -> float:
    """Return the CPU seconds of children that have ended, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _resident(pid: int) -> int:
    total = 0
    try:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            total += process.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total
