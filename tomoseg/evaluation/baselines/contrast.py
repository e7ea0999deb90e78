"""Saliency as contrast of intensity alone, and the two maps that look at nothing.

Knows arrays only. Every function is a `Baseline`.
"""

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from tomoseg.evaluation.baselines.scale import Map, min_max, nothing_in_constants

FINE, COARSE = 1.5, 8.0
"""Sigmas of the difference of Gaussians in voxels: a complex at 10 A lies between."""

TOP = 99.9
"""Percentile that counts as fully salient, so that one gold bead does not set the scale."""

BLUR = 2.0
"""Sigma before Otsu's threshold, in voxels: noise is down, a complex at 10 A is not."""

BINS = 256
"""Grey levels of Zhai and Shah."""


def all_zeros(intensities: Map) -> Map:
    """Nothing is salient."""
    return np.zeros(intensities.shape, np.float32)


def all_ones(intensities: Map) -> Map:
    """Everything is salient, also in constant input."""
    return np.ones(intensities.shape, np.float32)


@nothing_in_constants
def difference_of_gaussians(intensities: Map) -> Map:
    """Fine minus coarse blur, negative part cut, over its 99.9th percentile.

    Only what is brighter than its surroundings is salient.

    Parameters
    ----------
    intensities
        Array of any dimension, in robust standard deviations, salient objects bright.

    Returns
    -------
    ndarray
        float32 of the same shape, in [0, 1].
    """
    fine, coarse = (ndimage.gaussian_filter(intensities, sigma) for sigma in (FINE, COARSE))
    difference = (fine - coarse).clip(0)
    top = float(np.percentile(difference, TOP))
    return np.asarray((difference / (top or 1.0)).clip(0, 1), dtype=np.float32)


@nothing_in_constants
def blur_and_otsu(intensities: Map) -> Map:
    """Blur (sigma 2), then 1 above Otsu's threshold and 0 below: bright is salient.

    Parameters
    ----------
    intensities
        Array of any dimension, in robust standard deviations, salient objects bright.

    Returns
    -------
    ndarray
        float32 of the same shape, 0 or 1.

    Notes
    -----
    N. Otsu, A threshold selection method from gray-level histograms, IEEE Transactions on
    Systems, Man, and Cybernetics 9, 1979.
    """
    blurred = ndimage.gaussian_filter(intensities, BLUR)
    return np.asarray(blurred > threshold_otsu(blurred), dtype=np.float32)


@nothing_in_constants
def luminance_contrast(intensities: Map) -> Map:
    """Sum of the differences between a voxel's grey level and that of every other (LC).

    Symmetric in contrast: what is rare is salient, whether bright or dark.

    Parameters
    ----------
    intensities
        Array of any dimension, in robust standard deviations.

    Returns
    -------
    ndarray
        float32 of the same shape, in [0, 1]: min-max of S(v) = sum over levels n of
        hist(n) \\|v - n\\|.

    Notes
    -----
    Y. Zhai and M. Shah, Visual attention detection in video sequences using spatiotemporal
    cues, ACM Multimedia 2006: the spatial model, in its form over the histogram. Levels are
    256 even steps over the range of the intensities, rounded.
    """
    levels = np.rint(min_max(intensities) * (BINS - 1)).astype(np.intp)
    counts = np.bincount(levels.ravel(), minlength=BINS)
    every = np.arange(BINS)
    contrast = np.abs(every[:, None] - every) @ counts
    # stretched over the levels that occur, before a table of 256 becomes a volume
    occurring = contrast[counts > 0].astype(np.float64)
    stretched = np.zeros(BINS, np.float32)
    stretched[counts > 0] = min_max(occurring)
    saliency: Map = stretched[levels]
    return saliency
