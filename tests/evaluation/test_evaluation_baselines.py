"""What holds for every baseline."""

import numpy as np
import pytest
from baselines_toys import SHAPES, SMALLEST, balls_in_noise, chance_of_order, noise

from tomoseg.evaluation.baselines import TRIVIAL, UNSUPERVISED
from tomoseg.evaluation.baselines.scale import min_max

ALL = UNSUPERVISED | TRIVIAL
BRIGHT_ONLY = {"Zhou 2018", "difference of Gaussians", "blur + Otsu"}
"""Methods to which dark objects are not salient, as their docstrings say."""

BETTER_THAN_CHANCE = {
    "Itti": 0.8,
    "LC": 0.75,
    "SR": 0.75,
    "Zhou 2018": 0.75,
    "PickET 2025": 0.85,
    "difference of Gaussians": 0.95,
    "blur + Otsu": 0.85,
}
"""Least chance that a voxel in a ball is more salient than one outside."""


def test_names_are_those_of_the_tables():
    assert list(ALL) == [
        "Itti",
        "LC",
        "SR",
        "Zhou 2018",
        "PickET 2025",
        "difference of Gaussians",
        "blur + Otsu",
        "all zeros",
        "all ones",
    ]


@pytest.mark.parametrize("shape", SHAPES + SMALLEST)
@pytest.mark.parametrize("name", ALL)
def test_maps_are_in_range_repeatable_and_leave_their_input_alone(name, shape):
    image, _ = balls_in_noise(shape)
    image.flags.writeable = False
    saliency = ALL[name](image)
    assert (saliency.shape, saliency.dtype) == (shape, np.float32)
    assert saliency.min() >= 0
    assert saliency.max() <= 1
    np.testing.assert_array_equal(saliency, ALL[name](image.copy()))


@pytest.mark.parametrize("shape", [(40, 33), (20, 17, 24)])
@pytest.mark.parametrize("name", UNSUPERVISED)
def test_a_map_reaches_from_0_to_1(name, shape):
    saliency = UNSUPERVISED[name](balls_in_noise(shape)[0])
    assert (saliency.min(), saliency.max()) == (0, 1)


@pytest.mark.parametrize("value", [0.0, 3.3, -7.1])
@pytest.mark.parametrize("shape", [(40, 33), (20, 17, 24)])
@pytest.mark.parametrize("name", UNSUPERVISED)
def test_nothing_is_salient_in_constant_input(name, shape, value):
    assert not UNSUPERVISED[name](np.full(shape, value, np.float32)).any()


def test_trivial_maps_are_trivial():
    image = noise((20, 21))
    assert not TRIVIAL["all zeros"](image).any()
    assert (TRIVIAL["all ones"](image) == 1).all()


@pytest.mark.parametrize("shape", [(80, 96), (36, 40, 38)])
@pytest.mark.parametrize("name", UNSUPERVISED)
def test_bright_balls_in_noise_are_found(name, shape):
    image, truth = balls_in_noise(shape, radius=6)
    assert chance_of_order(UNSUPERVISED[name](image), truth) > BETTER_THAN_CHANCE[name]


@pytest.mark.parametrize("shape", [(80, 96), (36, 40, 38)])
@pytest.mark.parametrize("name", UNSUPERVISED)
def test_polarity_is_as_documented(name, shape):
    image, truth = balls_in_noise(shape, radius=6)
    bright, dark = (UNSUPERVISED[name](sign * image) for sign in (1, -1))
    if name in BRIGHT_ONLY:
        assert chance_of_order(dark, truth) < chance_of_order(bright, truth) - 0.2
    else:
        assert np.corrcoef(bright.ravel(), dark.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("name", UNSUPERVISED)
def test_one_odd_voxel_is_no_trouble(name):
    image = np.zeros((24, 25, 26), np.float32)
    image[5, 6, 7] = 10
    saliency = UNSUPERVISED[name](image)
    assert np.isfinite(saliency).all()
    assert saliency[5, 6, 7] > saliency[20, 20, 20]


def test_min_max_stretches_to_the_ends():
    np.testing.assert_allclose(min_max(np.array([-3.0, 0.0, 1.0])), [0, 0.75, 1])
    assert not min_max(np.full((3, 2), 4.0)).any()
    assert min_max(np.array([1e-9, 3e-9])).tolist() == [0, 1]  # no unit is assumed
