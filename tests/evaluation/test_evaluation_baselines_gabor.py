import numpy as np
import pytest
from baselines_toys import noise

from tomoseg.evaluation.baselines.gabor import directions, responses


@pytest.mark.parametrize(("ndim", "count"), [(2, 4), (3, 13)])
def test_directions_are_one_of_each_opposite_pair(ndim, count):
    found = directions(ndim)
    assert len(found) == count
    np.testing.assert_allclose([v @ v for v in found], 1)
    assert max(abs(v @ w) for k, v in enumerate(found) for w in found[:k]) < 0.99


@pytest.mark.parametrize("shape", [(64, 71), (40, 33, 36)])
def test_a_wave_answers_to_its_own_direction_most(shape):
    along, wavelength = directions(len(shape)), 6.0
    grid = np.stack(np.indices(shape), -1)
    for k, direction in enumerate(along):
        wave = np.cos(2 * np.pi * (grid @ direction) / wavelength).astype(np.float32)
        found = responses(wave, along, wavelength=wavelength, sigma=3.0)
        middle = tuple(n // 2 for n in shape)
        energies = [abs(response[middle]) for response in found]
        assert int(np.argmax(energies)) == k
        assert energies[k] == pytest.approx(0.5, rel=0.05)  # the other half is its mirror image


@pytest.mark.parametrize("shape", [(41, 38), (27, 24, 25)])
def test_responses_are_the_convolution_with_a_gabor_kernel(shape):
    image, wavelength, sigma, reach = noise(shape), 8.0, 2.2, 11
    direction = directions(len(shape))[1]
    offsets = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * len(shape), indexing="ij"))
    envelope = np.exp(-(offsets**2).sum(0) / (2 * sigma**2))
    wave = np.exp(2j * np.pi * np.tensordot(direction, offsets, 1) / wavelength)
    kernel = envelope * (wave - (envelope * wave).sum() / envelope.sum()) / envelope.sum()
    middle = tuple(n // 2 for n in shape)
    window = image[tuple(slice(m - reach, m + reach + 1) for m in middle)]
    expected = (window * kernel[(slice(None, None, -1),) * len(shape)]).sum()
    (found,) = responses(image, [direction], wavelength=wavelength, sigma=sigma)
    assert found.shape == shape
    assert found[middle] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("shape", [(20, 17), (1, 5, 9)])
def test_a_constant_answers_to_none(shape):
    image = np.full(shape, 5, np.float32)
    for response in responses(image, directions(len(shape)), wavelength=7.0, sigma=2.3):
        assert np.abs(response).max() < 1e-5
