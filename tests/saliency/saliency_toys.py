"""Small networks and volumes of bright spheres."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tomoseg.saliency.architecture import Architecture

SMALL = Architecture(base_channels=4)
FLAT = Architecture(dim=2, base_channels=4, residual=False)


def spheres(
    edge: int, *, seed: int, count: int = 7, amplitude: float = 2.0, dim: int = 3
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A noisy volume in robust standard deviations, and the truth."""
    generator = np.random.default_rng(seed)
    grid = np.indices((edge,) * dim)
    truth = np.zeros((edge,) * dim, bool)
    for _ in range(count):
        centre = generator.uniform(0, edge, (dim, *[1] * dim))
        truth |= ((grid - centre) ** 2).sum(axis=0) < generator.uniform(3, 6) ** 2
    noisy = amplitude * truth + generator.standard_normal(truth.shape)
    smooth = ndimage.gaussian_filter(noisy, 0.7)
    middle = np.median(smooth)
    spread = 1.4826 * np.median(np.abs(smooth - middle))
    return ((smooth - middle) / spread).astype(np.float32), truth


def dice(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
