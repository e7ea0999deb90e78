"""SLIC supervoxels that neighbouring windows agree on, and the vote within them.

Knows arrays only. Labels are scratch: they unify a response map, and are never stitched.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomoseg.intensity import CLIP

Labels = NDArray[np.int32]


def supervoxels(
    window: NDArray[np.float32], *, edge: int, compactness: float, sigma: float
) -> Labels:
    """Return the supervoxel of each voxel, by SLIC with seeds on a lattice.

    Parameters
    ----------
    window
        ``(z, y, x)`` or ``(y, x)`` array, in robust standard deviations of the whole
        volume, finite.
    edge
        Edge of the lattice of seeds in voxels. Where it divides the window's edges and
        its origin in the volume, the seeds of all windows lie on one lattice (so 1, 2, 4,
        8 or 16 in tomoseg); with other edges, the paper's 3 among them, neighbouring
        windows disagree about their supervoxels.
    compactness
        How many robust standard deviations of intensity weigh as much as one `edge` of
        distance. Large values give cubes.
    sigma
        Gaussian smoothing in voxels before SLIC.

    Returns
    -------
    ndarray
        Of the shape of `window`, int32, labels from 0, one connected piece each.

    Notes
    -----
    skimage rescales an image by its own minimum and maximum, so that a single bright
    voxel would change every label; a compactness divided by the range cancels it.
    """
    from skimage.segmentation import slic  # a tenth of a process' memory, rarely needed

    values = np.clip(window, -CLIP, CLIP)  # gold and ice count as that much, not more
    spread = float(values.max() - values.min())
    labels: NDArray[Any] = slic(
        values,
        n_segments=max(1, round(values.size / edge**values.ndim)),
        compactness=compactness / spread if spread > 0 else 1.0,
        sigma=sigma,
        channel_axis=None,
        start_label=0,
    )
    return labels.astype(np.int32)


def majority_vote(labels: NDArray[np.integer[Any]], segments: Labels, classes: int) -> Labels:
    """Give every voxel the most frequent label of its supervoxel.

    Parameters
    ----------
    labels
        Label of each voxel, from 0 and below `classes`.
    segments
        Supervoxel of each voxel, of the same shape, from 0.
    classes
        Number of labels.

    Returns
    -------
    ndarray
        Of the same shape, int32. Ties go to the lowest label (Kanezaki 2018).
    """
    pairs = segments.astype(np.int64).ravel() * classes + labels.ravel()
    votes = np.bincount(pairs, minlength=(int(segments.max()) + 1) * classes)
    winners = votes.reshape(-1, classes).argmax(axis=1).astype(np.int32)
    voted: Labels = winners[segments]
    return voted
