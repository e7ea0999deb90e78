from pathlib import Path

import numpy as np
import pytest
import torch
from pretrain_toys import Balls
from torch import Tensor, nn

from tomoseg.errors import InputError
from tomoseg.evaluation.baselines.classifier import ICE, Classifier, Lesson, train_classifier
from tomoseg.evaluation.baselines.gradients import (
    as_map,
    gradient,
    integrated,
    smoothed,
    visual_backprop,
)
from tomoseg.evaluation.baselines.salgan import (
    Discriminator,
    Generator,
    critic_loss,
    generator_loss,
    train_salgan,
)
from tomoseg.evaluation.learned import SIG_STEPS, gradient_methods
from tomoseg.metrics import score
from tomoseg.pretrain.recipe import preset
from tomoseg.pretrain.samples import Batch, Source
from tomoseg.saliency.lanes import lane_setup

SHAPES = [(33, 40), (17, 20, 19)]


@pytest.fixture(autouse=True)
def _lane() -> None:
    lane_setup()


def image(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def linear(shape: tuple[int, ...]) -> tuple[Tensor, object]:
    weights = torch.from_numpy(image(shape) ** 3)
    return weights, lambda x: (x[0, 0] * weights).sum()


def curved(x: Tensor) -> Tensor:
    return torch.tanh(0.3 * x).pow(2).sum() + (x[..., 1:] * x[..., :-1]).sum()


# Gradients -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_of_a_linear_target_is_its_weights(shape: tuple[int, ...]) -> None:
    weights, target = linear(shape)
    np.testing.assert_allclose(gradient(target, image(shape)), weights, rtol=1e-6)
    once = smoothed(gradient, target, image(shape), copies=3)
    np.testing.assert_allclose(once, weights, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_integrated_gradients_are_complete_and_not_gradients(shape: tuple[int, ...]) -> None:
    found = integrated(curved, image(shape))
    x = torch.from_numpy(image(shape)).double()[None, None]
    assert found.sum() == pytest.approx(float(curved(x) - curved(0 * x)), rel=1e-4)
    assert np.corrcoef(found.ravel(), gradient(curved, image(shape)).ravel())[0, 1] < 0.99


def test_noise_is_that_of_the_seed_and_a_share_of_the_range() -> None:
    seen: list[np.ndarray] = []

    def spy(_: object, copy: np.ndarray) -> np.ndarray:
        seen.append(copy)
        return np.zeros(copy.shape)

    plain = image((40, 40))
    for _ in range(2):
        smoothed(spy, curved, plain, copies=2)
    np.testing.assert_array_equal(seen[0], seen[2])
    assert not np.array_equal(seen[0], seen[1])
    assert (seen[0] - plain).std() == pytest.approx(0.15 * np.ptp(plain), rel=0.1)


def test_maps_are_cut_at_their_99th_percentile() -> None:
    values = np.linspace(-1, 1, 1001)
    values[-1] = 1000
    found = as_map(values)
    assert found.max() == 1
    assert found[-20] > 0.9
    assert found[500] == 0


@pytest.mark.parametrize("dim", [2, 3])
def test_visual_backprop_is_that_of_a_plain_loop(dim: int) -> None:
    kernel, stride, edge = 3, 2, 9
    first = torch.from_numpy(np.abs(image((1, 2, *[5] * dim))))
    second = torch.from_numpy(np.abs(image((1, 3, *[3] * dim))))
    found = visual_backprop([first, second], kernel, stride, (edge,) * dim)

    def stretch(a: np.ndarray) -> np.ndarray:
        return (a - a.min()) / (a.max() - a.min())

    def up(mask: np.ndarray, edge: int) -> np.ndarray:
        wide = np.zeros([edge] * dim)
        for at in np.ndindex(mask.shape):
            low = [stride * n - kernel // 2 for n in at]
            box = tuple(slice(max(0, n), n + kernel) for n in low)
            wide[box] += mask[at]
        return wide

    mask = up(stretch(second[0].mean(0).numpy()), 5) * stretch(first[0].mean(0).numpy())
    np.testing.assert_allclose(found, up(stretch(mask), edge), atol=1e-5)


# The classifier --------------------------------------------------------------------------


def lesson(seed: int) -> Lesson:
    """Bright balls and bright plates in noise."""
    random = np.random.default_rng(seed)
    values = random.standard_normal((64, 64, 64)).astype(np.float32)
    grid, particles = np.indices(values.shape), []
    for number in range(12):
        centre = random.uniform(12, 52, 3)
        offset = grid - centre[:, None, None, None]
        shape = np.array([1, 1, 1] if number % 2 else [4, 0.5, 0.5])[:, None, None, None]
        values[((offset * shape) ** 2).sum(0) < 36] += 4
        particles.append(("ball" if number % 2 else "plate", tuple(centre)))
    return Lesson(values, particles)  # type: ignore[arg-type]


def test_the_classifier_learns_and_follows_from_its_seed(tmp_path: Path) -> None:
    lessons = [lesson(seed) for seed in range(4)]
    model, card = train_classifier(lessons, 3, steps=40, kinds=2, seed=0)
    assert model.classes == (ICE, "ball", "plate")
    assert card["held_out_accuracy"] > 0.55
    again, _ = train_classifier(lessons, 3, steps=40, kinds=2, seed=0)
    window = torch.from_numpy(image((1, 1, 32, 32, 32)))
    assert torch.equal(model(window), again(window))
    model.save(tmp_path / "classifier.safetensors", card)
    assert torch.equal(Classifier.load(tmp_path / "classifier.safetensors")(window), model(window))
    with pytest.raises(InputError):
        Generator.load(tmp_path / "classifier.safetensors")


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_methods_give_maps_of_any_shape(shape: tuple[int, ...]) -> None:
    model = Classifier(len(shape), ["ice", "a", "b"], 0).eval().requires_grad_(False)
    methods = gradient_methods(model)
    assert list(methods) == ["VA", "SVA", "IG", "SIG", "VBP"]
    maps = {name: method(image(shape)) for name, method in methods.items()}
    for name, found in maps.items():
        assert (found.shape, found.dtype) == (shape, np.float32), name
        assert (found.min(), found.max()) == (0, 1), name
    assert len({found.tobytes() for found in maps.values()}) == len(maps)
    np.testing.assert_array_equal(methods["SIG"](image(shape)), maps["SIG"])


def test_integrated_gradients_of_a_trained_classifier_are_complete() -> None:
    """A network whose answer hangs on the shape of its input alone would not be followed."""
    model, _ = train_classifier([lesson(seed) for seed in range(2)], 3, steps=30, kinds=2, seed=0)
    window = lesson(5).intensities[:32, :32, :32]
    target = model.target(window)
    x = torch.from_numpy(np.ascontiguousarray(window))[None, None]
    wanted = float(target(x) - target(0 * x))
    assert abs(wanted) > 0.1
    for steps, tolerance in ((50, 0.03), (SIG_STEPS, 0.1)):
        found = integrated(target, window, steps=steps).sum()
        assert found == pytest.approx(wanted, abs=tolerance * abs(wanted))


def test_the_class_is_that_of_the_image_wherever_the_path_leads() -> None:
    model = Classifier(2, ["ice", "a", "b"], 0).eval().requires_grad_(False)
    window = image((32, 32))
    target = model.target(window)
    x = torch.from_numpy(window)[None, None]
    other = -3 * x
    assert int(model(x).argmax()) != int(model(other).argmax())
    assert float(target(other)) == float(model(other)[0, int(model(x).argmax())])


# SalGAN ----------------------------------------------------------------------------------


class Same(Source):
    """Gives the windows of the first step again and again."""

    def batch(self, step: int) -> Batch:
        return super().batch(0)


def test_salgan_learns_a_batch_by_heart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tomoseg.evaluation.baselines.salgan.WARM_UP", 1.0)  # content alone
    recipe = preset("default", 2, 1, window=32, appearance=False, salient_share=1.0, batch=4)
    source = Same(Balls("train"), recipe)
    fresh, model = (train_salgan(source, 2, steps=n, seed=0) for n in (1, 240))
    image, truth = (part[0, 0] for part in source.batch(0))
    before, after = (score(one.saliency(image), truth).maximum_f for one in (fresh, model))
    assert after > before + 0.2
    model.save(tmp_path / "salgan.safetensors", {})
    again = Generator.load(tmp_path / "salgan.safetensors")
    np.testing.assert_array_equal(again.saliency(image), model.saliency(image))


def test_the_critic_pulls_on_the_generator_and_learns_to_tell() -> None:
    torch.manual_seed(0)
    model, critic = Generator(2), Discriminator(2)
    x, truth = torch.randn(4, 1, 32, 32), (torch.rand(4, 1, 32, 32) < 0.2).float()
    weight = model.head.weight

    def pull(adversary: nn.Module | None) -> Tensor:
        loss = generator_loss(adversary, x, model.logits(x), truth)  # type: ignore[arg-type]
        (found,) = torch.autograd.grad(loss, weight)
        return found

    assert not torch.allclose(pull(critic), 0.05 * pull(None), rtol=1e-2)
    descent = torch.optim.Adam(critic.parameters(), 3e-2)
    made = torch.sigmoid(model.logits(x)).detach()
    before = float(critic_loss(critic, x, made, truth).detach())
    for _ in range(60):
        descent.zero_grad()
        torch.autograd.backward(critic_loss(critic, x, made, truth))
        descent.step()
    assert float(critic_loss(critic, x, made, truth).detach()) < before / 2
    assert (critic(x, truth) > critic(x, made)).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_salgan_takes_any_shape(shape: tuple[int, ...]) -> None:
    found = Generator(len(shape)).requires_grad_(False).saliency(image(shape))
    assert found.shape == shape
    assert 0 <= found.min() <= found.max() <= 1
