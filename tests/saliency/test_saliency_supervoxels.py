import numpy as np
import pytest
from saliency_toys import dice, spheres
from skimage.metrics import adapted_rand_error

from tomoseg.saliency.supervoxels import majority_vote, reference_supervoxels, supervoxels

SETTINGS = {"edge": 4, "compactness": 2.0, "sigma": 1.0}


def test_votes_are_the_loop_over_supervoxels() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 5, (6, 7, 8)).astype(np.uint16)
    segments = generator.integers(0, 9, (6, 7, 8)).astype(np.int32)
    expected = np.empty_like(segments)
    for segment in range(9):
        inside = segments == segment
        counts = [int((labels[inside] == k).sum()) for k in range(5)]
        expected[inside] = counts.index(max(counts))  # the lowest of the most frequent
    np.testing.assert_array_equal(majority_vote(labels, segments, 5), expected)


def test_ties_go_to_the_lowest_label() -> None:
    segments = np.zeros((1, 4), np.int32)
    assert majority_vote(np.array([[3, 1, 3, 1]]), segments, 4).tolist() == [[1, 1, 1, 1]]


def test_windows_on_one_lattice_agree() -> None:
    volume, _ = spheres(96, seed=1, count=30)
    first = supervoxels(volume[:64, :64, :64], **SETTINGS)
    second = supervoxels(volume[32:, 16:80, :64], **SETTINGS)
    common, same = first[40:56, 24:56, 8:56], second[8:24, 8:40, 8:56]
    error, _, _ = adapted_rand_error(common, same)
    assert error < 0.05


@pytest.mark.parametrize(("edge", "lattice"), [(4, True), (3, False)])
def test_edges_off_the_lattice_are_scikit_image_s(edge: int, lattice: bool) -> None:
    volume, _ = spheres(24, seed=5)
    settings = SETTINGS | {"edge": edge}
    same = np.array_equal(
        supervoxels(volume, **settings), reference_supervoxels(volume, **settings)
    )
    assert same != lattice


def test_one_gold_bead_changes_little() -> None:
    volume, _ = spheres(48, seed=2)
    beaded = volume.copy()
    beaded[24, 24, 24] = 1e4
    before, after = supervoxels(volume, **SETTINGS), supervoxels(beaded, **SETTINGS)
    # Labels are numbers of no meaning: a voxel counts as changed where the supervoxel
    # that holds most of its old one is another.
    renamed = majority_vote(before, after, int(before.max()) + 1)
    changed = (renamed != before).mean() - (
        majority_vote(before, before, int(before.max()) + 1) != before
    ).mean()
    assert changed < 0.005


@pytest.mark.parametrize("edge", [4, 8, 3])
def test_a_constant_window_becomes_the_lattice(edge: int) -> None:
    labels = supervoxels(np.zeros((48, 24, 24), np.float32), edge=edge, compactness=1, sigma=1)
    assert labels.dtype == np.int32
    assert np.unique(labels).tolist() == list(range(48 * 24 * 24 // edge**3))


def test_supervoxels_follow_spheres() -> None:
    volume, truth = spheres(48, seed=3)
    segments = supervoxels(volume, **SETTINGS)
    ceiling = majority_vote(truth.astype(np.int32), segments, 2).astype(bool)
    assert dice(ceiling, truth) > 0.8


def test_images_have_superpixels() -> None:
    image, _ = spheres(64, seed=0, dim=2)
    labels = supervoxels(image, edge=8, compactness=3.0, sigma=1.0)
    assert labels.shape == image.shape
    assert 48 <= labels.max() + 1 <= 80
