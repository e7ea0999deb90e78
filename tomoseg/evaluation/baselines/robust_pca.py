"""Saliency as the sparse part of the features of supervoxels (Zhou et al. 2018).

Knows arrays only.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tomoseg.evaluation.baselines.gabor import directions, responses
from tomoseg.evaluation.baselines.scale import Map, min_max, nothing_in_constants
from tomoseg.saliency.supervoxels import Labels, reference_supervoxels

DENOISE = 2.5
"""Sigma of the smoothing before, voxels, as in AITom's demonstration of the method."""

EDGE = 6
"""Of a supervoxel, voxels: below a complex at 10 A. The demonstration cuts a tomogram into
10,000, this a volume of 96 x 128 x 128 into 7000."""

COMPACTNESS = 0.1
"""Robust standard deviations that weigh as much as an edge of distance; the demonstration's
10 of 255 grey levels, over a smoothed tomogram's range."""

WAVELENGTH = 13.0
"""Of the Gabor filters, voxels: the demonstration's."""

SIGMAS = (7.0, 14.0)
"""Of their envelopes, voxels: the demonstration's and half of it, for the paper has two."""

BINS = 6
"""Of the histogram of density in a supervoxel: the demonstration's."""

TOLERANCE = 1e-7
"""Share of the matrix that the two parts may leave unexplained (Lin et al. 2010)."""

FIRST_PENALTY = 1.25
"""Of the augmented Lagrangian, over the matrix's largest singular value (Lin et al.)."""

GROWTH = 1.1
"""Factor on the penalty from step to step. The 1.5 of Lin et al. stops short of the minimum
on matrices that are much wider than high, as those of supervoxels are."""

STEPS = 1000
"""At most; it takes 150 to 200."""

Matrix = NDArray[np.float64]


@nothing_in_constants
def zhou(intensities: Map) -> Map:
    """Mean of what is not low-rank in each supervoxel's features; bright objects score high.

    Parameters
    ----------
    intensities
        ``(z, y, x)`` or ``(y, x)`` array, in robust standard deviations.

    Returns
    -------
    ndarray
        float32 of the same shape, in [0, 1], one value in each supervoxel.

    Notes
    -----
    B. Zhou et al., Feature decomposition based saliency detection in electron
    cryo-tomograms, IEEE BIBM 2018 (arXiv 1801.10562): supervoxels by SLIC, Gabor filters
    and density as features, robust PCA, saliency from the sparse part. The paper's own code
    is lost; settings are those of the demonstration in its authors' library AITom. Rows of
    the matrix are brought to one root mean square, so that no unit decides; saliency is the
    mean of a column, as there. (Its L1 norm, as in Shen and Wu, CVPR 2012, is blind to the
    sign, and scores lower: half the maximum F at SNR 1.5.) Four orientations in each plane of
    two axes, as there, are 9 filters in 3-D.
    """
    smooth = ndimage.gaussian_filter(intensities, DENOISE)
    segments = reference_supervoxels(smooth, edge=EDGE, compactness=COMPACTNESS, sigma=0.0)
    _, sparse = robust_pca(_features(smooth, segments))
    of_segment = sparse.mean(0)
    return min_max(of_segment[segments])


def robust_pca(matrix: Matrix) -> tuple[Matrix, Matrix]:
    """Split a matrix into a low-rank and a sparse one, by inexact augmented Lagrangians.

    Parameters
    ----------
    matrix
        ``(features, samples)`` array D, not all 0.

    Returns
    -------
    tuple of ndarray
        A and E of the same shape, A + E = D: they minimise the nuclear norm of A plus
        1 / sqrt(longer edge) times the L1 norm of E.

    Notes
    -----
    The model of Candes, Li, Ma and Wright, Journal of the ACM 58, 2011; the algorithm of
    Lin, Chen and Ma, arXiv 1009.5055, 2010 (inexact ALM).
    """
    weight = max(matrix.shape) ** -0.5
    spectral, total = float(np.linalg.norm(matrix, 2)), np.linalg.norm(matrix)
    dual = matrix / max(spectral, np.abs(matrix).max() / weight)
    penalty = FIRST_PENALTY / spectral
    low_rank, sparse = np.zeros_like(matrix), np.zeros_like(matrix)
    for _ in range(STEPS):
        left, values, right = np.linalg.svd(matrix - sparse + dual / penalty, full_matrices=False)
        low_rank = (left * _shrink(values, 1 / penalty)) @ right
        sparse = _shrink(matrix - low_rank + dual / penalty, weight / penalty)
        rest = matrix - low_rank - sparse
        if np.linalg.norm(rest) < TOLERANCE * total:
            break
        dual = dual + penalty * rest
        penalty *= GROWTH
    return low_rank, sparse


def _shrink(values: Matrix, by: float) -> Matrix:
    """Move values towards 0 by at most `by`."""
    shrunk: Matrix = np.sign(values) * np.maximum(np.abs(values) - by, 0)
    return shrunk


def _features(smooth: Map, segments: Labels) -> Matrix:
    """Return ``(features, supervoxels)``: mean even Gabor responses, shares of density bins."""
    sizes = np.bincount(segments.ravel())

    def mean(values: NDArray[np.generic]) -> Matrix:
        return np.bincount(segments.ravel(), values.ravel()) / sizes

    along = [v for v in directions(smooth.ndim) if np.count_nonzero(v) <= 2]
    rows = [
        mean(response.real)
        for sigma in SIGMAS
        for response in responses(smooth, along, wavelength=WAVELENGTH, sigma=sigma)
    ]
    bins = np.minimum((min_max(smooth) * BINS).astype(np.intp), BINS - 1)
    rows += [mean(bins == k) for k in range(BINS)]
    matrix = np.stack(rows)
    scale = np.sqrt((matrix**2).mean(1, keepdims=True))
    return matrix / np.where(scale > 0, scale, 1)
