"""How well a saliency agrees with a truth, from counts that add up over blocks.

Knows arrays only. Every score follows from one table: how often each of the 256 levels of
saliency occurs inside and outside the truth.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = 256
BETA_SQUARED = 0.3
"""Weight of precision against recall in the F-measure (Achanta 2009)."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """Counts of saliency levels inside and outside the truth; add those of all blocks.

    Parameters
    ----------
    counts
        ``(2, 256)`` int64 array: voxels outside (0) and inside (1) the truth, by level.
    """

    counts: NDArray[np.int64]

    @classmethod
    def of(cls, saliency: NDArray[np.uint8], truth: NDArray[np.generic]) -> "Agreement":
        """Count two arrays of one shape: saliency 0-255, and a truth that is not 0 inside."""
        if saliency.shape != truth.shape:
            raise ValueError(f"expected one shape, got {saliency.shape} and {truth.shape}")
        index = (truth != 0).ravel() * LEVELS + saliency.ravel()
        return cls(np.bincount(index, minlength=2 * LEVELS).reshape(2, LEVELS))

    def __add__(self, other: "Agreement") -> "Agreement":
        return Agreement(self.counts + other.counts)

    @property
    def mean_absolute_error(self) -> float:
        """Mean of \\|saliency - truth\\| with saliency in [0, 1]."""
        levels = np.arange(LEVELS) / (LEVELS - 1)
        error = (self.counts[0] * levels).sum() + (self.counts[1] * (1 - levels)).sum()
        return float(error / self.counts.sum())

    @property
    def maximum_f(self) -> float:
        """The F-measure (beta squared 0.3) at its best threshold."""
        return float(max(self._f(level) for level in range(LEVELS)))

    def dice(self, threshold: float) -> float:
        """Dice coefficient of the mask at a threshold in (0, 1); 1 where both are empty."""
        true, chosen = self._chosen(int(np.ceil(threshold * (LEVELS - 1))))
        total = chosen + self.counts[1].sum()
        return float(2 * true / total) if total else 1.0

    def _chosen(self, level: int) -> tuple[int, int]:
        """Return how many voxels of at least `level` are true, and how many there are."""
        return int(self.counts[1, level:].sum()), int(self.counts[:, level:].sum())

    def _f(self, level: int) -> float:
        true, chosen = self._chosen(level)
        positive = int(self.counts[1].sum())
        if not true:
            return 0.0
        return (1 + BETA_SQUARED) * true / (chosen + BETA_SQUARED * positive)
