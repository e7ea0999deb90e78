import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from saliency_toys import FLAT, SMALL, spheres

from tomoseg.config import RefineConfig
from tomoseg.errors import RequestError
from tomoseg.saliency import self_training
from tomoseg.saliency.architecture import Architecture
from tomoseg.saliency.initialise import random_network
from tomoseg.saliency.lanes import require_precision
from tomoseg.saliency.predict import Predictor
from tomoseg.saliency.refine import refine
from tomoseg.saliency.refined import Refined
from tomoseg.saliency.self_training import VIEWS, sharpened, teach
from tomoseg.saliency.supervoxels import supervoxels
from tomoseg.saliency.usalnet import USalNet
from tomoseg.saliency.weights import digest, state_of

CONFIG = RefineConfig(rule="teacher", iterations=12, learning_rate=3e-3)
WINDOWS = [spheres(32, seed=seed, count=4)[0] for seed in range(2)]


def opinionated(architecture: Architecture = SMALL, bias: float = 0.0) -> USalNet:
    """Return random weights whose saliency is not one half throughout."""
    network = random_network(architecture, 1)
    with torch.no_grad():
        network.head.weight.mul_(8)
        network.head.bias.fill_(bias)
    return network


def cross_entropy(saliency: np.ndarray, target: np.ndarray) -> float:
    p = np.clip(saliency, 1e-6, 1 - 1e-6)
    return float(-(target * np.log(p) + (1 - target) * np.log(1 - p)).mean())


def test_the_network_comes_to_say_what_its_views_agree_on() -> None:
    network = opinionated()
    refined = refine(network, WINDOWS, CONFIG, seed=0)
    assert refined.report["iterations"] == CONFIG.iterations
    targets = teach(Predictor(network), WINDOWS, CONFIG)
    for window, target in zip(WINDOWS, targets, strict=True):
        before = Predictor(network).saliency(window[None])[0]
        after = refined.saliency(window[None])[0]
        assert cross_entropy(after, target) < cross_entropy(before, target)


def test_the_student_is_the_mean_of_its_later_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    step = torch.optim.Adam.step

    def watched(self: torch.optim.Adam) -> None:
        step(self)
        seen.append(self.param_groups[0]["params"][0].detach().clone())

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    refined = refine(opinionated(), WINDOWS, dataclasses.replace(CONFIG, iterations=5), seed=0)
    assert refined.report["iterations"] == len(seen) == 5
    learnt = next(p for n, p in refined.network.named_parameters() if not n.startswith("sides."))
    torch.testing.assert_close(learnt, torch.stack(seen[2:]).mean(0))
    assert not torch.allclose(learnt, seen[-1])


