import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from saliency_toys import FLAT, SMALL
from scipy.special import expit, logit

from tomoseg.errors import InputError, RequestError
from tomoseg.intensity import CLIP
from tomoseg.saliency.architecture import Architecture
from tomoseg.saliency.initialise import random_network
from tomoseg.saliency.lanes import lane_setup, map_lanes
from tomoseg.saliency.predict import Predictor, Views, looking, refuse_when_memory_ends


def windows(count: int, *edges: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, *edges)).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_window_does_not_depend_on_its_companions(batch: int) -> None:
    predictor = Predictor(random_network(SMALL, 0), batch=batch)
    given = windows(5, 32, 48, 16)
    together = predictor.saliency(given)
    assert (together.dtype, together.shape) == (np.float32, given.shape)
    assert 0 <= together.min() < together.max() <= 1
    for number in range(5):
        np.testing.assert_array_equal(
            predictor.saliency(given[number : number + 1])[0], together[number]
        )


@pytest.mark.parametrize("architecture", [SMALL, FLAT])
def test_flips_are_undone_and_averaged(architecture: Architecture) -> None:
    given = windows(2, *(32, 48, 16)[: architecture.dim])
    predictor = Predictor(random_network(architecture, 0))
    plain = predictor.saliency(given)
    axes = tuple(range(1, given.ndim))
    for looks, turns in (("2", [axes]), ("all", [*axes, axes])):
        model = looking(predictor, looks, architecture.dim)
        found = model.saliency(given)
        for turn in turns:  # the mean over flips flips as its input does
            turned = np.ascontiguousarray(np.flip(given, turn))
            np.testing.assert_allclose(model.saliency(turned), np.flip(found, turn), atol=1e-6)
        assert np.abs(found - plain).max() > 1e-4
    assert looking(predictor, "1", architecture.dim) is predictor


def test_a_view_is_flipped_and_scaled_and_held_within_bounds() -> None:
    class Itself:
        def saliency(self, windows: np.ndarray) -> np.ndarray:
            assert np.abs(windows).max() <= CLIP
            return windows

    given = windows(1, 4, 4, 4)
    found = Views(Itself(), [((), 1.0), ((0, 2), 0.5)]).saliency(given)
    np.testing.assert_allclose(found, 0.75 * given, rtol=1e-6)
    brighter = Views(Itself(), [((1,), 100.0)]).saliency(given)
    np.testing.assert_allclose(brighter, np.clip(100 * given, -CLIP, CLIP))


def test_log_odds_are_averaged_and_what_is_certain_stays_finite() -> None:
    class Says:
        def __init__(self, *saliency: float) -> None:
            self.saliency = lambda _: np.float32(saliency)[None]

    views = [((), 1.0), ((0,), 1.0)]
    found = Views(Says(0, 0.02, 0.5, 0.9, 0.26, 1), views, log_odds=True).saliency(windows(1, 6))[0]
    np.testing.assert_allclose(found[[1, 4]], expit((logit(0.02) + logit(0.26)) / 2), rtol=1e-5)
    np.testing.assert_allclose(found[[2, 3]], 0.75, rtol=1e-5)
    np.testing.assert_allclose(found[[0, 5]], 0.5, atol=0.01)  # one is as sure as the other
    sure = Views(Says(0, 1), views[:1], log_odds=True).saliency(windows(1, 2))
    np.testing.assert_allclose(sure, [[0, 1]], atol=2e-6)


def test_lanes_do_not_change_bits() -> None:
    predictor = Predictor(random_network(SMALL, 0))
    given = list(windows(6, 32, 32, 48))
    one = map_lanes(lambda w: predictor.saliency(w[None]), given, 1)
    for lanes in (2, 3):
        many = map_lanes(lambda w: predictor.saliency(w[None]), given, lanes)
        np.testing.assert_array_equal(many, one)


def test_a_thread_that_forgot_its_setup_computes_the_same_bits() -> None:
    predictor = Predictor(random_network(SMALL, 0))
    given = windows(1, 48, 48, 48)
    expected = predictor.saliency(given)
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(1) as pool:
            np.testing.assert_array_equal(pool.submit(predictor.saliency, given).result(), expected)
    finally:
        lane_setup()


def test_a_worker_imports_neither_compiler_nor_algebra() -> None:
    """What torch's better known switches import costs every process seconds."""
    code = (
        "import sys, torch\n"
        "from tomoseg.saliency.lanes import lane_setup\n"
        "from tomoseg.saliency.weights import load\n"
        "lane_setup(); load('vnet3d')\n"
        "print(torch.are_deterministic_algorithms_enabled())\n"
        "print([name for name in ('torch._inductor', 'sympy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["True", "[]"]


def test_lanes_have_one_thread_each() -> None:
    assert map_lanes(lambda _: torch.get_num_threads(), range(4), 2) == [1] * 4


def test_models_travel_to_other_processes() -> None:
    predictor = Predictor(random_network(SMALL, 0))
    given = windows(1, 32, 32, 32)
    copy = pickle.loads(pickle.dumps(predictor))
    np.testing.assert_array_equal(copy.saliency(given), predictor.saliency(given))


def test_images_have_saliency() -> None:
    given = windows(2, 64, 32)
    assert Predictor(random_network(FLAT, 0)).saliency(given).shape == given.shape


def test_what_cannot_be_computed_is_refused() -> None:
    predictor = Predictor(random_network(SMALL, 0))
    with pytest.raises(RequestError, match="multiple of 16"):
        predictor.saliency(windows(1, 32, 32, 33))
    broken = windows(1, 32, 32, 32)
    broken[0, 1, 2, 3] = np.nan
    with pytest.raises(InputError, match="finite"):
        predictor.saliency(broken)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    ],
)
def test_memory_that_ends_is_a_request_to_change(error: Exception) -> None:
    with pytest.raises(RequestError, match="smaller batch"), refuse_when_memory_ends((1, 1)):
        raise error


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="else"), refuse_when_memory_ends((1, 1)):
        raise RuntimeError("something else")
