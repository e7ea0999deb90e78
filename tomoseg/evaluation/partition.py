"""How well a partition of an image, such as its supervoxels, keeps to the borders of a truth."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAK = 0.05
"""Share of a segment that must lie in a region for the segment to count as part of it."""


@dataclass(frozen=True)
class PartitionScores:
    """Scores of a partition against a truth.

    Parameters
    ----------
    boundary_recall
        Share of the faces between salient and other voxels that are faces between segments
        too, with no tolerance.
    undersegmentation
        By how much the segments that take part in a region, together, exceed it, over both
        regions and the size of the image; a segment takes part with 5 % of its voxels.
    achievable_accuracy
        Share of voxels that are right where each segment is what most of it is.
    boundary_share
        Share of all faces between voxels that are faces between segments: neither good nor
        bad, but ragged segments buy recall with it.
    """

    boundary_recall: float
    undersegmentation: float
    achievable_accuracy: float
    boundary_share: float


def score_partition(labels: NDArray[np.integer[Any]], truth: NDArray[Any]) -> PartitionScores:
    """Score a partition.

    Parameters
    ----------
    labels
        Segment of each voxel, from 0.
    truth
        0 or False outside the salient objects; of the same shape.

    Notes
    -----
    As Achanta et al. (TPAMI 2012) and Liu et al. (CVPR 2011) have them.
    """
    salient = truth != 0
    sizes = np.bincount(labels.ravel())
    inside = np.bincount(labels.ravel(), salient.ravel())
    borders = found = drawn = faces = 0
    for axis in range(truth.ndim):
        border, boundary = np.diff(salient, axis=axis), np.diff(labels, axis=axis) != 0
        borders += int(border.sum())
        found += int((border & boundary).sum())
        drawn += int(boundary.sum())
        faces += boundary.size
    parts = (inside, sizes - inside)
    covered = sum(int(sizes[part > LEAK * sizes].sum()) for part in parts)
    return PartitionScores(
        boundary_recall=found / borders if borders else 1.0,
        undersegmentation=covered / truth.size - 1,
        achievable_accuracy=float(np.maximum(*parts).sum()) / truth.size,
        boundary_share=drawn / faces if faces else 0.0,
    )
