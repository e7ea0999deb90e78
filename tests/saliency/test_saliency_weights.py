import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from saliency_toys import SMALL

from tomoseg.errors import InputError, RequestError
from tomoseg.saliency.architecture import Architecture
from tomoseg.saliency.initialise import random_network
from tomoseg.saliency.predict import Predictor
from tomoseg.saliency.weights import Card, digest, load, read_tensors, save, state_of

CARD = Card(name="toy", architecture=SMALL, voxel_size_angstrom=10.0, trained=True, notes="A toy.")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "toy.safetensors"
    save(path, random_network(SMALL, 1), CARD)
    return path


def rewrite(path: Path, change: dict[str, torch.Tensor | None]) -> None:
    """Change tensors and leave the card as it was."""
    _, card = read_tensors(path, "tomoseg_card")
    tensors = {k: v for k, v in {**load_file(path), **change}.items() if v is not None}
    save_file(tensors, path, {"tomoseg_card": json.dumps(card)})


@pytest.mark.parametrize("half", [False, True])
def test_what_is_saved_comes_back(tmp_path: Path, half: bool) -> None:
    path = tmp_path / "toy.safetensors"
    network = random_network(SMALL, 1)
    stored = save(path, network, CARD, half=half)
    loaded, card = load(str(path))
    assert card == stored == dataclasses.replace(CARD, sha256=stored.sha256)
    assert not loaded.training
    for name, tensor in state_of(loaded).items():
        expected = state_of(network)[name]
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, expected.half().float() if half else expected)
    assert json.loads(path.with_suffix(".json").read_text())["sha256"] == card.sha256


def test_random_weights_are_named_by_their_seed() -> None:
    network, card = load("random:7")
    assert card.sha256 == digest(state_of(random_network(Architecture(), 7)))
    assert (card.trained, card.voxel_size_angstrom) == (False, None)
    assert not network.training


@pytest.mark.parametrize("spec", ["random:", "random:-1", "random:x", "random:1.5"])
def test_bad_seeds_are_refused(spec: str) -> None:
    with pytest.raises(RequestError, match="random:SEED"):
        load(spec)


def test_unknown_names_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no such file.*Shipped:"):
        load("nothing-goes-by-this-name")
    with pytest.raises(RequestError, match="a folder"):
        load(str(tmp_path))


def test_damage_is_found(saved: Path) -> None:
    rewrite(saved, {"head.bias": torch.ones(1)})
    with pytest.raises(InputError, match="sha256"):
        load(str(saved))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head.bias": None}, "1 tensors missing: head.bias"),
        ({"tail.bias": torch.ones(1)}, "1 tensors unknown: tail.bias"),
        ({"head.bias": torch.ones(2)}, r"head.bias of shape \(1,\), got \(2,\)"),
    ],
)
def test_other_tensors_are_refused(
    saved: Path, change: dict[str, torch.Tensor | None], message: str
) -> None:
    rewrite(saved, change)
    with pytest.raises(InputError, match=message):
        load(str(saved))


def test_pickles_and_foreign_files_are_refused(tmp_path: Path) -> None:
    pickled = tmp_path / "weights.pt"
    torch.save({"head.bias": torch.ones(1)}, pickled)
    with pytest.raises(InputError, match="expected a safetensors file"):
        load(str(pickled))
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": torch.ones(1)}, foreign)
    with pytest.raises(InputError, match="Only files that tomoseg wrote"):
        load(str(foreign))
    truncated = tmp_path / "empty.safetensors"
    truncated.touch()
    with pytest.raises(InputError, match="safetensors"):
        load(str(truncated))


def test_loaded_weights_compute_the_same_bits(saved: Path) -> None:
    window = np.random.default_rng(0).standard_normal((1, 32, 32, 32)).astype(np.float32)
    expected = Predictor(random_network(SMALL, 1)).saliency(window)
    np.testing.assert_array_equal(Predictor(load(str(saved))[0]).saliency(window), expected)
