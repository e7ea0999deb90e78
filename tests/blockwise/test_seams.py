import numpy as np
import pytest
from scipy import ndimage

from tomoseg.blockwise.seams import SeamSums, seam_sums, spread, with_low_neighbours
from tomoseg.geometry import Lattice


def measure(saliency, shard, core=64):
    total = SeamSums()
    for owned in Lattice(saliency.shape, shard):
        box = with_low_neighbours(owned)
        total += seam_sums(saliency[box.slices], box, owned, saliency.shape, core)
    return total


def reference(saliency, core):
    """Sum differences across planes of the core, beside them, across other planes of 16, beside."""
    sums, pairs = [0] * 4, [0] * 4
    for axis in range(3):
        difference = np.abs(np.diff(saliency.astype(int), axis=axis))
        for k, plane in enumerate(np.moveaxis(difference, axis, 0), 1):
            for multiple, beside in ((k, 0), (k - 1, 1), (k + 1, 1)):
                if 0 < multiple < saliency.shape[axis] and multiple % 16 == 0:
                    kind = beside + (2 if multiple % core else 0)
                    sums[kind] += plane.sum()
                    pairs[kind] += plane.size
    return SeamSums(tuple(sums), tuple(pairs))


@pytest.mark.parametrize("shape", [(70, 130, 65), (64, 200, 1), (128, 128, 70)])
@pytest.mark.parametrize(("shard", "core"), [(64, 64), (128, 64), (128, 128)])
def test_equals_the_plain_sum_for_any_shards(shape, shard, core):
    saliency = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert measure(saliency, shard, core) == reference(saliency, core)


def test_finds_a_seam_and_only_a_seam():
    random = np.random.default_rng(0)
    noise = random.integers(0, 20, (128, 128, 128)).astype(np.uint8)
    assert measure(noise, 64).measure == pytest.approx(1, abs=0.02)
    stepped = noise.copy()
    stepped[64:] += 100
    assert measure(stepped, 64).measure > 5


def test_a_pattern_of_the_network_s_stride_is_no_seam():
    random = np.random.default_rng(0)
    cells = random.integers(0, 200, (8, 8, 8)).astype(np.uint8)
    pattern = np.kron(cells, np.ones((16,) * 3, np.uint8))
    noise = random.integers(0, 20, pattern.shape).astype(np.uint8)
    assert measure(pattern + noise, 64).measure == pytest.approx(1, abs=0.15)


def test_objects_that_happen_to_lie_on_a_block_plane_are_no_seam():
    random = np.random.default_rng(0)
    field = ndimage.gaussian_filter(random.normal(size=(128, 128, 128)), 3)
    crowd = np.exp(-(((np.arange(128) - 64) / 30) ** 2))[:, None, None]
    saliency = (128 + 100 * crowd * field / np.abs(field).max()).astype(np.uint8)
    assert measure(saliency, 64).measure == pytest.approx(1, abs=0.05)


def test_says_nothing_of_one_block_or_a_constant():
    assert measure(np.ones((64, 64, 64), np.uint8), 64).measure is None
    assert measure(np.ones((65, 64, 64), np.uint8), 64).measure is None


@pytest.mark.parametrize(("count", "expected"), [(5, [0, 1, 2]), (3, [0, 1, 2]), (1, [1])])
def test_few_numbers_are_spread_over_all(count, expected):
    assert spread(range(3), count) == expected


def test_many_numbers_are_spread_evenly():
    chosen = spread(range(1000), 16)
    assert len(set(chosen)) == 16
    assert max(np.diff([-31, *chosen, 1030])) <= 63
