"""What every baseline takes and gives: the interface, and the way to a map in [0, 1].

Knows arrays only, and none of the methods.
"""

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]

Baseline = Callable[[Map], Map]
"""From intensities to saliency in [0, 1], both float32 and of one shape, 2-D or 3-D.

Intensities are in robust standard deviations of the tomogram, salient objects bright, axes
z, y, x or y, x, edges of 16 and more. Pure: the same intensities give the same saliency.
"""


def min_max(values: NDArray[np.floating]) -> Map:
    """Stretch values of any shape linearly to [0, 1]; all 0 where they are constant.

    Parameters
    ----------
    values
        Array of any shape, finite, in any unit.

    Returns
    -------
    ndarray
        float32 of the same shape.
    """
    low, high = values.min(), values.max()
    if low == high:
        return np.zeros(values.shape, np.float32)
    return ((values - low) / (high - low)).astype(np.float32)


def nothing_in_constants(method: Baseline) -> Baseline:
    """Make a baseline return zeros for constant input, without being run.

    Nothing stands out there, but stretching the rounding of a filter to [0, 1] would make
    it so.
    """

    @functools.wraps(method)
    def guarded(intensities: Map) -> Map:
        if intensities.min() == intensities.max():
            return np.zeros(intensities.shape, np.float32)
        return method(intensities)

    return guarded
