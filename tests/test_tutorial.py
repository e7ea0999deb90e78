"""The tutorial, run as it is written, offline."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "tutorial.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def scores(text: str) -> dict[str, float]:
    return {name.strip(): float(value) for name, value in re.findall(r"(.{20})  ([\d.]+)\n", text)}


def test_the_tutorial_runs_and_says_what_it_says(tmp_path):
    bin_folder = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([bin_folder, os.environ["PATH"]]),
        "http_proxy": "http://127.0.0.1:1",
        "https_proxy": "http://127.0.0.1:1",
    }
    (python,) = blocks("python")
    script = "\n".join([*blocks("sh"), f"python - <<'END'\n{python}END"])
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert "mask.zarr: complete, 1 of 1 shards done" in ran.stdout
    assert (tmp_path / "mask.html").stat().st_size < 5e6
    (said,) = blocks("text")
    found, expected = scores(ran.stdout), scores(said)
    assert expected["dice"] > 0.7
    for name, value in expected.items():  # other processors round otherwise
        assert found[name] == pytest.approx(value, abs=0.02), name
    inside, outside = map(float, re.search(r"inside (\S+) outside (\S+)", ran.stdout).groups())
    assert inside < outside
