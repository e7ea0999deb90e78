import numpy as np
import pytest
from baselines_toys import ball, noise, peak, texture_with_a_patch

from tomoseg.evaluation.baselines.centre_surround import itti, promote


@pytest.mark.parametrize("shape", [(61, 40), (31, 20, 25)])
def test_a_single_peak_is_promoted_over_many(shape):
    lone, many = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    lone[tuple(n // 2 for n in shape)] = 1
    many[(slice(2, None, 5),) * len(shape)] = 0.8
    many[(2,) * len(shape)] = 1
    assert promote(lone).max() == pytest.approx(1)
    assert promote(many).max() == pytest.approx(0.2**2, rel=1e-4)


def test_two_equal_peaks_cancel():
    values = np.zeros((20, 20), np.float32)
    values[3, 3] = values[15, 15] = 7
    assert promote(values).max() == pytest.approx(0, abs=1e-6)


def test_rounding_is_not_promoted():
    values = 1 + np.random.default_rng(0).uniform(0, 1e-7, (20, 20)).astype(np.float32)
    assert not promote(values).any()


@pytest.mark.parametrize("shape", [(161, 130), (200, 200), (40, 51, 45)])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_one_odd_blob_in_noise_is_the_most_salient(shape, sign):
    centre = tuple(0.3 * n for n in shape)
    image = 0.5 * noise(shape) + sign * 3 * ball(shape, centre, min(shape) / 12)
    distance = np.linalg.norm(np.subtract(peak(itti(image.astype(np.float32))), centre))
    assert distance < min(shape) / 8


@pytest.mark.parametrize(("shape", "period", "edge"), [((256, 230), 28, 64), ((48, 52, 50), 8, 16)])
def test_a_patch_of_another_direction_is_salient(shape, period, edge):
    # by intensity alone it is at most half again as salient as the rest
    corner = tuple(int(n * 0.35) for n in shape)
    image, box = texture_with_a_patch(shape, period=period, edge=edge, corner=corner)
    saliency = itti(image)
    rest = np.ones(shape, bool)
    rest[tuple(slice(b.start - 4, b.stop + 4) for b in box)] = False
    assert saliency[box].mean() > 2 * saliency[rest].mean()
