import numpy as np
import pytest

from tomoseg.metrics import Agreement


@pytest.fixture
def pair():
    random = np.random.default_rng(0)
    truth = random.random((20, 30, 25)) < 0.2
    saliency = np.clip(random.normal(90 + 70 * truth, 40), 0, 255).astype(np.uint8)
    return saliency, truth


def test_counts_of_blocks_add_up_to_those_of_the_whole(pair):
    saliency, truth = pair
    parts = Agreement.of(saliency[:7], truth[:7]) + Agreement.of(saliency[7:], truth[7:])
    np.testing.assert_array_equal(parts.counts, Agreement.of(saliency, truth).counts)


def test_scores_are_those_of_their_definitions(pair):
    saliency, truth = pair
    score = Agreement.of(saliency, truth)
    assert score.mean_absolute_error == pytest.approx(np.abs(saliency / 255 - truth).mean())
    chosen = saliency >= 128
    dice = 2 * (chosen & truth).sum() / (chosen.sum() + truth.sum())
    assert score.dice(0.5) == pytest.approx(dice)

    def f(level):
        precision = truth[saliency >= level].mean()
        recall = (saliency[truth] >= level).mean()
        return 1.3 * precision * recall / (0.3 * precision + recall)

    assert score.maximum_f == pytest.approx(max(f(level) for level in range(240)))


def test_trivial_maps():
    truth = np.zeros((10, 10), bool)
    truth[:2] = True
    zeros, ones = np.zeros((10, 10), np.uint8), np.full((10, 10), 255, np.uint8)
    assert Agreement.of(zeros, truth).mean_absolute_error == pytest.approx(0.2)
    assert Agreement.of(ones, truth).mean_absolute_error == pytest.approx(0.8)
    assert Agreement.of(zeros, truth).dice(0.5) == 0
    assert Agreement.of(zeros, truth & False).dice(0.5) == 1
    assert Agreement.of(zeros, truth & False).maximum_f == 0
    perfect = Agreement.of(truth.astype(np.uint8) * 255, truth)
    assert perfect.maximum_f == pytest.approx(1)
