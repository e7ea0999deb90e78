import numpy as np
import pytest
from scipy import ndimage

from tomoseg.intensity import smooth


@pytest.mark.parametrize("shape", [(9, 12, 10), (1, 7, 2), (5, 6)])
def test_smoothing_weighs_neighbours_and_repeats_the_ends(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    before, expected = values.copy(), values
    for axis in range(len(shape)):
        expected = ndimage.correlate1d(expected, [0.25, 0.5, 0.25], axis, mode="nearest")
    found = smooth(values)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(values, before)


def test_smoothing_leaves_padding_a_single_value() -> None:
    found = smooth(np.full((8, 9, 10), 0.1234567, np.float32))
    assert len(np.unique(found)) == 1
