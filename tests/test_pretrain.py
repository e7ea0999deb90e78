import dataclasses
import itertools
import math
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pretrain_toys import Balls
from safetensors.torch import load_file

from tomoseg.errors import FingerprintError, OutputExistsError, RequestError, Stopped
from tomoseg.geometry import whole
from tomoseg.intensity import CLIP, normalise, robust_location_scale, smooth
from tomoseg.io.storage import lock
from tomoseg.pretrain import augment
from tomoseg.pretrain.checkpoint import COLUMNS, read_curve
from tomoseg.pretrain.recipe import Recipe, preset
from tomoseg.pretrain.samples import Joined, Source, prefetch
from tomoseg.pretrain.train import Request, train
from tomoseg.saliency.architecture import Architecture
from tomoseg.saliency.initialise import random_network
from tomoseg.saliency.lanes import lane_setup
from tomoseg.saliency.usalnet import deep_supervision_loss
from tomoseg.saliency.weights import digest, load

TINY = Architecture(base_channels=2, convolutions=(1, 1, 1, 1, 1))


@pytest.fixture(autouse=True)
def _lane() -> None:
    lane_setup()


def tiny(dim: int = 3, **changes: object) -> Recipe:
    values: dict[str, object] = {
        "architecture": dataclasses.replace(TINY, dim=dim),
        "window": 32,
        "validate_every": 3,
        "validation_windows": 2,
        "warm_up": 2,
    }
    return preset("default", dim, **({"steps": 6} | values | changes))  # type: ignore[arg-type]


