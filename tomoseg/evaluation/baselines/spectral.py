"""Saliency as what is unexpected in the spectrum (Hou and Zhang 2007).

Knows arrays only.
"""

import numpy as np
from scipy import fft, ndimage
from skimage.transform import resize

from tomoseg.evaluation.baselines.scale import Map, min_max, nothing_in_constants

EDGE = 64
"""Longest edge that is looked at, voxels: the paper's width of an image."""

MEAN = 3
"""Edge of the window of the mean spectrum, as in the paper."""

SIGMA = 2.5
"""Smoothing of the squared result, voxels of the small array, as in the authors' code."""


@nothing_in_constants
def spectral_residual(intensities: Map) -> Map:
    """Energy of the array whose log spectrum is what differs from its local mean (SR).

    Symmetric in contrast: the result is squared.

    Parameters
    ----------
    intensities
        ``(z, y, x)`` or ``(y, x)`` array, in robust standard deviations.

    Returns
    -------
    ndarray
        float32 of the same shape, in [0, 1].

    Notes
    -----
    X. Hou and L. Zhang, Saliency detection: a spectral residual approach, CVPR 2007:
    R = L - h * L of the log amplitude L and its mean over 3^2 (3^3) frequencies, then
    \\|inverse FFT of exp(R + iP)\\|^2 of the phase P, smoothed. The method has a scale: seen
    closer, outlines become salient and not objects. So arrays with an edge above 64 are
    brought down until the longest is 64, as the paper's images are, and the map is brought
    back; smaller ones are taken as they are. The mean of the spectrum goes over its ends,
    where frequencies continue.
    """
    small = resize(intensities, _small(intensities.shape), order=1, anti_aliasing=True)
    spectrum = fft.fftn(small)
    amplitude = np.abs(spectrum)
    # frequencies that are absent have the logarithm of rounding, not minus infinity
    floor = np.finfo(np.float32).eps * amplitude.max()
    log_amplitude = np.log(np.maximum(amplitude, floor))
    residual = log_amplitude - ndimage.uniform_filter(log_amplitude, MEAN, mode="wrap")
    unexpected = fft.ifftn(np.exp(residual + 1j * np.angle(spectrum)))
    energy = ndimage.gaussian_filter(np.abs(unexpected) ** 2, SIGMA)
    return min_max(resize(energy, intensities.shape, order=1))


def _small(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape whose longest edge is at most 64, in the same proportions."""
    factor = min(1.0, EDGE / max(shape))
    return tuple(max(1, round(n * factor)) for n in shape)
