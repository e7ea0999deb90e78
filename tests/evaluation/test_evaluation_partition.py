import numpy as np

from tomoseg.evaluation.partition import score_partition

TRUTH = np.array([[0, 0, 1, 1], [0, 0, 1, 1]])


def test_segments_along_the_border_are_perfect() -> None:
    scores = score_partition(np.array([[0, 0, 1, 1], [2, 2, 1, 1]]), TRUTH)
    assert (scores.boundary_recall, scores.achievable_accuracy) == (1, 1)
    assert scores.undersegmentation == 0
    assert scores.boundary_share == 4 / 10


def test_what_leaks_across_the_border_is_counted() -> None:
    scores = score_partition(np.array([[0, 0, 0, 1], [2, 2, 1, 1]]), TRUTH)
    assert scores.boundary_recall == 0.5
    assert scores.achievable_accuracy == 7 / 8
    assert scores.undersegmentation == 3 / 8  # the three voxels of segment 0 count twice


def test_one_segment_finds_nothing() -> None:
    scores = score_partition(np.zeros_like(TRUTH), TRUTH)
    assert (scores.boundary_recall, scores.achievable_accuracy) == (0, 0.5)
    assert (scores.undersegmentation, scores.boundary_share) == (1, 0)
