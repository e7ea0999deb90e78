"""Robust intensities: the one scale on which tomograms of all sources are compared.

Arrays in, numbers out; knows no files.
"""

import numpy as np
from numpy.typing import NDArray

CLIP = 10.0
"""Normalised intensities are held to +-CLIP: a gold bead must not outshine a protein."""

FILL = 1 / 3
"""A single value that takes more than this share of a sample is padding, not ice."""

_MAD_TO_SIGMA = 1.4826


def padding_value(sample: NDArray[np.floating]) -> float | None:
    """Return the value that takes too large a share of finite values to be ice, or None."""
    values, counts = np.unique(sample, return_counts=True)
    if values.size > 1 and counts.max() > FILL * sample.size:
        return float(values[np.argmax(counts)])
    return None


def robust_location_scale(sample: NDArray[np.floating]) -> tuple[float, float]:
    """Return median and robust standard deviation of finite values.

    The latter is 1.4826 times the median absolute deviation; where that is 0 the standard
    deviation, and 1 in a constant sample.
    """
    location = float(np.median(sample))
    scale = _MAD_TO_SIGMA * float(np.median(np.abs(sample - location)))
    return location, scale or float(sample.std()) or 1.0


def smooth(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weigh each value and its neighbours 1, 2, 1 along every axis: a Gaussian of 0.7 voxels.

    What lies beyond an end is like the last value. Reconstructions differ most in the noise at
    the highest frequencies, which hold little of an object: the scale of smoothed intensities
    says more of the objects' contrast.

    Parameters
    ----------
    values
        Of any shape.

    Returns
    -------
    ndarray
        float32 of the same shape.
    """
    for axis in range(values.ndim):
        along = np.moveaxis(values, axis, 0)
        result = np.float32(0.5) * values
        into = np.moveaxis(result, axis, 0)
        quarter = np.float32(0.25) * along
        into[1:] += quarter[:-1]
        into[:-1] += quarter[1:]
        into[0] += quarter[0]
        into[-1] += quarter[-1]
        values = result
    return values


def normalise(values: NDArray[np.generic], location: float, scale: float) -> NDArray[np.float32]:
    """Return ``(values - location) / scale`` as float32 within +-`CLIP`; 0 where not finite.

    A negative `scale` turns the contrast over.
    """
    result: NDArray[np.float32] = np.subtract(values, np.float32(location), dtype=np.float32)
    result *= np.float32(1 / scale)
    np.clip(result, -CLIP, CLIP, out=result)
    if np.isnan(result.sum()):
        np.nan_to_num(result, copy=False)
    return result
