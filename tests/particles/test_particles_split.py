"""The field whose maxima are particles."""

import numpy as np
import pytest
from scipy import ndimage

from tomoseg.geometry import Box
from tomoseg.particles.split import _squared_distance, find_peaks, halo_voxels


@pytest.mark.parametrize("diameter", [3.0, 6.5, 40.0])
def test_distances_are_those_of_scipy_up_to_a_diameter(diameter):
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(20, 31, 18)), 2)
    inside = noise > -0.05
    inside[4, 5, 6] = False
    expected = np.rint(ndimage.distance_transform_edt(inside) ** 2)
    limit = np.ceil(diameter) ** 2
    found = _squared_distance(inside, diameter)
    np.testing.assert_array_equal(found, np.minimum(expected, limit))
    assert (_squared_distance(np.ones((4, 5, 3), bool), diameter) == limit).all()
    # narrow arrays, as at a volume's face
    thin = np.array([[[True, True, False]]])
    np.testing.assert_array_equal(_squared_distance(thin, 5.0), [[[4, 1, 0]]])


@pytest.mark.parametrize("split", ["distance", "saliency"])
def test_a_plateau_has_one_peak(split):
    """Two middle planes are equally deep, and saliency is the same everywhere."""
    mask = np.zeros((30, 30, 30), bool)
    mask[10:16, 9:17, 9:17] = True
    saliency = np.full(mask.shape, 255, np.uint8)
    halo = halo_voxels(split, 8.0)
    peaks = find_peaks(mask, saliency, Box((0, 0, 0), mask.shape), split, 8.0)
    assert halo > 1
    top = peaks.places[peaks.heights == peaks.heights.max()]
    assert len(top) == 1
    assert np.abs(top[0] - [12.5, 12.5, 12.5]).max() <= 2