def request(folder: Path, recipe: Recipe | None = None, **changes: object) -> Request:
    made = Request(
        recipe=recipe or tiny(),
        training=Balls("train"),
        validation=Balls("validation"),
        names=("train.zarr", "validation.zarr"),
        folder=folder,
        device="cpu",
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


class StopAfter(threading.Event):
    """Set once it was asked so often, which is once a step."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def is_set(self) -> bool:
        self.left -= 1
        return self.left <= 0


def bits(folder: Path) -> dict[str, str]:
    return {path.name: digest(load_file(path)) for path in sorted(folder.glob("*.safetensors"))}


# Learning ------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [2, 3])
def test_finds_bright_balls(tmp_path: Path, dim: int) -> None:
    recipe = tiny(dim, steps=40, validate_every=10, learning_rate=0.03, appearance=False)
    outcome = train(request(tmp_path, recipe))
    rows = read_curve(tmp_path / "curve.csv")
    assert [row["step"] for row in rows] == [10, 20, 30, 40]
    assert rows[-1]["validation_loss"] < rows[0]["validation_loss"]
    assert outcome.scores.maximum_f > 0.6
    assert outcome.scores.maximum_f == max(row["maximum_f"] for row in rows)


def test_weights_carry_a_card_that_says_where_they_come_from(tmp_path: Path) -> None:
    outcome = train(request(tmp_path))
    network, card = load(outcome.weights)
    assert card.trained
    assert (card.voxel_size_angstrom, card.contrast, card.window) == (10.0, "light", 32)
    assert "train.zarr" in card.notes
    assert "BSD-3-Clause" in card.notes
    assert card.training["recipe"]["steps"] == 6
    assert card.training["validation"]["maximum_f"] == outcome.scores.maximum_f
    assert network.architecture == TINY
    assert load(outcome.last)[1].trained


def test_curve_has_its_columns_and_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    train(request(tmp_path))
    rows = read_curve(tmp_path / "curve.csv")
    assert [row["step"] for row in rows] == [3, 6]
    assert tuple(rows[0]) == COLUMNS
    assert (tmp_path / "curve.png").stat().st_size > 0


def test_several_sets_are_one(tmp_path: Path) -> None:
    first, second = Balls("train", count=1), Balls("train", count=2)
    joined = Joined([first, second])
    assert (len(joined), joined.shape, joined.split) == (3, first.shape, "train")
    everything = whole(first.shape)
    np.testing.assert_array_equal(joined.image(0, everything), first.image(0, everything))
    np.testing.assert_array_equal(joined.image(2, everything), second.image(1, everything))
    np.testing.assert_array_equal(joined.salient(2, everything), second.salient(1, everything))
    with pytest.raises(RequestError, match="one shape"):
        Joined([first, Balls("train", shape=(48, 48, 48))])


def test_weights_can_be_trained_on_with_a_deeper_decoder(tmp_path: Path) -> None:
    first = train(request(tmp_path / "first"))
    shape = dataclasses.replace(TINY, decoder_convolutions=(1, 1, 0, 0, 0))
    recipe = tiny(architecture=shape, freeze_norm_at=0.0)
    again = request(tmp_path / "again", recipe, init=first.weights)
    assert load(train(again).weights)[0].architecture == TINY
    deeper = dataclasses.replace(again, folder=tmp_path / "deeper", deepen=True)
    assert load(train(deeper).weights)[0].architecture == shape
    plain = dataclasses.replace(TINY, attention=False)
    recipe = tiny(architecture=plain, freeze_norm_at=0.0)
    ablated = dataclasses.replace(again, folder=tmp_path / "plain", recipe=recipe)
    assert load(train(ablated).weights)[0].architecture == plain
    coarse = dataclasses.replace(TINY, finest_attention=3)
    recipe = tiny(architecture=coarse, freeze_norm_at=0.0)
    cut = dataclasses.replace(again, folder=tmp_path / "coarse", recipe=recipe)
    trained = train(cut)
    assert load(trained.weights)[0].architecture == coarse
    further = dataclasses.replace(again, folder=tmp_path / "further", init=trained.weights)
    assert load(train(further).weights)[0].architecture == coarse


def test_weights_can_be_trained_on_with_more_channels(tmp_path: Path) -> None:
    first = train(request(tmp_path / "first"))
    wide = dataclasses.replace(TINY, base_channels=TINY.base_channels + 2)
    recipe = tiny(architecture=wide, freeze_norm_at=0.0)
    wider = request(tmp_path / "wider", recipe, init=first.weights, widen=True)
    assert load(train(wider).weights)[0].architecture == wide
    narrower = dataclasses.replace(TINY, base_channels=1)
    refused = dataclasses.replace(wider, recipe=tiny(architecture=narrower), overwrite=True)
    with pytest.raises(RequestError, match="channels: expected at least"):
        train(refused)


def test_a_second_training_in_one_folder_is_refused(tmp_path: Path) -> None:
    with (
        lock(tmp_path, tmp_path),
        pytest.raises(OutputExistsError, match="another run works on it"),
    ):
        train(request(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


@pytest.mark.parametrize("frozen", [0.0, 1.0])
def test_mixed_precision_learns_what_float32_learns(tmp_path: Path, frozen: float) -> None:
    values = {"steps": 4, "learning_rate": 1e-3, "freeze_norm_at": frozen, "validate_every": 4}
    values["architecture"] = dataclasses.replace(TINY, decoder_convolutions=(1, 0, 0, 0, 0))
    losses = {}
    for precision in ("float32", "bfloat16"):
        train(request(tmp_path / precision, tiny(precision=precision, **values)))
        (row,) = read_curve(tmp_path / precision / "curve.csv")
        losses[precision] = row["loss"]
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)


# Same bits -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe",
    [
        tiny(),
        tiny(2, freeze_norm_at=0.0),
        preset("paper", 3, 6, architecture=TINY, window=32, validate_every=4),
    ],
    ids=["default", "2-D", "paper"],
)
def test_resumed_and_in_one_go_give_the_same_bits(tmp_path: Path, recipe: Recipe) -> None:
    train(request(tmp_path / "once", recipe))
    with pytest.raises(Stopped, match="step 3 of 6") as stopped:
        train(request(tmp_path / "twice", recipe), StopAfter(3))
    assert "same command" in stopped.value.hint
    train(request(tmp_path / "twice", recipe, lanes=2))
    assert bits(tmp_path / "once") == bits(tmp_path / "twice")
    once, twice = (read_curve(tmp_path / name / "curve.csv") for name in ("once", "twice"))
    for row in (*once, *twice):
        del row["seconds"]
    assert once == twice


def test_steps_after_the_last_checkpoint_are_taken_again(tmp_path: Path) -> None:
    train(request(tmp_path / "once"))
    with pytest.raises(Stopped):
        train(request(tmp_path / "twice"), StopAfter(2))
    early = (tmp_path / "twice" / "checkpoint.safetensors").read_bytes()
    with pytest.raises(Stopped):
        train(request(tmp_path / "twice"), StopAfter(3))
    (tmp_path / "twice" / "checkpoint.safetensors").write_bytes(early)  # as after a crash
    train(request(tmp_path / "twice"))
    assert bits(tmp_path / "once") == bits(tmp_path / "twice")
    assert [row["step"] for row in read_curve(tmp_path / "twice" / "curve.csv")] == [3, 6]


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first = train(request(tmp_path))
    before = (tmp_path / "best.safetensors").stat().st_mtime_ns
    again = train(request(tmp_path))
    assert again == first
    assert (tmp_path / "best.safetensors").stat().st_mtime_ns == before


def test_time_limit_stops_resumably(tmp_path: Path) -> None:
    with pytest.raises(Stopped, match="step 1 of 6") as stopped:
        train(request(tmp_path, max_minutes=0.0))
    assert stopped.value.exit_code == 3


def test_init_starts_from_weights(tmp_path: Path) -> None:
    first = train(request(tmp_path / "a"))
    recipe = tiny(steps=1, freeze_norm_at=0.0, learning_rate=1e-9, average=0.0)
    second = train(request(tmp_path / "b", recipe, init=first.last))
    (before, _), (after, card) = load(first.last), load(second.last)
    assert card.training["recipe"]["init"] == load(first.last)[1].sha256
    for name, value in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], value, atol=1e-4, rtol=1e-2)


# Refusals ------------------------------------------------------------------------------


def test_another_recipe_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(request(tmp_path), StopAfter(1))
    with pytest.raises(FingerprintError, match=r"recipe\.seed was 0, now 1"):
        train(request(tmp_path, tiny(seed=1)))
    train(request(tmp_path, tiny(seed=1, steps=1), overwrite=True))


def test_another_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(request(tmp_path), StopAfter(1))
    with pytest.raises(FingerprintError, match=r"data\.tomograms was 3, now 4"):
        train(request(tmp_path, training=Balls("train", count=4)))


def test_results_without_a_checkpoint_are_kept(tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match="best"):
        train(request(tmp_path))
    assert (tmp_path / "best.safetensors").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training": Balls("validation")}, "training data.*'train'.*'validation'"),
        ({"validation": Balls("train")}, "validation data.*'validation'.*'train'"),
        ({"validation": Balls("test")}, "'test'"),
        ({"training": Balls("train", count=0)}, "at least one"),
        ({"training": Balls("train", shape=(16, 64, 64))}, "at least 32 voxels"),
        ({"init": "random:1", "recipe": tiny(2)}, "2-D"),
        ({"device": "tpu"}, "device"),
    ],
)
def test_what_cannot_serve_is_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(RequestError, match=said):
        train(request(tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 0}, "steps"),
        ({"batch": 3}, "multiple of the group of 2"),
        ({"window": 40}, "multiple of 16"),
        ({"learning_rate": 0.0}, "learning rate"),
        ({"freeze_norm_at": 1.5}, "freeze norm at"),
        ({"average": 1.0}, "average"),
    ],
)
def test_recipes_out_of_range_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        tiny(**changes)  # type: ignore[arg-type]


# The recipe ----------------------------------------------------------------------------


def test_rate_rises_then_falls_to_its_share() -> None:
    recipe = tiny(steps=100, warm_up=10)
    rates = [recipe.rate_at(step) for step in range(100)]
    top = max(rates)
    assert top == recipe.learning_rate == rates[10]
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.01 * top, rel=0.1)
    assert rates == [recipe.rate_at(step) for step in range(100)]


def test_paper_preset_is_the_papers() -> None:
    flat, volume = preset("paper", 2, 10), preset("paper", 3, 10)
    assert (flat.batch, flat.learning_rate, flat.momentum, flat.weight_decay) == (
        4,
        0.01,
        0.9,
        5e-4,
    )
    assert (volume.batch, volume.learning_rate, volume.momentum) == (4, 1e-5, 0.99)
    assert flat.optimiser == volume.optimiser == "sgd"
    assert volume.rate_at(0) == volume.rate_at(9) == 1e-5
    assert flat.average_at(5) == 0.0


def test_average_starts_short() -> None:
    recipe = tiny(average=0.998)
    assert recipe.average_at(0) == pytest.approx(0.1)
    assert recipe.average_at(10**6) == 0.998


def test_normalisation_freezes_at_its_share() -> None:
    recipe = tiny(steps=10, freeze_norm_at=0.5)
    assert [recipe.frozen_at(step) for step in range(10)] == [False] * 5 + [True] * 5
    assert tiny(freeze_norm_at=0.0).frozen_at(0)
    assert not tiny(steps=6, freeze_norm_at=1.0).frozen_at(5)


# Windows -------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [2, 3])
def test_a_step_has_the_same_windows_whatever_came_before(dim: int) -> None:
    recipe = tiny(dim)
    first, second = Source(Balls("train"), recipe), Source(Balls("train"), recipe)
    first.batch(0)
    one, other = first.batch(7), second.batch(7)
    assert one.images.shape == (recipe.batch, 1, *[32] * dim) == one.truths.shape
    assert one.images.dtype == one.truths.dtype == np.float32
    np.testing.assert_array_equal(one.images, other.images)
    assert not np.array_equal(one.images, first.batch(8).images)
    assert set(np.unique(one.truths)) <= {0.0, 1.0}


def test_windows_are_the_same_from_memory_and_from_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    held, read = Balls("train"), Balls("train")
    in_memory = Source(held, tiny())
    batches = [in_memory.batch(step) for step in range(4)]
    monkeypatch.setattr("tomoseg.pretrain.samples.HELD_BYTES", 0)
    from_disk = Source(read, tiny())
    for step, batch in enumerate(batches):
        np.testing.assert_array_equal(batch.images, from_disk.batch(step).images)
    assert held.reads == len(held)
    assert read.reads > len(read)


def test_validation_windows_are_fixed_and_unchanged() -> None:
    balls, recipe = Balls("validation"), tiny(smoothed=False)
    windows = Source(balls, recipe).validation()
    again = Source(balls, dataclasses.replace(recipe, batch=8)).validation()
    assert len(windows) == recipe.validation_windows
    for one, other in zip(windows, again, strict=True):
        np.testing.assert_array_equal(one.images, other.images)
    image = balls.image(0, whole(balls.shape)).astype(np.float16).astype(np.float32)
    views = np.lib.stride_tricks.sliding_window_view(image, (32, 32, 32))
    assert (views == windows[0].images[0, 0]).all(axis=(-1, -2, -3)).any()


def test_windows_of_volumes_are_cut_from_smoothed_tomograms() -> None:
    balls = Balls("validation")
    window = Source(balls, tiny()).validation()[0].images[0, 0]
    smoothed = smooth(balls.image(0, whole(balls.shape)))
    expected = normalise(smoothed, *robust_location_scale(smoothed)).astype(np.float16)
    views = np.lib.stride_tricks.sliding_window_view(expected, (32, 32, 32))
    assert (views == window.astype(np.float16)).all(axis=(-1, -2, -3)).any()


def test_prefetch_keeps_order_and_passes_errors_on() -> None:
    assert list(prefetch(lambda step: step * step, range(9))) == [n * n for n in range(9)]

    def fail(step: int) -> int:
        if step == 2:
            raise ValueError("torn")
        return step

    made = prefetch(fail, range(9))
    assert list(itertools.islice(made, 2)) == [0, 1]
    with pytest.raises(ValueError, match="torn"):
        next(made)


@pytest.mark.parametrize("dim", [2, 3])
def test_a_share_of_the_windows_is_empty_ice(dim: int) -> None:
    full = Balls("train")
    full._truth = lambda index: np.ones(full.shape, bool)  # type: ignore[method-assign]
    recipe = tiny(dim, batch=40, empty_share=0.25, salient_share=0.0)
    truths = Source(full, recipe).batch(0).truths
    assert 4 <= sum(not truth.any() for truth in truths) <= 16
    none = dataclasses.replace(recipe, empty_share=0.0)
    assert all(truth.all() for truth in Source(full, none).batch(0).truths)


# Appearance ----------------------------------------------------------------------------


def ramp(*shape: int) -> NDArray[np.float32]:
    return np.linspace(-8, 8, math.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize("shape", [(8, 8, 8), (8, 8)])
def test_image_and_truth_turn_alike(shape: tuple[int, ...]) -> None:
    image = ramp(*shape)
    truth = (np.random.default_rng(0).random(shape) < 0.3).astype(np.uint8)
    marked = np.where(truth, np.float32(100), image)
    forms = set()
    for seed in range(60):
        turned, moved = augment.turn(marked, truth, np.random.default_rng(seed), quarter_turns=True)
        np.testing.assert_array_equal(turned == 100, moved == 1)
        assert turned.flags.c_contiguous
        forms.add(moved.tobytes())
    assert len(forms) == 2 ** (len(shape) + 1)


def test_slices_that_hold_z_are_only_flipped() -> None:
    image, truth = ramp(8, 8), np.zeros((8, 8), np.uint8)
    forms = {
        augment.turn(image, truth, np.random.default_rng(seed), quarter_turns=False)[0].tobytes()
        for seed in range(40)
    }
    assert len(forms) == 4


@pytest.mark.parametrize("shape", [(32, 32, 32), (48, 48)])
def test_varied_windows_stay_finite_and_in_range(shape: tuple[int, ...]) -> None:
    noise = np.random.default_rng(1).standard_normal(shape, np.float32)
    spreads = []
    for seed in range(80):
        varied = augment.vary(noise * 2, np.random.default_rng(seed))
        assert varied.shape == shape
        assert varied.dtype == np.float32
        assert np.isfinite(varied).all()
        assert np.abs(varied).max() <= CLIP
        spreads.append(varied.std())
    assert min(spreads) < 0.5
    assert max(spreads) > 4


@pytest.mark.parametrize("change", [change for _, change in augment.CHANGES])
@pytest.mark.parametrize("image", [np.zeros((16, 16, 16), np.float32), ramp(16, 20)])
def test_each_change_keeps_shape_and_type(
    change: Callable[..., NDArray[np.float32]], image: NDArray[np.float32]
) -> None:
    before = image.copy()
    for seed in range(5):
        changed = change(image, np.random.default_rng(seed))
        assert changed.shape == image.shape
        assert changed.dtype == np.float32
        assert np.isfinite(changed).all()
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("shape", [(32, 32, 32), (48, 40)])
def test_empty_ice_has_robust_deviation_one_and_many_colours(shape: tuple[int, ...]) -> None:
    likeness = []
    for seed in range(30):
        ice = augment.empty_ice(shape, np.random.default_rng(seed))
        assert (ice.shape, ice.dtype) == (shape, np.float32)
        assert np.median(ice) == pytest.approx(0, abs=1e-5)
        assert 1.4826 * np.median(np.abs(ice)) == pytest.approx(1, rel=1e-4)
        likeness.append(float(np.mean(ice[:, 1:] * ice[:, :-1]) / ice.var()))
    assert min(likeness) < 0.1  # neighbours hardly alike: white or sharper
    assert max(likeness) > 0.7


def test_lower_resolution_keeps_a_plane_in_place() -> None:
    plane = np.broadcast_to(np.linspace(-1, 1, 33, dtype=np.float32), (33, 33))
    seen = augment.lower_resolution(plane, np.random.default_rng(0))
    np.testing.assert_allclose(seen[4:-4, 4:-4], plane[4:-4, 4:-4], atol=0.02)


# The loss ------------------------------------------------------------------------------


def test_dice_loss_rewards_the_truth_and_is_harmless_without() -> None:
    truth = torch.zeros(2, 1, 32, 32, 32)
    truth[:, :, 8:16, 8:16, 8:16] = 1

    def outputs(logits: torch.Tensor) -> list[torch.Tensor]:
        strides = (16, 8, 4, 2)
        pooled = [torch.nn.functional.avg_pool3d(logits, stride) for stride in strides]
        return [*pooled, logits, logits]

    right, wrong = outputs(20 * truth - 10), outputs(10 - 20 * truth)
    assert deep_supervision_loss(right, truth, dice=1.0) < 1.2
    assert deep_supervision_loss(wrong, truth, dice=1.0) > 4.1
    logits = torch.zeros_like(truth, requires_grad=True)
    empty = torch.zeros_like(truth)
    loss = deep_supervision_loss(outputs(logits), empty, dice=1.0)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(gradient).all()
    assert (gradient > 0).all()


def test_a_batch_in_training_computes_what_single_windows_do() -> None:
    """Convolutions of a batch take another path while gradients are wanted."""
    network = random_network(TINY, 0)
    x = torch.randn(2, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        alone = torch.cat([network.logits(window[None]) for window in x])
    torch.testing.assert_close(network.logits(x).detach(), alone, atol=1e-4, rtol=1e-4)
