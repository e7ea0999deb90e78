"""The benchmarks of speed and memory, one after the other: JSON, Markdown and a figure.

    pip install -c constraints.txt -e '.[bench]'
    python benchmarks/suite.py results/ [--quick] [--only speed supervoxels]

Each is a command of its own that can be run alone; what it printed stands in the Markdown as it
was printed, beside the command, the machine and its load. What is there already is not run
again, so that an interrupted suite goes on. --quick takes small volumes and few turns: does it
run, not how fast. On a machine without a GPU nothing here has seen one.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch

HERE = Path(__file__).parent

COMMANDS: dict[str, tuple[list[str], list[str]]] = {
    "speed": (["speed.py"], ["speed.py", "--edge", "128"]),
    "memory": (["memory.py"], ["memory.py", "128x128x128", "128x256x256"]),
    "io": (["io_rate.py"], ["io_rate.py", "--edge", "128", "--turns", "1"]),
    "forward": (["forward.py"], ["forward.py", "--turns", "1", "--edges", "64"]),
    "supervoxels": (["supervoxels.py"], ["supervoxels.py", "--turns", "1"]),
    "refinement": (["refine_cost.py"], ["refine_cost.py", "--turns", "1"]),
    "windows": (
        ["windows.py", "--cores", "64", "128", "--halos", "8", "16"],
        ["windows.py", "--cores", "64", "--halos", "8"],
    ),
    "scaling": (["scaling.py"], ["scaling.py", "--pairs", "1"]),
    "profile": (
        ["profile_run.py", "--figure", "profile.png"],
        ["profile_run.py", "--edge", "128", "--figure", "profile.png"],
    ),
}
"""Script and arguments, in earnest and quick."""


def machine() -> dict[str, str]:
    """Return what figures depend on."""
    model = platform.processor() or platform.machine()
    cpu = Path("/proc/cpuinfo")
    if cpu.exists():
        lines = [line for line in cpu.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "date": date.today().isoformat(),
        "processor": model,
        "cores": str(len(os.sched_getaffinity(0))),
        "GPU": gpu,
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "tomoseg": version("tomoseg"),
    }


def run(arguments: list[str], folder: Path) -> dict[str, object]:
    """Run one benchmark in a folder; return what it printed and how it ended."""
    load, started = os.getloadavg()[0], time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(HERE / arguments[0]), *arguments[1:]],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return {
        "command": " ".join(["python", f"benchmarks/{arguments[0]}", *arguments[1:]]),
        "seconds": round(time.perf_counter() - started, 1),
        "load_before": round(load, 1),
        "exit_code": done.returncode,
        "output": done.stdout,
        **machine(),
    }


def page(results: dict[str, dict[str, object]]) -> str:
    """Return everything as Markdown."""
    parts = ["# Benchmarks of speed and memory\n"]
    for name, found in results.items():
        facts = ", ".join(f"{key} {found[key]}" for key in ("processor", "cores", "GPU", "torch"))
        parts.append(
            f"## {name}\n\n    {found['command']}\n\n{found['date']}, {facts}; load before "
            f"{found['load_before']}, {found['seconds']} s, exit code {found['exit_code']}\n\n"
            f"{found['output']}"
        )
        if name == "profile":
            parts.append("![Where the time goes](profile.png)\n")
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    file = chosen.folder / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    for name in chosen.only:
        if name in results and results[name]["exit_code"] == 0:
            continue
        print(name, flush=True)
        results[name] = run(COMMANDS[name][chosen.quick], chosen.folder)
        file.write_text(json.dumps(results, indent=2))
        (chosen.folder / "results.md").write_text(page(results))
    failed = [name for name, found in results.items() if found["exit_code"]]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
