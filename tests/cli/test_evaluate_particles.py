"""Particles of other programs against a mask, and against each other."""

import json
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest


def write_csv(path: Path, centres: list[tuple[float, ...]]) -> Path:
    path.write_text("z,y,x\n" + "".join(f"{z},{y},{x}\n" for z, y, x in centres))
    return path


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """A mask of three objects, one of which is a shell with nothing in its middle."""
    values = np.zeros((40, 70, 70), np.int8)
    values[4:8, 4:8, 4:8] = 1
    values[20:30, 30:40, 60:70] = 1
    values[21:29, 31:39, 61:69] = 0
    values[35, 66, 3] = 1
    path = tmp_path / "TS_1.mrc"
    with mrcfile.new(path) as file:
        file.set_data(values)
        file.set_volume()
        file.voxel_size = 10.0
    return path


PICKS = [(5.0, 5.0, 5.0), (6.0, 6.0, 6.0), (20.0, 35.0, 65.0), (25.0, 35.0, 65.0)]
"""Two in one object, one in the shell, one in its middle, which is nowhere."""


def test_picks_against_a_mask(tomoseg: Any, tmp_path: Path, mask: Path) -> None:
    picks = write_csv(tmp_path / "picks.csv", PICKS)
    code, out, err = tomoseg("evaluate", picks, mask, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["matched"], found["predicted"], found["true"]) == (2, 4, 3)
    _, out, _ = tomoseg("evaluate", mask, picks, "--json")
    assert json.loads(out)["predicted"] == 3
    _, out, _ = tomoseg("evaluate", picks, mask, "--json", "--min-volume", 2000)
    assert json.loads(out)["true"] == 2
    # by distance the middle of the shell is its centre
    _, out, _ = tomoseg("evaluate", picks, mask, "--distance", 2, "--json")
    assert json.loads(out)["matched"] == 2
    _, out, _ = tomoseg("evaluate", mask, mask, "--particles", "--distance", 0, "--json")
    assert json.loads(out)["f1"] == 1


def test_star_and_copick_against_each_other(tomoseg: Any, tmp_path: Path, mask: Path) -> None:
    outs = [tmp_path / "a.star", tmp_path / "a.json", f"relion5:{tmp_path / 'b.star'}"]
    arguments = [argument for out in outs for argument in ("--out", out)]
    code, _, err = tomoseg("pick", mask, *arguments, "--binning", 4)
    assert code == 0, err
    for name in ("a.star", "b.star"):
        sides = tmp_path / "a.json", tmp_path / name
        flags = ["--grid", mask, "--binning", 4, "--distance", 0.001, "--json"]
        _, out, _ = tomoseg("evaluate", *sides, *flags)
        assert json.loads(out)["matched"] == 3
        code, _, err = tomoseg("evaluate", *sides, "--distance", 1)
        assert code == 2
        assert "--grid" in err


def test_what_cannot_be_compared_is_refused(tomoseg: Any, tmp_path: Path, mask: Path) -> None:
    picks = write_csv(tmp_path / "picks.csv", PICKS)
    for sides, said in (((picks, picks), "--distance"), ((mask, mask), "--distance")):
        code, _, err = tomoseg("evaluate", *sides, "--particles")
        assert code == 2
        assert said in err
    code, _, err = tomoseg("evaluate", mask, mask, "--distance", 3)
    assert code == 2
    assert "--particles" in err
