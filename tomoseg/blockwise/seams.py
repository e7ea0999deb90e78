"""The seam measure: does the saliency jump where blocks meet? Exact integer sums.

Mean absolute difference of neighbouring voxels across block planes, over the same mean
across the other planes at multiples of the network's stride: 1.00 is perfect. A network
that upsamples leaves a faint pattern of its stride everywhere, seam or not; only planes of
one phase compare.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomoseg.config import BLOCK, STRIDE
from tomoseg.geometry import Box


@dataclass(frozen=True)
class SeamSums:
    """Sums and counts of absolute differences; add those of all shards.

    Parameters
    ----------
    across, inside
        Sum of the differences across block planes, and across the other planes at
        multiples of the stride.
    across_pairs, inside_pairs
        Number of voxel pairs in each sum.
    """

    across: int = 0
    across_pairs: int = 0
    inside: int = 0
    inside_pairs: int = 0

    def __add__(self, other: "SeamSums") -> "SeamSums":
        return SeamSums(
            self.across + other.across,
            self.across_pairs + other.across_pairs,
            self.inside + other.inside,
            self.inside_pairs + other.inside_pairs,
        )

    @property
    def measure(self) -> float | None:
        """The ratio of the two means; None in a volume of one block or without contrast."""
        if not self.across_pairs or not self.inside:
            return None
        return (self.across / self.across_pairs) / (self.inside / self.inside_pairs)


def with_low_neighbours(owned: Box) -> Box:
    """Return a box and, where there is one, the plane before it along each axis."""
    return Box(tuple(max(0, a - 1) for a in owned.start), owned.stop)


def seam_sums(saliency: NDArray[np.uint8], box: Box, owned: Box) -> SeamSums:
    """Sum the differences between each voxel of a box and its lower neighbours.

    Parameters
    ----------
    saliency
        Voxels of `box`, which is ``with_low_neighbours(owned)``.
    box, owned
        What `saliency` holds, and which voxels of it this call owns.
    """
    total = SeamSums()
    inner = owned.relative_to(box)
    for axis, first in enumerate(box.start):
        start = tuple(
            0 if k == axis else a for k, a in enumerate(inner.start)
        )  # the low neighbour belongs to the pair
        values = saliency[Box(start, inner.stop).slices].astype(np.int16)
        difference = np.abs(np.diff(values, axis=axis))
        others = tuple(k for k in range(values.ndim) if k != axis)
        sums = difference.sum(axis=others, dtype=np.int64)
        plane = np.arange(len(sums)) + first + 1
        across, inside = plane % BLOCK == 0, (plane % STRIDE == 0) & (plane % BLOCK != 0)
        pairs = difference.size // max(1, len(sums))
        total += SeamSums(
            int(sums[across].sum()),
            int(across.sum()) * pairs,
            int(sums[inside].sum()),
            int(inside.sum()) * pairs,
        )
    return total
