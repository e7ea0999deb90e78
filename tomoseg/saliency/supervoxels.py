"""SLIC supervoxels that neighbouring windows agree on, and the vote within them.

Knows arrays only. Labels are scratch: they unify a response map, and are never stitched.
"""

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int32]


def supervoxels(
    window: NDArray[np.float32], *, edge: int, compactness: float, sigma: float
) -> Labels:
    """Return the supervoxel of each voxel."""
    raise NotImplementedError


def majority_vote(labels: Labels, segments: Labels, classes: int) -> Labels:
    """Give every voxel the most frequent label of its supervoxel; ties to the lowest."""
    raise NotImplementedError
