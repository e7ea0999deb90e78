import numpy as np
import pytest
from baselines_toys import ball, noise
from scipy import ndimage
from scipy.cluster.vq import kmeans2

from tomoseg.evaluation.baselines.clusters import picket, two_means


def scatter(points, centres):
    return ((points[:, None] - centres) ** 2).sum(-1).min(1).sum()


def test_two_means_are_those_of_the_clusters():
    random = np.random.default_rng(0)
    first = random.normal(0, 1, (700, 6)).astype(np.float32)
    second = random.normal(4, 1, (200, 6)).astype(np.float32)
    centres = two_means(np.concatenate([first, second]), random)
    centres = centres[np.argsort(centres[:, 0])]
    np.testing.assert_allclose(centres, [first.mean(0), second.mean(0)], atol=0.05)


def test_two_means_are_the_best_split_of_a_line():
    points = np.random.default_rng(1).exponential(1, (60, 1)).astype(np.float32)
    ordered = np.sort(points, 0)
    splits = [np.stack([ordered[:k].mean(0), ordered[k:].mean(0)]) for k in range(1, 60)]
    best = min(scatter(points, centres) for centres in splits)
    found = scatter(points, two_means(points, np.random.default_rng(0)))
    assert found == pytest.approx(best, rel=1e-4)


def test_a_few_points_far_away_are_no_cluster():
    random = np.random.default_rng(0)
    centres = [(0, 0)] * 500 + [(6, 0)] * 300 + [(3, 60)] * 2
    points = (random.normal(0, 1, (802, 2)) + centres).astype(np.float32)
    for seed in range(20):
        found = two_means(points, np.random.default_rng(seed))
        assert np.abs(found[:, 0] - [0, 6]).max() < 1 or np.abs(found[:, 0] - [6, 0]).max() < 1


def test_points_that_are_all_one_are_one_cluster_twice():
    centres = two_means(np.ones((50, 3), np.float32), np.random.default_rng(0))
    np.testing.assert_array_equal(centres, np.ones((2, 3)))


@pytest.mark.parametrize("shape", [(90, 81), (31, 30, 36)])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_smaller_cluster_is_salient(shape, sign):
    truth = ball(shape, tuple(n * 0.4 for n in shape), min(shape) / 5)
    image = (sign * 4 * truth + 0.5 * noise(shape)).astype(np.float32)
    saliency = picket(image)
    assert set(np.unique(saliency)) == {0, 1}
    assert (saliency == truth).mean() > 0.97  # a blur of 2 rounds the rim off
    assert saliency.mean() < 0.5


@pytest.mark.parametrize("shape", [(20, 23), (17, 16, 18)])
def test_voxels_are_clustered_by_the_amplitudes_around_them(shape):
    image = noise(shape) + 4 * ball(shape, (8,) * len(shape), 4)
    blurred = ndimage.gaussian_filter(image, 2.0)
    blurred = (blurred - blurred.min()) / (blurred.max() - blurred.min())
    padded = np.pad(blurred, 2, mode="symmetric")
    spectra = np.array(
        [
            np.abs(np.fft.fftn(padded[tuple(slice(k, k + 5) for k in at)])).ravel()
            for at in np.ndindex(shape)
        ]
    )
    order = spectra[:, 0].argsort()
    centres, labels = kmeans2(spectra, spectra[order[[0, -1]]], 100, minit="matrix")
    smaller = labels == np.argmin(np.bincount(labels))
    assert (picket(image) == smaller.reshape(shape)).mean() > 0.999
    assert scatter(spectra, two_means(spectra.astype(np.float32), np.random.default_rng(0))) <= (
        scatter(spectra, centres) * 1.0001
    )
