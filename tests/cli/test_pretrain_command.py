import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pretrain_toys import Balls

from tomoseg.pretrain.train import Outcome


@pytest.fixture
def _toy_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tomoseg.simulate.dataset.open_dataset",
        lambda path: Balls(path.stem, shape=(64, 64, 64), count=1),
    )


@pytest.mark.usefixtures("_toy_data")
def test_command_trains_and_reports(
    tomoseg: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    command = ("pretrain", "train.zarr", "train.zarr", "--validation", "validation.zarr")
    command += ("--steps", 2)
    command += ("--base-channels", 1, "--batch", 2, "--out", tmp_path, "--device", "cpu")
    code, _, err = tomoseg(*command, "--max-minutes", 0)
    assert code == 3
    assert "same command" in err
    code, out, _ = tomoseg(*command, "--json")
    assert code == 0
    assert json.loads(out)["weights"] == str(tmp_path / "best.safetensors")
    assert json.loads(out).keys() == {field.name for field in dataclasses.fields(Outcome)}
    code, _, err = tomoseg(*command, "--seed", 1)
    assert code == 2
    assert "seed" in err


def test_deepening_needs_weights(
    tomoseg: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, _, err = tomoseg("pretrain", "--on-the-fly", 1, "--deepen", "--out", tmp_path / "out")
    assert code == 2
    assert "--init" in err


@pytest.mark.usefixtures("_toy_data")
def test_command_refuses_the_wrong_split(
    tomoseg: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    command = ("pretrain", "test.zarr", "--validation", "validation.zarr")
    code, _, err = tomoseg(*command, "--out", tmp_path / "out")
    assert code == 2
    assert "split 'train'" in err
