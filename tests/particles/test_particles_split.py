"""The field whose maxima are particles."""

import numpy as np
import pytest
from scipy import ndimage

from tomoseg.geometry import Box
from tomoseg.particles.split import (
    Peaks,
    _squared_distance,
    find_peaks,
    halo_voxels,
    nearest_peak,
)


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


def test_voxels_go_to_the_nearest_peak_of_their_own_object():
    """Under ``distance`` by the power distance, so that a large ball keeps its own voxels."""
    parent = np.zeros((1, 1, 30), np.int32)
    parent[..., :20], parent[..., 22:] = 1, 2
    places = np.array([[7, 8, 14], [7, 8, 24], [7, 8, 35]])
    peaks = Peaks(places, np.array([36.0, 4.0, 4.0]))
    found = {
        split: nearest_peak(parent, (7, 8, 9), peaks, np.array([1, 1, 2]), split, 8.0)[0, 0]
        for split in ("saliency", "distance")
    }
    near = [1] * 11 + [2] * 9 + [0] * 2 + [3] * 8  # of two equally near the first
    np.testing.assert_array_equal(found["saliency"], near)
    # d^2 - 36 against d^2 - 4: the border moves by 32 / 20 towards the small one
    np.testing.assert_array_equal(found["distance"], [1] * 12 + [2] * 8 + [0] * 2 + [3] * 8)
    far = nearest_peak(parent, (7, 8, 9), peaks, np.array([1, 1, 2]), "saliency", 3.0)[0, 0]
    assert list(np.flatnonzero(far == 1)) == list(range(2, 9))
