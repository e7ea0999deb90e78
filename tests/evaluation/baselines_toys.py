"""Noise with bright balls in it, and how well a map tells them apart."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

SHAPES = [(64, 80), (33, 47), (24, 32, 28), (17, 23, 19)]
"""Images and volumes, even and odd."""

SMALLEST = [(16, 16), (16, 16, 16)]


def ball(shape: tuple[int, ...], centre: tuple[float, ...], radius: float) -> NDArray[np.bool_]:
    """Voxels within `radius` of `centre`."""
    grid = np.ogrid[tuple(slice(n) for n in shape)]
    return sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) < radius**2


def noise(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def balls_in_noise(
    shape: tuple[int, ...], *, radius: float = 5.0, height: float = 3.0
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Two balls, `height` standard deviations above noise, and the truth."""
    near, far = tuple(n * 0.3 for n in shape), tuple(n * 0.7 for n in shape)
    truth = ball(shape, near, radius) | ball(shape, far, radius)
    return noise(shape) + np.float32(height) * truth, truth


def texture_with_a_patch(
    shape: tuple[int, ...], *, period: float, edge: int, corner: tuple[int, ...]
) -> tuple[NDArray[np.float32], tuple[slice, ...]]:
    """Waves along the last axis, and in a box of `edge` from `corner` along the first.

    Patch and rest have one mean and one contrast: they differ in direction alone.
    """
    first, last = np.indices(shape)[0], np.indices(shape)[-1]
    image = np.sin(2 * np.pi * last / period)
    box = tuple(slice(c, c + edge) for c in corner)
    image[box] = np.sin(2 * np.pi * first / period)[box]
    return (image + 0.05 * noise(shape)).astype(np.float32), box


def peak(saliency: NDArray[np.float32]) -> tuple[int, ...]:
    return tuple(int(k) for k in np.unravel_index(saliency.argmax(), saliency.shape))


def chance_of_order(saliency: NDArray[np.float32], truth: NDArray[np.bool_]) -> float:
    """Chance that a voxel inside is more salient than one outside (area under the ROC curve).

    A half for a map that knows nothing; ties count half.
    """
    ranks = rankdata(saliency)[truth.ravel()]
    inside, outside = truth.sum(), (~truth).sum()
    return float((ranks.sum() - inside * (inside + 1) / 2) / inside / outside)
