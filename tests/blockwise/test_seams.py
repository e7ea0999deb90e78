import numpy as np
import pytest

from tomoseg.blockwise.seams import SeamSums, seam_sums, with_low_neighbours
from tomoseg.geometry import Lattice


def measure(saliency, shard):
    total = SeamSums()
    for owned in Lattice(saliency.shape, shard):
        box = with_low_neighbours(owned)
        total += seam_sums(saliency[box.slices], box, owned)
    return total


def reference(saliency):
    """Return the differences of neighbours across planes of 64 and other planes of 16, plainly."""
    across, inside = [], []
    for axis in range(3):
        difference = np.abs(np.diff(saliency.astype(int), axis=axis))
        for k, plane in enumerate(np.moveaxis(difference, axis, 0)):
            if (k + 1) % 16 == 0:
                (across if (k + 1) % 64 == 0 else inside).append(plane.ravel())
    return np.concatenate(across), np.concatenate(inside)


@pytest.mark.parametrize("shape", [(70, 130, 65), (64, 200, 1), (128, 128, 70)])
@pytest.mark.parametrize("shard", [64, 128])
def test_equals_the_plain_sum_for_any_shards(shape, shard):
    saliency = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    across, inside = reference(saliency)
    assert measure(saliency, shard) == SeamSums(
        across.sum(), across.size, inside.sum(), inside.size
    )


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
    assert measure(np.kron(cells, np.ones((16,) * 3, np.uint8)), 64).measure == pytest.approx(
        1, abs=0.15
    )


def test_says_nothing_of_one_block_or_a_constant():
    assert measure(np.ones((64, 64, 64), np.uint8), 64).measure is None
    assert measure(np.ones((65, 64, 64), np.uint8), 64).measure is None
