import numpy as np
import pytest
from baselines_toys import ball, noise

from tomoseg.evaluation.baselines.contrast import (
    blur_and_otsu,
    difference_of_gaussians,
    luminance_contrast,
)


@pytest.mark.parametrize("shape", [(17, 22), (7, 9, 8)])
def test_lc_is_the_sum_over_all_voxels(shape):
    image = noise(shape)
    levels = np.rint((image - image.min()) / (image.max() - image.min()) * 255).ravel()
    sums = [sum(abs(level - other) for other in levels) for level in levels]
    expected = (np.array(sums) - min(sums)) / (max(sums) - min(sums))
    np.testing.assert_allclose(luminance_contrast(image).ravel(), expected, atol=1e-6)


def test_lc_prefers_what_is_rare():
    image = np.zeros((20, 20), np.float32)
    image[:, 10:] = 1
    image[3:5, 3:5] = 0.5
    image[15, 15] = 2
    saliency = luminance_contrast(image)
    assert saliency[15, 15] == 1
    assert saliency[3, 3] < saliency[15, 15]


@pytest.mark.parametrize("shape", [(64, 50), (40, 41, 42)])
def test_difference_of_gaussians_sees_small_bright_things(shape):
    middle = tuple(n // 2 for n in shape)
    inside = ball(shape, middle, 4).astype(np.float32)
    assert difference_of_gaussians(inside)[middle] == 1
    assert difference_of_gaussians(-inside)[middle] == 0
    ramp = np.broadcast_to(np.linspace(0, 1, shape[0]).reshape(-1, *[1] * (len(shape) - 1)), shape)
    saliency = difference_of_gaussians(5 * inside + ramp.astype(np.float32))
    assert saliency[middle] > 10 * saliency[(shape[0] - 1, *middle[1:])]  # not the background


@pytest.mark.parametrize("shape", [(40, 41), (24, 25, 26)])
def test_otsu_splits_two_levels_at_the_edge_between_them(shape):
    image = np.zeros(shape, np.float32)
    image[: shape[0] // 2] = 1
    differs = blur_and_otsu(image + 0.01 * noise(shape)) != image
    differs[shape[0] // 2 - 1 : shape[0] // 2 + 1] = False  # there the blur meets the threshold
    assert not differs.any()