def test_a_step_learns_from_the_mean_of_its_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step of both windows, unflipped, goes where the mean of both lessons points."""
    monkeypatch.setattr(self_training, "_flips", lambda *_: ())
    monkeypatch.setattr(self_training, "GRADIENT_NORM", 1e9)
    seen: list[torch.Tensor] = []

    def watched(self: torch.optim.Adam) -> None:
        seen.append(torch.cat([p.grad.flatten() for p in self.param_groups[0]["params"]]))

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    config = dataclasses.replace(CONFIG, iterations=1, windows_per_step=1)
    for windows in ([WINDOWS[0]], [WINDOWS[1]]):
        refine(opinionated(), windows, config, seed=0)
    refine(opinionated(), WINDOWS, dataclasses.replace(config, windows_per_step=2), seed=0)
    first, second, both = seen
    torch.testing.assert_close(both, (first + second) / 2)
    assert not torch.allclose(first, second)


def test_flat_networks_are_trained_alike() -> None:
    image = spheres(32, seed=0, count=4)[0][16]
    refined = refine(opinionated(FLAT), [image], CONFIG, seed=0)
    assert refined.saliency(image[None]).shape == (1, 32, 32)


@pytest.mark.parametrize("together", [2, 3])
def test_bits_follow_from_the_seed_alone(tmp_path: Path, together: int) -> None:
    network = opinionated()
    before = digest(state_of(network))
    config = dataclasses.replace(CONFIG, windows_per_step=together)
    runs = [refine(network, WINDOWS, config, seed=seed, lanes=lanes) for seed, lanes in
            ((0, 1), (0, 2), (1, 1))]  # fmt: skip
    one, other, third = (run.saliency(WINDOWS[0][None]) for run in runs)
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, third)
    assert digest(state_of(network)) == before
    runs[0].to_file(tmp_path / "refined.safetensors")
    again = Refined.from_file(tmp_path / "refined.safetensors")
    np.testing.assert_array_equal(again.saliency(WINDOWS[0][None]), one)


def test_bfloat16_teaches_the_same() -> None:
    try:
        require_precision("bfloat16", "cpu")
    except RequestError as error:
        pytest.skip(str(error))
    exact, coarse = (
        refine(opinionated(), WINDOWS, CONFIG, seed=0, precision=precision)
        for precision in ("float32", "bfloat16")
    )
    assert coarse.precision == "bfloat16"
    assert coarse.report["loss"] != exact.report["loss"]
    assert coarse.report["loss"] == pytest.approx(exact.report["loss"], rel=0.02)
    learnt, wanted = (model.saliency(WINDOWS[0][None]) for model in (coarse, exact))
    plain = Predictor(opinionated()).saliency(WINDOWS[0][None])
    assert np.abs(learnt - wanted).mean() < 0.1 * np.abs(wanted - plain).mean()


@pytest.mark.parametrize(
    ("network", "rate", "stop"),
    [
        (opinionated(bias=-40.0), 3e-3, "ice"),
        (opinionated(), 1e3, ("ran_away", "not_finite")),
    ],
)
def test_without_a_lesson_the_network_stays_what_it_was(
    network: USalNet, rate: float, stop: str | tuple[str, ...]
) -> None:
    config = dataclasses.replace(CONFIG, learning_rate=rate)
    refined = refine(network, WINDOWS, config, seed=0)
    assert refined.report["stop"] in stop
    plain = Predictor(network).saliency(WINDOWS[0][None])
    np.testing.assert_allclose(refined.saliency(WINDOWS[0][None]), plain, atol=1e-6)


def test_the_teacher_does_not_care_how_a_window_is_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its flips are a group: turned by one of them, a window is taught what it was, turned."""
    network, window = opinionated(), WINDOWS[0]
    (varied,) = teach(Predictor(network), [window], CONFIG)
    alike = {3: tuple((flips, 1.0) for flips, _ in VIEWS[3])}
    monkeypatch.setattr(self_training, "VIEWS", alike)
    (straight,) = teach(Predictor(network), [window], CONFIG)
    turned = np.ascontiguousarray(window[::-1, :, ::-1])
    (other,) = teach(Predictor(network), [turned], CONFIG)
    np.testing.assert_allclose(other[::-1, :, ::-1], straight, atol=1e-5)
    assert np.abs(varied - straight).max() > 1e-3  # by the amplitudes alone


def test_supervoxels_draw_the_target_together() -> None:
    config = dataclasses.replace(CONFIG, supervoxel_weight=1.0)
    (target,) = teach(Predictor(opinionated()), WINDOWS[:1], config)
    segments = supervoxels(
        WINDOWS[0],
        edge=config.supervoxel_edge,
        compactness=config.compactness,
        sigma=config.sigma,
    )
    first = np.flatnonzero(segments.ravel() == segments[16, 16, 16])
    assert len(first) > 1
    assert np.ptp(target.ravel()[first]) < 1e-6
    assert np.ptp(target) > 1e-3


def test_sharpening_keeps_what_is_certain_and_one_half() -> None:
    p = np.array([0.0, 0.2, 0.5, 0.8, 1.0])
    np.testing.assert_allclose(sharpened(p, 2.0), [0, 1 / 17, 0.5, 16 / 17, 1])
    np.testing.assert_allclose(sharpened(p, 1.0), p)
