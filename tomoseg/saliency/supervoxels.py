"""SLIC supervoxels that neighbouring windows agree on, and the vote within them.

Knows arrays only. Labels are scratch: they unify a response map, and are never stitched.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tomoseg.intensity import CLIP
from tomoseg.saliency.slic import EDGES, slic

Labels = NDArray[np.int32]


def supervoxels(
    window: NDArray[np.float32],
    *,
    edge: int,
    compactness: float,
    sigma: float,
    device: str = "cpu",
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
        8 or 16 in tomoseg).
    compactness, sigma
        As for `tomoseg.saliency.slic.slic`.
    device
        Where it is computed.

    Returns
    -------
    ndarray
        Of the shape of `window`, int32, from 0; some numbers may be those of no voxel.

    Notes
    -----
    By `tomoseg.saliency.slic.slic` where `edge` is one that it takes and divides the window,
    else by `reference_supervoxels`, on the CPU: so with the paper's 3.
    """
    if edge in EDGES and not any(n % edge for n in window.shape):
        values = torch.from_numpy(window)[None].to(device)
        found = slic(values, edge=edge, compactness=compactness, sigma=sigma)
        labels: Labels = found[0].cpu().numpy()
        return labels
    return reference_supervoxels(window, edge=edge, compactness=compactness, sigma=sigma)


def reference_supervoxels(
    window: NDArray[np.float32], *, edge: int, compactness: float, sigma: float
) -> Labels:
    """Return the supervoxel of each voxel by scikit-image's SLIC, for any edge.

    Parameters
    ----------
    window, edge, compactness, sigma
        As for `supervoxels`. With edges that don't divide the window, neighbouring windows
        disagree about their supervoxels.

    Returns
    -------
    ndarray
        Of the shape of `window`, int32, labels from 0, one connected piece each.

    Notes
    -----
    skimage rescales an image by its own minimum and maximum, so that a single bright
    voxel would change every label; a compactness divided by the range cancels it.
    """
    from skimage.segmentation import slic as scikit_slic  # much memory, rarely needed

    values = np.clip(window, -CLIP, CLIP)  # gold and ice count as that much, not more
    spread = float(values.max() - values.min())
    labels: NDArray[Any] = scikit_slic(
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
