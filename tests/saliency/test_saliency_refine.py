import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from saliency_toys import FLAT, SMALL, dice, spheres

from tomoseg.config import RefineConfig
from tomoseg.errors import InputError, RequestError
from tomoseg.saliency.initialise import random_network
from tomoseg.saliency.refine import refine
from tomoseg.saliency.refined import Refined, salient_mass
from tomoseg.saliency.weights import Card, digest, save, state_of

CONFIG = RefineConfig(
    rule="majority",
    classes=8,
    iterations=16,
    supervoxel_edge=4,
    compactness=2.0,
    sigma=1.0,
    learning_rate=0.2,
    tolerance=0.0,
)
SAMPLE = [spheres(32, seed=seed, count=4) for seed in range(2)]
WINDOWS = [volume for volume, _ in SAMPLE]
SHORT = dataclasses.replace(CONFIG, iterations=3)


@pytest.fixture(scope="module")
def refined() -> Refined:
    return refine(random_network(SMALL, 1), WINDOWS, CONFIG, seed=0)


def test_bright_spheres_part_from_the_background(refined: Refined) -> None:
    unseen, truth = spheres(32, seed=9, count=4)
    mask = refined.saliency(unseen[None])[0] >= 0.5
    assert dice(mask, truth) > dice(np.ones_like(truth), truth) + 0.2


def test_the_report_says_what_was_done(refined: Refined) -> None:
    report = json.loads(json.dumps(refined.report))
    assert 1 <= report["iterations"] <= CONFIG.iterations
    assert report["stop"] in {"iterations", "min_labels"}
    assert report["labels"] >= 2
    assert len(report["salient_labels"]) == report["labels"] - 1  # majority
    assert 0 < report["salient_fraction"] < 0.5
    assert report["loss"] > 0


def test_starting_weights_stay_as_they_are() -> None:
    network = random_network(SMALL, 0)
    before = digest(state_of(network))
    refine(network, WINDOWS, SHORT, seed=0)
    assert digest(state_of(network)) == before


def test_bits_follow_from_the_seed_and_not_from_lanes() -> None:
    network = random_network(SMALL, 0)
    first = refine(network, WINDOWS, SHORT, seed=3).saliency(np.stack(WINDOWS))
    torch.manual_seed(5)
    again = refine(network, WINDOWS, SHORT, seed=3, lanes=2).saliency(np.stack(WINDOWS))
    other = refine(network, WINDOWS, SHORT, seed=4).saliency(np.stack(WINDOWS))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_window_does_not_depend_on_its_companions(refined: Refined) -> None:
    together = refined.saliency(np.stack(WINDOWS))
    np.testing.assert_array_equal(refined.saliency(WINDOWS[1][None])[0], together[1])


def test_it_travels_and_rests_without_changing_a_bit(refined: Refined, tmp_path: Path) -> None:
    expected = refined.saliency(np.stack(WINDOWS))
    path = tmp_path / "refined.safetensors"
    refined.to_file(path)
    for copy in (pickle.loads(pickle.dumps(refined)), Refined.from_file(path)):
        np.testing.assert_array_equal(copy.saliency(np.stack(WINDOWS)), expected)
        assert copy.report == refined.report


