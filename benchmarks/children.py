"""Runs a command as a user would and measures the whole tree of its processes."""

import subprocess
import time
from dataclasses import dataclass

import psutil

INTERVAL = 0.05
"""Seconds between two looks at the memory."""


@dataclass(frozen=True)
class Measured:
    """Wall time in seconds and peak resident memory in bytes of a process tree."""

    seconds: float
    peak_bytes: int
    output: str


def run_measured(command: list[str], environment: dict[str, str] | None = None) -> Measured:
    """Run a command to its end; raises where it fails."""
    started = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    peak = 0
    while child.poll() is None:
        peak = max(peak, _resident(child.pid))
        time.sleep(INTERVAL)
    seconds = time.perf_counter() - started
    output = child.stdout.read() if child.stdout else ""
    if child.returncode:
        raise SystemExit(f"{command} ended with {child.returncode}")
    return Measured(seconds, peak, output)


def _resident(pid: int) -> int:
    total = 0
    try:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            total += process.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total
