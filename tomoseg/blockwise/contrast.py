"""Whether objects are darker or lighter than their surroundings, told from a sample.

Objects are the rarer, heavier tail of the intensities once noise is smoothed away. Knows
nothing of files and grids.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tomoseg.blockwise.statistics import Statistics, measure
from tomoseg.config import Contrast, ContrastRequest

SIGMA = 1.5
"""Smoothing in voxels: at 10 A, less than a ribosome's radius, more than the noise."""

TAIL = 4.0
"""Standard deviations to which smoothed intensities are held: gold must not decide."""

WEAK = 0.1
"""Skewness below which it says nothing; real tomograms have 0.6 and more."""

ERRORS = 3.0
"""Standard errors of noise's skewness that a decision has to exceed."""


@dataclass(frozen=True)
class Decision:
    """Which contrast a volume has, and who says so.

    Parameters
    ----------
    contrast
        ``dark`` or ``light``: the side of the background that objects lie on.
    automatic
        Whether it was told from the intensities.
    skewness
        Of the smoothed intensities; None where it was not asked for.
    weak
        Whether the skewness says nothing, so that ``dark`` is the field's custom.
    """

    contrast: Contrast
    automatic: bool = False
    skewness: float | None = None
    weak: bool = False

    def __str__(self) -> str:
        if not self.automatic:
            return f"{self.contrast} (as asked)"
        return f"{self.contrast} (automatic, skewness {self.skewness:+.2f})"


def decide(
    request: ContrastRequest, bricks: Sequence[NDArray[Any]], statistics: Statistics
) -> Decision:
    """Return the contrast that was asked for, or that a sample shows.

    Parameters
    ----------
    request
        ``auto`` looks at the sample.
    bricks
        Sampled boxes of the network's grid.
    statistics
        Of the sample.
    """
    if request != "auto":
        return Decision(request)
    smooth = [_smooth(brick, statistics) for brick in bricks]
    robust = measure(smooth, "the smoothed sample")
    values = np.concatenate([robust.normalise(brick, "light").ravel() for brick in smooth])
    skewness = _skewness(np.clip(values, -TAIL, TAIL).astype(np.float64))
    weak = abs(skewness) < max(WEAK, ERRORS * _error(values.size))
    light = skewness > 0 and not weak
    return Decision("light" if light else "dark", True, round(skewness, 4), weak)


def _smooth(brick: NDArray[Any], statistics: Statistics) -> NDArray[np.float32]:
    values = statistics.normalise(brick, "light")
    values[brick == statistics.padding] = 0  # the background's value: no object's
    return np.asarray(ndimage.gaussian_filter(values, SIGMA))


def _skewness(values: NDArray[np.float64]) -> float:
    centred = values - values.mean()
    variance = float(np.mean(centred**2))
    return float(np.mean(centred**3)) / variance**1.5 if variance > 0 else 0.0


def _error(voxels: int) -> float:
    """Return the standard error of the skewness of white noise, smoothed."""
    independent = voxels / (4 * math.pi * SIGMA**2) ** 1.5  # voxels that one smoothing joins
    return math.sqrt(6 / max(1.0, independent))
