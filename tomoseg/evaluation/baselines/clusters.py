"""Saliency as the smaller of two clusters of local spectra (PickET, 2025).

Knows arrays only.
"""

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import fft, ndimage

from tomoseg.evaluation.baselines.scale import Map, min_max, nothing_in_constants

BLUR = 2.0
"""Sigma of the smoothing before, voxels, as in the authors' code."""

EDGE = 5
"""Edge of the neighbourhood of a voxel, voxels, as recommended by the authors."""

SAMPLES = 50_000
"""Neighbourhoods that the two means are fitted to: they are means, and settle early."""

STARTS = 10
"""Of k-means, of which the tightest counts: from one in ten it ends at a few gold beads."""

ITERATIONS = 300
"""At most, of k-means, which stops where no neighbourhood changes sides."""

CHUNK = 2**16
"""Neighbourhoods whose spectra are in memory at once: 125 numbers each in 3-D."""

SEED = 0

Features = NDArray[np.float32]
Centres = NDArray[np.float64]


@nothing_in_constants
def picket(intensities: Map) -> Map:
    """Voxels whose neighbourhood's spectrum is in the smaller of two clusters.

    Symmetric in contrast: the smaller cluster may be the darker one.

    Parameters
    ----------
    intensities
        ``(z, y, x)`` or ``(y, x)`` array, in robust standard deviations.

    Returns
    -------
    ndarray
        float32 of the same shape: 1 in the smaller cluster, 0 in the larger.

    Notes
    -----
    S. Arvindekar, O. Golatkar and S. Viswanath, PickET: an unsupervised method for
    localizing macromolecules in cryo-electron tomograms, bioRxiv 2025, step S1. Of its
    workflows (spectra, Gabor filters or intensities; k-means or a Gaussian mixture; a user
    picks) this is spectra with k-means: blur, min-max, amplitude of the Fourier transform
    of each 5^3 (5^2) neighbourhood, not scaled further, two means. Here faces are mirrored,
    where the authors leave voxels unlabelled, and the means are fitted to a seeded sample.
    """
    values = min_max(ndimage.gaussian_filter(intensities, BLUR))
    padded = np.pad(values, EDGE // 2, mode="symmetric")
    windows = sliding_window_view(padded, (EDGE,) * values.ndim)
    random = np.random.default_rng(SEED)
    chosen = random.choice(values.size, min(SAMPLES, values.size), replace=False)
    sample = windows[np.unravel_index(chosen, values.shape)]
    centres = two_means(_spectra(sample, values.ndim), random)
    parts = [_in_second(_spectra(slab, values.ndim), centres) for slab in _slabs(windows)]
    second = np.concatenate(parts).reshape(values.shape)
    salient = second if second.mean() <= 0.5 else ~second
    return salient.astype(np.float32)


def two_means(points: Features, random: np.random.Generator) -> Centres:
    """Return the centres of two clusters by k-means, the tightest of `STARTS`.

    Parameters
    ----------
    points
        ``(points, features)`` array.
    random
        Source of the first centres.

    Returns
    -------
    ndarray
        ``(2, features)``; twice the same where all points are one.
    """
    found = [_settle(points, _spread_pair(points, random)) for _ in range(STARTS)]
    return min(found, key=lambda centres: _scatter(points, centres))


def _spread_pair(points: Features, random: np.random.Generator) -> Centres:
    """Return two points to start from, as k-means++ does (Arthur and Vassilvitskii, 2007).

    Any one, and another with a probability that grows as its squared distance from the first.
    """
    first = points[random.integers(len(points))]
    distances = _squared_distances(points, first)
    if not distances.any():
        return np.stack([first, first]).astype(np.float64)
    second = points[random.choice(len(points), p=distances / distances.sum())]
    return np.stack([first, second]).astype(np.float64)


def _settle(points: Features, centres: Centres) -> Centres:
    """Move two centres to the means of the points nearest to them, until none changes sides."""
    sides = _in_second(points, centres)
    for _ in range(ITERATIONS):
        halves = (points[~sides], points[sides])
        if not (len(halves[0]) and len(halves[1])):  # all points are one, but for rounding
            break
        centres = np.stack([half.mean(0, dtype=np.float64) for half in halves])
        before, sides = sides, _in_second(points, centres)
        if np.array_equal(before, sides):
            break
    return centres


def _scatter(points: Features, centres: Centres) -> float:
    """Return the sum of squared distances from the nearer centre."""
    both = [_squared_distances(points, centre.astype(np.float32)) for centre in centres]
    return float(np.minimum(*both).sum())


def _squared_distances(points: Features, centre: Features) -> NDArray[np.float64]:
    return np.square(points - centre).sum(1, dtype=np.float64)


def _in_second(points: Features, centres: Centres) -> NDArray[np.bool_]:
    """Return which points are nearer to the second centre, from a plane between the two."""
    normal = centres[1] - centres[0]
    middle = normal @ (centres[0] + centres[1]) / 2
    nearer: NDArray[np.bool_] = points @ normal.astype(np.float32) > middle
    return nearer


def _spectra(windows: Map, ndim: int) -> Features:
    """Return the Fourier amplitudes of ``(..., 5, 5[, 5])`` windows as ``(windows, 5**d)``."""
    amplitudes = np.abs(fft.fftn(windows, axes=tuple(range(-ndim, 0))))
    return amplitudes.reshape(-1, EDGE**ndim)


def _slabs(windows: Map) -> Iterator[Map]:
    """Yield the windows in slabs across the first axis, of about `CHUNK` windows."""
    ndim = windows.ndim // 2
    thickness = max(1, CHUNK // int(np.prod(windows.shape[1:ndim])))
    for start in range(0, windows.shape[0], thickness):
        yield windows[start : start + thickness]
