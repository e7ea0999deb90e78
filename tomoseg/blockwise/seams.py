"""The seam measure: does the saliency jump where windows meet? Exact integer sums.

Mean absolute difference of neighbouring voxels across the planes where cores meet, over the
same mean across the planes beside them: objects differ from place to place, but little from one
plane to the next. A network that upsamples leaves a faint pattern of its stride everywhere, seam
or not, so this ratio is divided by that of the other planes at multiples of the stride. 1.00 is
perfect.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomoseg.config import STRIDE
from tomoseg.geometry import Box, Index


@dataclass(frozen=True)
class SeamSums:
    """Sums and counts of absolute differences; add those of all shards.

    Parameters
    ----------
    sums
        Of the differences across block planes, across the planes beside those, across the
        other planes at multiples of the stride, and beside those.
    pairs
        Number of voxel pairs in each sum.
    """

    sums: tuple[int, ...] = (0, 0, 0, 0)
    pairs: tuple[int, ...] = (0, 0, 0, 0)

    def __add__(self, other: "SeamSums") -> "SeamSums":
        return SeamSums(
            tuple(a + b for a, b in zip(self.sums, other.sums, strict=True)),
            tuple(a + b for a, b in zip(self.pairs, other.pairs, strict=True)),
        )

    @property
    def measure(self) -> float | None:
        """The ratio of the two ratios; None in a volume of one block or without contrast."""
        if not all(self.sums):
            return None
        across, beside, phase, beside_phase = (
            total / count for total, count in zip(self.sums, self.pairs, strict=True)
        )
        return (across / beside) / (phase / beside_phase)


def with_low_neighbours(owned: Box) -> Box:
    """Return a box and, where there is one, the plane before it along each axis."""
    return Box(tuple(max(0, a - 1) for a in owned.start), owned.stop)


def spread(numbers: Sequence[int], count: int) -> list[int]:
    """Return at most `count` of the numbers, evenly spread over them."""
    if len(numbers) <= count:
        return list(numbers)
    return [numbers[(2 * k + 1) * len(numbers) // (2 * count)] for k in range(count)]


def seam_sums(
    saliency: NDArray[np.uint8], box: Box, owned: Box, shape: Index, core: int
) -> SeamSums:
    """Sum the differences between each voxel of a box and its lower neighbours.

    Parameters
    ----------
    saliency
        Voxels of `box`, which is ``with_low_neighbours(owned)``.
    box, owned
        What `saliency` holds, and which voxels of it this call owns.
    shape
        Of the volume.
    core
        Edge of what a window decides.
    """
    total = SeamSums()
    inner = owned.relative_to(box)
    for axis, first in enumerate(box.start):
        start = tuple(
            0 if k == axis else a for k, a in enumerate(inner.start)
        )  # the low neighbour belongs to the pair
        values = np.moveaxis(saliency[Box(start, inner.stop).slices], axis, 0)
        sums, pairs = [], []
        for chosen in _kinds(np.arange(len(values) - 1) + first + 1, shape[axis], core):
            planes = np.flatnonzero(chosen)
            low, high = values[planes], values[planes + 1]
            difference = np.maximum(low, high) - np.minimum(low, high)
            sums.append(int(difference.sum(dtype=np.int64)))
            pairs.append(difference.size)
        total += SeamSums(tuple(sums), tuple(pairs))
    return total


def _kinds(plane: NDArray[np.int_], length: int, core: int) -> tuple[NDArray[np.bool_], ...]:
    """Tell which planes belong to each of the four sums; plane k lies before voxel k."""
    nearest = (plane + 1) // STRIDE * STRIDE  # of a plane at or beside a multiple
    distance = np.abs(plane - nearest)
    inside = (nearest > 0) & (nearest < length)
    seam = nearest % core == 0
    return (
        inside & seam & (distance == 0),
        inside & seam & (distance == 1),
        inside & ~seam & (distance == 0),
        inside & ~seam & (distance == 1),
    )