def test_other_files_are_no_refined_weights(tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    save(path, random_network(SMALL, 0), Card(name="plain", architecture=SMALL))
    with pytest.raises(InputError, match="tomoseg_refined"):
        Refined.from_file(path)


def test_continuity_makes_the_saliency_smoother() -> None:
    network = random_network(SMALL, 1)
    config = dataclasses.replace(CONFIG, unify="continuity", iterations=12)

    def roughness(steps: int) -> float:
        result = refine(network, WINDOWS, dataclasses.replace(config, iterations=steps), seed=0)
        mass = result.saliency(WINDOWS[0][None])[0]
        return float(np.mean(np.abs(np.diff(mass, axis=0))) / (np.ptp(mass) + 1e-6))

    assert roughness(12) < roughness(1)


@pytest.mark.parametrize("kind", ["constant", "noise"])
def test_nothing_to_see_comes_out_empty_under_prior(kind: str) -> None:
    noise = np.random.default_rng(0).standard_normal((32, 32, 32)).astype(np.float32)
    window = np.zeros_like(noise) if kind == "constant" else noise
    config = dataclasses.replace(SHORT, rule="prior")
    result = refine(random_network(SMALL, 0), [window], config, seed=0)
    assert not result.saliency(window[None]).any()
    assert (result.report["salient_labels"], result.report["salient_fraction"]) == ([], 0)


def test_prior_takes_what_the_network_took_before() -> None:
    network = random_network(SMALL, 0)
    with torch.no_grad():
        network.head.bias.fill_(5.0)  # everything is salient to it
    config = dataclasses.replace(SHORT, rule="prior")
    result = refine(network, WINDOWS, config, seed=0)
    assert len(result.salient) == result.report["labels"]
    assert result.report["salient_fraction"] == 1


def test_one_label_left_is_a_collapse_and_majority_finds_nothing() -> None:
    window = np.zeros((32, 32, 32), np.float32)
    result = refine(random_network(SMALL, 0), [window], SHORT, seed=0)
    assert result.report["stop"] == "collapsed"
    assert not result.saliency(window[None]).any()


def test_a_collapse_under_way_ends_with_the_last_state_of_two_labels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Targets of one label pull everything there; two labels must be left all the same."""
    monkeypatch.setattr(
        "tomoseg.saliency.refine.majority_vote", lambda labels, _, __: np.zeros(labels.shape, int)
    )
    config = dataclasses.replace(CONFIG, iterations=40, learning_rate=1.0)
    result = refine(random_network(SMALL, 0), WINDOWS[:1], config, seed=0)
    assert result.report["stop"] in {"collapsed", "min_labels"}
    assert result.report["labels"] >= 2


def test_values_that_are_not_finite_end_refinement_soundly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tomoseg.saliency.refine.GRADIENT_NORM", float("nan"))
    result = refine(random_network(SMALL, 0), WINDOWS, SHORT, seed=0)
    assert (result.report["stop"], result.report["iterations"]) == ("not_finite", 1)
    assert np.isfinite(result.saliency(np.stack(WINDOWS))).all()


def test_calm_stops_refinement() -> None:
    config = dataclasses.replace(CONFIG, tolerance=1.1, patience=2)
    result = refine(random_network(SMALL, 0), WINDOWS, config, seed=0)
    assert (result.report["stop"], result.report["iterations"]) == ("converged", 3)


def test_images_are_refined_too() -> None:
    image, _ = spheres(64, seed=0, count=6, dim=2)
    result = refine(random_network(FLAT, 0), [image], SHORT, seed=0)
    assert result.saliency(image[None]).shape == (1, 64, 64)


def test_samples_that_do_not_fit_are_refused() -> None:
    network = random_network(SMALL, 0)
    with pytest.raises(RequestError, match="no window"):
        refine(network, [], SHORT, seed=0)
    with pytest.raises(RequestError, match="one shape"):
        refine(network, [WINDOWS[0], WINDOWS[1][:16]], SHORT, seed=0)
    with pytest.raises(InputError, match="finite"):
        refine(network, [np.full((16, 16, 16), np.inf, np.float32)], SHORT, seed=0)


def test_the_mass_of_many_salient_labels_is_no_more_than_one() -> None:
    generator = torch.Generator().manual_seed(0)
    response = torch.randn(1, 100, 32, 32, 32, generator=generator)
    salient = list(range(1, 100))
    response[:, 0] = -40
    exact = torch.softmax(response, dim=1)[:, salient].sum(dim=1)
    assert exact.max() > 1  # else this shows nothing
    assert salient_mass(response, salient).max() == 1
