"""A few kills of workers, driver and scheduler; benchmarks/chaos.py does many."""

import subprocess
import sys
from pathlib import Path

CHAOS = Path(__file__).parents[2] / "benchmarks" / "chaos.py"


def test_killed_at_random_instants_nothing_is_lost():
    line = [sys.executable, str(CHAOS), "--kills", "4", "--seed", "1"]
    found = subprocess.run(line, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "4 killed in" in found.stdout
