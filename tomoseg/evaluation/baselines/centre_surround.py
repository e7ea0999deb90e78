"""Saliency as difference between centre and surround over many scales (Itti et al. 1998).

Knows arrays only.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from tomoseg.evaluation.baselines.gabor import directions, responses
from tomoseg.evaluation.baselines.scale import Map, min_max, nothing_in_constants

SCALES: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {
    2: ((2, 3, 4), (3, 4)),
    3: ((0, 1, 2), (2, 3)),
}
"""Levels of the centre, and by how many halvings the surround is coarser, by dimension.

Those of 2-D are the paper's, for images of 640 x 480. A window of 64^3 has six halvings and
complexes of 10 to 20 voxels, so that in 3-D both start finer.
"""

PYRAMID_SIGMA = 1.0
"""Blur before every second voxel is taken, voxels of the finer level."""

WAVELENGTH = 7.0
SIGMA = WAVELENGTH / 3
"""Of the Gabor filters, voxels of each level: a bar of 3 to 4 voxels between its two sides.
The paper gives no figure."""

ROUNDING = 1e-6
"""Range of a map, of intensities stretched to [0, 1], below which it is rounding."""

Pairs = list[tuple[int, int]]


@nothing_in_constants
def itti(intensities: Map) -> Map:
    """Mean conspicuity of intensity and of orientation, from centre-surround differences.

    Symmetric in contrast: a dark object on bright ground is as salient as the reverse.

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
    L. Itti, C. Koch and E. Niebur, A model of saliency-based visual attention for rapid
    scene analysis, IEEE PAMI 20, 1998, without colour, which density has not: equations 1, 4,
    5, 7 and 8. Orientation is the magnitude of Gabor filters: 4 in 2-D, 13 in 3-D. Pairs of levels
    that an array is too small for are left out, and where none is left, centres move to
    finer levels. Maps are summed at the finest level of a centre, not at the paper's
    level 4: objects are to be outlined here, not only looked at.
    """
    pairs = _pairs(intensities.shape)
    if not pairs:
        return np.zeros(intensities.shape, np.float32)
    pyramid = _pyramid(min_max(intensities), 1 + max(surround for _, surround in pairs))
    along = directions(intensities.ndim)
    oriented = zip(
        *(responses(level, along, wavelength=WAVELENGTH, sigma=SIGMA) for level in pyramid),
        strict=True,
    )
    intensity = _conspicuity(pyramid, pairs)
    orientation = np.zeros_like(intensity)
    for levels in oriented:
        orientation += promote(_conspicuity([np.abs(level) for level in levels], pairs))
    saliency = (promote(intensity) + promote(orientation)) * np.float32(0.5)
    return min_max(_expand(saliency, intensities.shape, 2 ** pairs[0][0]))


def promote(values: Map) -> Map:
    """Weigh a map by how far its highest peak is above the others (the paper's operator N).

    Parameters
    ----------
    values
        Array of any shape, not negative.

    Returns
    -------
    ndarray
        float32 of the same shape: `values` stretched to [0, 1], times (1 - m)^2 of the mean
        m of all local maxima but one that is the highest. 0 for two equal peaks.
    """
    if values.max() - values.min() < ROUNDING:
        return np.zeros_like(values)
    stretched = min_max(values)
    is_peak = (stretched == ndimage.maximum_filter(stretched, 3)) & (stretched > 0)
    peaks = stretched[is_peak]
    others = (float(peaks.sum(dtype=np.float64)) - 1) / max(1, peaks.size - 1)
    return stretched * np.float32((1 - others) ** 2)


def _pairs(shape: tuple[int, ...]) -> Pairs:
    """Return the levels of centre and surround that fit into a shape, finest centre first."""
    halvings = int(np.log2(min(shape)))
    centres, deltas = SCALES[len(shape)]
    for finer in range(1 + max(centres)):
        pairs = [(c - finer, c - finer + d) for c in centres if c >= finer for d in deltas]
        fitting = [(centre, surround) for centre, surround in pairs if surround <= halvings]
        if fitting:
            return fitting
    return []


def _pyramid(values: Map, levels: int) -> list[Map]:
    """Return an array and its blurred halves; the edge of each is half the last, rounded up."""
    pyramid = [values]
    for _ in range(levels - 1):
        smooth = ndimage.gaussian_filter(pyramid[-1], PYRAMID_SIGMA)
        pyramid.append(smooth[(slice(None, None, 2),) * values.ndim])
    return pyramid


def _conspicuity(pyramid: Sequence[Map], pairs: Pairs) -> Map:
    """Return the sum of the promoted differences of all pairs, at the finest centre."""
    finest = pairs[0][0]
    total = np.zeros_like(pyramid[finest])
    for centre, surround in pairs:
        around = _expand(pyramid[surround], pyramid[centre].shape, 2 ** (surround - centre))
        difference = promote(np.abs(pyramid[centre] - around))
        total += _expand(difference, total.shape, 2 ** (centre - finest))
    return total


def _expand(values: Map, shape: tuple[int, ...], factor: int) -> Map:
    """Interpolate a level of a pyramid linearly to a finer one; voxel k lies at k * factor."""
    if factor == 1:
        return values
    for axis, edge in enumerate(shape):
        last = values.shape[axis] - 1
        places = np.minimum(np.arange(edge) / factor, last)
        low = places.astype(np.intp)
        share = (places - low).astype(np.float32)
        share = share.reshape([-1 if a == axis else 1 for a in range(values.ndim)])
        first, second = values.take(low, axis), values.take(np.minimum(low + 1, last), axis)
        values = first + (second - first) * share
    return values
