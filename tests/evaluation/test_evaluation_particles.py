import numpy as np
import pytest

from tomoseg.evaluation.particles import match


def test_every_particle_has_one_partner_at_most() -> None:
    true = np.array([[0, 0, 0], [10, 0, 0]], float)
    twice = np.array([[0, 0, 1], [0, 1, 0], [10, 0, 0]], float)
    found = match(twice, true, 2)
    assert (found.matched, found.predicted, found.true) == (2, 3, 2)
    assert (found.precision, found.recall) == (2 / 3, 1)
    assert found.f1 == pytest.approx(0.8)


def test_as_many_are_matched_as_can_be() -> None:
    """The nearest partner of the first is the only one that the second has."""
    predicted = np.array([[0.0, 0, 0], [1.9, 0, 0]])
    true = np.array([[-1.5, 0, 0], [0.4, 0, 0]])
    assert match(predicted, true, 1.6).matched == 2


def test_the_distance_itself_still_counts() -> None:
    one, other = np.zeros((1, 3)), np.array([[3.0, 4.0, 0.0]])
    assert match(one, other, 5.0).matched == 1
    assert match(one, other, 4.99).matched == 0


def test_nothing_is_found_in_nothing() -> None:
    nothing, one = np.zeros((0, 3)), np.zeros((1, 3))
    assert match(nothing, nothing, 1).f1 == 1
    assert (match(nothing, one, 1).recall, match(nothing, one, 1).precision) == (0, 1)
    assert match(one, nothing, 1).f1 == 0


def test_chance_agrees_with_counting_by_brute_force() -> None:
    random = np.random.default_rng(0)
    true = random.uniform(0, 100, (60, 3))
    predicted = np.concatenate([true[:40] + random.normal(0, 0.5, (40, 3)), 500 + true[:10]])
    found = match(predicted, true, 3.0)
    assert (found.matched, found.precision, found.recall) == (40, 0.8, 40 / 60)
