"""Saliency without learning: what a network has to beat.

Each takes intensities as the network sees them (salient objects bright, in robust standard
deviations), of any dimension, and returns saliency in [0, 1].
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

Baseline = Callable[[np.ndarray], np.ndarray]

FINE, COARSE = 1.5, 8.0
"""Sigmas of the difference of Gaussians in voxels: a complex at 10 A lies between."""


def difference_of_gaussians(intensities: np.ndarray) -> np.ndarray:
    """Fine minus coarse blur, negative part cut, over its 99.9th percentile."""
    fine, coarse = (ndimage.gaussian_filter(intensities, sigma) for sigma in (FINE, COARSE))
    difference = (fine - coarse).clip(0)
    top = float(np.percentile(difference, 99.9))
    return (difference / (top or 1.0)).clip(0, 1).astype(np.float32)


def blur_and_otsu(intensities: np.ndarray) -> np.ndarray:
    """Blur (sigma 2), then 1 above Otsu's threshold and 0 below."""
    blurred = ndimage.gaussian_filter(intensities, 2.0)
    return (blurred > threshold_otsu(blurred)).astype(np.float32)


def all_zeros(intensities: np.ndarray) -> np.ndarray:
    """Nothing is salient."""
    return np.zeros(intensities.shape, np.float32)


def all_ones(intensities: np.ndarray) -> np.ndarray:
    """Everything is salient."""
    return np.ones(intensities.shape, np.float32)


BASELINES: dict[str, Baseline] = {
    "difference of Gaussians": difference_of_gaussians,
    "blur + Otsu": blur_and_otsu,
    "all zeros": all_zeros,
    "all ones": all_ones,
}
