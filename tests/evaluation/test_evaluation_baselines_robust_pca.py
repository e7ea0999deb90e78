import numpy as np
import pytest
from baselines_toys import ball, noise

from tomoseg.evaluation.baselines.robust_pca import robust_pca, zhou


@pytest.mark.parametrize("shape", [(60, 60), (40, 300), (120, 50)])
def test_a_planted_low_rank_and_sparse_matrix_is_taken_apart(shape):
    random = np.random.default_rng(0)
    low_rank = random.normal(size=(shape[0], 2)) @ random.normal(size=(2, shape[1]))
    sparse = np.where(random.random(shape) < 0.05, random.uniform(-9, 9, shape), 0)
    found = robust_pca(low_rank + sparse)
    scale = np.linalg.norm(low_rank)
    assert np.linalg.norm(found[0] - low_rank) < 1e-4 * scale
    assert np.linalg.norm(found[1] - sparse) < 1e-4 * scale
    assert np.linalg.matrix_rank(found[0], tol=1e-4 * scale) == 2


def test_the_parts_add_up_and_turn_with_the_sign():
    matrix = np.random.default_rng(0).normal(size=(24, 500))
    low_rank, sparse = robust_pca(matrix)
    np.testing.assert_allclose(low_rank + sparse, matrix, atol=1e-5)
    np.testing.assert_allclose(robust_pca(-matrix)[1], -sparse, atol=1e-8)


@pytest.mark.parametrize("shape", [(120, 131), (44, 48, 40)])
def test_the_supervoxels_of_the_one_object_are_the_most_salient(shape):
    centre = tuple(n * 0.4 for n in shape)
    inside, near = ball(shape, centre, 5), ball(shape, centre, 14)
    saliency = zhou((5 * inside + noise(shape)).astype(np.float32))
    assert saliency[inside].mean() > 2 * saliency[~near].mean()
    assert near[np.unravel_index(saliency.argmax(), shape)]


def test_a_supervoxel_has_one_saliency():
    saliency = zhou(noise((60, 60)))
    assert len(np.unique(saliency)) <= 2 * 60 * 60 / 6**2
