import numpy as np
import pytest
from baselines_toys import noise, peak, texture_with_a_patch

from tomoseg.evaluation.baselines.spectral import spectral_residual


@pytest.mark.parametrize(
    ("shape", "period", "edge"),
    [((64, 64), 8, 12), ((61, 50), 8, 12), ((256, 192), 32, 48), ((32, 40, 32), 8, 10)],
)
def test_the_odd_patch_of_a_periodic_texture_is_the_most_salient(shape, period, edge):
    corner = tuple(n // 4 for n in shape)
    image, box = texture_with_a_patch(shape, period=period, edge=edge, corner=corner)
    saliency = spectral_residual(image)
    at = peak(saliency)
    assert all(b.start - 3 <= k < b.stop + 3 for k, b in zip(at, box, strict=True))
    assert saliency[box].mean() > 2 * saliency.mean()


@pytest.mark.parametrize("shape", [(48, 48), (24, 24, 24)])
def test_saliency_moves_with_the_image(shape):
    # the transform is periodic: only the phase, and the faces of the last smoothing, change
    image = noise(shape)
    image[(slice(8, 13),) * len(shape)] += 4
    step = (5,) * len(shape)
    axes = tuple(range(len(shape)))
    first = spectral_residual(image)
    second = np.roll(spectral_residual(np.roll(image, step, axes)), [-k for k in step], axes)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.9
    assert peak(second) == peak(first)


def test_the_unit_of_intensity_does_not_matter():
    image = noise((40, 44))
    np.testing.assert_allclose(
        spectral_residual(image), spectral_residual(image * np.float32(7)), atol=1e-3
    )
