"""How well a saliency agrees with a truth: scores of arrays of any dimension, from counts.

Knows arrays only. Every score follows from one table, how often each of the 256 levels of
saliency occurs inside and outside the truth; the S-measure needs that table for each of the
boxes around the truth's centroid. Tables add up, so a volume can be scored block by block.
"""

import dataclasses
import functools
import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomoseg.geometry import Index

LEVELS = 256
BETA_SQUARED = 0.3
"""Weight of precision against recall in the F-measure (Achanta et al., CVPR 2009)."""

ALPHA = 0.5
"""Weight of the object part against the region part in the S-measure (Fan et al., ICCV 2017)."""

_TOP = LEVELS - 1
_EPSILON = float(np.spacing(1.0))

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """The scores of one saliency against one truth; all but the first are better if higher.

    Parameters
    ----------
    mean_absolute_error
        Mean of \\|saliency - truth\\|.
    adaptive_f, mean_f, maximum_f
        F-measure with beta squared 0.3: at the threshold min(2 mean saliency, 1), mean and
        maximum over the 256 thresholds.
    adaptive_e, mean_e, maximum_e
        Enhanced-alignment measure, at the same thresholds.
    structure
        S-measure.
    dice, precision, recall
        Of the mask at 0.5.
    average_precision
        Area under precision over recall, as steps over the 256 thresholds.
    """

    mean_absolute_error: float
    adaptive_f: float
    mean_f: float
    maximum_f: float
    adaptive_e: float
    mean_e: float
    maximum_e: float
    structure: float
    dice: float
    precision: float
    recall: float
    average_precision: float

    def to_dict(self) -> dict[str, float]:
        """Return the scores by name."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, eq=False)
class Agreement:
    """Counts of saliency levels inside and outside the truth; add those of all blocks.

    A voxel is chosen at level ``t`` where its saliency is at least ``t / 255``. No score
    depends on the order in which counts were added: sums are of whole numbers.

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
    def voxels(self) -> int:
        """Number of voxels counted."""
        return int(self.counts.sum())

    @property
    def positives(self) -> int:
        """Number of voxels inside the truth."""
        return int(self.counts[1].sum())

    @property
    def adaptive_level(self) -> int:
        """The level of the adaptive threshold, min(2 mean saliency, 1) (Achanta 2009).

        It is 0 where nothing is salient: every voxel is then chosen, and a map of zeros is
        scored as a map of ones.
        """
        level_sum = int(self.counts.sum(0) @ np.arange(LEVELS))
        return min(-(-2 * level_sum // self.voxels), _TOP)

    @property
    def mean_absolute_error(self) -> float:
        """Mean of \\|saliency - truth\\| with saliency in [0, 1]."""
        levels = np.arange(LEVELS) / _TOP
        error = (self.counts[0] * levels).sum() + (self.counts[1] * (1 - levels)).sum()
        return float(error / self.counts.sum())

    def f_curve(self) -> Curve:
        """Return the F-measure with beta squared 0.3 at each of the 256 levels.

        F = (1 + b2) P R / (b2 P + R) of precision P and recall R (Achanta et al., CVPR
        2009), which is (1 + b2) true / (chosen + b2 positives); 0 without overlap.
        """
        true, chosen = self._chosen()
        weighted = chosen + BETA_SQUARED * self.positives
        return (1 + BETA_SQUARED) * true / np.where(true > 0, weighted, 1)

    def e_curve(self) -> Curve:
        """Return the enhanced-alignment measure at each of the 256 levels.

        With b the binary map and g the truth, each less its mean, the alignment of a voxel
        is x = 2 b g / (b^2 + g^2); E is the sum of (x + 1)^2 / 4 over the number of voxels
        less 1 (Fan et al., IJCAI 2018), so that it can exceed 1 by that one voxel. Of an
        empty truth the sum counts the voxels not chosen, of a full one those chosen.
        """
        true, chosen = self._chosen()
        return self._alignment(true, chosen) / max(self.voxels - 1, 1)

    @property
    def adaptive_f(self) -> float:
        """The F-measure at the adaptive threshold."""
        return float(self.f_curve()[self.adaptive_level])

    @property
    def mean_f(self) -> float:
        """The mean of the F-measure over the 256 thresholds."""
        return float(self.f_curve().mean())

    @property
    def maximum_f(self) -> float:
        """The F-measure at its best threshold."""
        return float(self.f_curve().max())

    @property
    def adaptive_e(self) -> float:
        """The E-measure at the adaptive threshold."""
        return float(self.e_curve()[self.adaptive_level])

    @property
    def mean_e(self) -> float:
        """The mean of the E-measure over the 256 thresholds."""
        return float(self.e_curve().mean())

    @property
    def maximum_e(self) -> float:
        """The E-measure at its best threshold."""
        return float(self.e_curve().max())

    def dice(self, threshold: float) -> float:
        """Dice coefficient of the mask at a threshold in (0, 1); 1 where both are empty."""
        true, chosen = self._at(threshold)
        total = chosen + self.positives
        return 2 * true / total if total else 1.0

    def precision(self, threshold: float) -> float:
        """Share of the mask at a threshold in (0, 1) that is true; 1 of an empty mask."""
        true, chosen = self._at(threshold)
        return true / chosen if chosen else 1.0

    def recall(self, threshold: float) -> float:
        """Share of the truth that is in the mask at a threshold; 1 of an empty truth."""
        true, _ = self._at(threshold)
        return true / self.positives if self.positives else 1.0

    @property
    def average_precision(self) -> float:
        """Sum over thresholds of precision times the recall that each adds; 0 without truth.

        No interpolation, as in scikit-learn's ``average_precision_score``.
        """
        true, chosen = self._chosen()
        added = true - np.append(true[1:], 0)
        precision = true / np.where(chosen > 0, chosen, 1)
        return float((added * precision).sum() / self.positives) if self.positives else 0.0

    def _at(self, threshold: float) -> tuple[int, int]:
        """Return how many voxels at or above a threshold are true, and how many there are."""
        true, chosen = self._chosen()
        level = int(np.ceil(threshold * _TOP))
        return int(true[level]), int(chosen[level])

    def _chosen(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return for each level how many voxels of at least it are true, and how many there are."""
        above = self.counts[:, ::-1].cumsum(1)[:, ::-1]
        return above[1], above.sum(0)

    def _alignment(self, true: NDArray[np.int64], chosen: NDArray[np.int64]) -> Curve:
        """Return the sum of (x + 1)^2 / 4 over all voxels, see `e_curve`."""
        if self.positives == 0:
            return (self.voxels - chosen).astype(np.float64)
        if self.positives == self.voxels:
            return chosen.astype(np.float64)
        share, truth_share = chosen / self.voxels, self.positives / self.voxels
        missed, false = self.positives - true, chosen - true
        neither = self.voxels - chosen - missed
        total = np.zeros(LEVELS)
        for count, map_value, truth_value in (
            (true, 1, 1),
            (false, 1, 0),
            (missed, 0, 1),
            (neither, 0, 0),
        ):
            b, g = map_value - share, truth_value - truth_share
            x = 2 * b * g / (b**2 + g**2)
            total += count * (x + 1) ** 2 / 4
        return total


def score(saliency: NDArray[np.generic], truth: NDArray[np.generic]) -> Scores:
    """Score a saliency against a truth.

    Parameters
    ----------
    saliency
        Array of any dimension: uint8, 0-255, or floating point in [0, 1], which is rounded
        to 256 levels as an output stores it.
    truth
        Array of the same shape, not 0 inside the objects.

    Raises
    ------
    ValueError
        Where shapes differ, nothing is there to score, or saliency is out of range.
    """
    levels = as_levels(saliency)
    if levels.shape != truth.shape or not levels.size:
        raise ValueError(f"expected one shape with voxels, got {levels.shape} and {truth.shape}")
    inside = truth != 0
    boxes = boxes_around(centre_of(inside), inside.shape)
    return score_boxes([Agreement.of(levels[box], inside[box]) for box in boxes])


def score_boxes(parts: Sequence[Agreement]) -> Scores:
    """Score from the counts of each of the boxes that `boxes_around` the truth's centre."""
    total = functools.reduce(operator.add, parts)
    return Scores(
        mean_absolute_error=total.mean_absolute_error,
        adaptive_f=total.adaptive_f,
        mean_f=total.mean_f,
        maximum_f=total.maximum_f,
        adaptive_e=total.adaptive_e,
        mean_e=total.mean_e,
        maximum_e=total.maximum_e,
        structure=structure_measure(parts),
        dice=total.dice(0.5),
        precision=total.precision(0.5),
        recall=total.recall(0.5),
        average_precision=total.average_precision,
    )


def as_levels(saliency: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return saliency as levels 0-255: uint8 as it is, floating point in [0, 1] rounded.

    Raises
    ------
    ValueError
        Where the type is another, or a value is not in [0, 1].
    """
    if saliency.dtype == np.uint8:
        return np.asarray(saliency, dtype=np.uint8)
    if not np.issubdtype(saliency.dtype, np.floating):
        raise ValueError(f"expected uint8 or floating point, got {saliency.dtype}")
    values = saliency.astype(np.float32)
    if values.size and not (values.min() >= 0 and values.max() <= 1):  # NaN compares false
        raise ValueError(f"expected values in [0, 1], got {values.min()} to {values.max()}")
    return np.asarray(np.rint(values * np.float32(_TOP)), dtype=np.uint8)


def centre_of(truth: NDArray[np.bool_]) -> Index:
    """Return where the S-measure splits an array: one past the rounded centroid of the truth.

    The first voxel of the second half along each axis, at most the array's edge; the
    edge itself, that is no split, where the truth is empty.
    """
    positives = int(np.count_nonzero(truth))
    if not positives:
        return truth.shape
    centre = []
    for axis, edge in enumerate(truth.shape):
        others = tuple(k for k in range(truth.ndim) if k != axis)
        moment = int(np.count_nonzero(truth, axis=others) @ np.arange(edge))
        centre.append(round(moment / positives) + 1)
    return tuple(centre)


def boxes_around(centre: Index, shape: Index) -> list[tuple[slice, ...]]:
    """Return the boxes, at most ``2**ndim``, into which a point splits an array; none is empty."""
    halves = [
        [slice(a, b) for a, b in ((0, at), (at, edge)) if a < b]
        for at, edge in zip(centre, shape, strict=True)
    ]
    return list(itertools.product(*halves))


def structure_measure(parts: Sequence[Agreement]) -> float:
    """Return the S-measure (Fan et al., ICCV 2017) from the counts of each box.

    Parameters
    ----------
    parts
        Counts of the boxes around the truth's centre.

    Returns
    -------
    float
        ``alpha`` times the object part plus ``1 - alpha`` times the region part, at least
        0. Of an empty truth 1 - mean saliency, of a full one mean saliency.
    """
    total = functools.reduce(operator.add, parts)
    mean = float(total.counts.sum(0) @ np.arange(LEVELS) / total.voxels / _TOP)
    if total.positives == 0:
        return 1 - mean
    if total.positives == total.voxels:
        return mean
    region = sum(part.voxels / total.voxels * _similarity(part) for part in parts if part.voxels)
    return max(0.0, ALPHA * _object_part(total) + (1 - ALPHA) * region)


def _object_part(total: Agreement) -> float:
    """Return how bright and how even foreground and dark background are.

    Each is 2 m / (m^2 + 1 + s) of its mean and standard deviation (of a sample), weighted
    by its share of the voxels.
    """
    result = 0.0
    for counts in (total.counts[1], total.counts[0, ::-1]):
        moments = _Moments.of(counts)
        mean, deviation = moments.mean, float(np.sqrt(moments.variance))
        value = 2 * mean / (mean**2 + 1 + deviation + _EPSILON)
        result += moments.voxels / total.voxels * value
    return result


def _similarity(part: Agreement) -> float:
    """Return the structural similarity of saliency and truth in one box."""
    saliency = _Moments.of(part.counts.sum(0))
    inside = part.positives / part.voxels
    # of a binary truth: its variance and covariance follow from the counts
    spread = part.positives * (part.voxels - part.positives) / part.voxels
    true_sum = int(part.counts[1] @ np.arange(LEVELS))
    shared = true_sum * part.voxels - saliency.total * part.positives  # exact: may be 0
    freedom = max(part.voxels - 1, 1)
    covariance = shared / part.voxels / _TOP / freedom
    numerator = 4 * saliency.mean * inside * covariance
    denominator = (saliency.mean**2 + inside**2) * (saliency.variance + spread / freedom)
    if numerator == 0:
        return float(denominator == 0)
    return numerator / (denominator + _EPSILON)


@dataclass(frozen=True)
class _Moments:
    """Voxels, sum and sum of squares of levels, in whole numbers: a constant has variance 0."""

    voxels: int
    total: int
    squares: int

    @classmethod
    def of(cls, counts: NDArray[np.int64]) -> "_Moments":
        levels = np.arange(LEVELS)
        return cls(int(counts.sum()), int(counts @ levels), int(counts @ levels**2))

    @property
    def mean(self) -> float:
        return self.total / self.voxels / _TOP

    @property
    def variance(self) -> float:
        """Variance of a sample (N - 1), of saliency in [0, 1]."""
        scatter = self.voxels * self.squares - self.total**2
        return scatter / self.voxels / _TOP**2 / max(self.voxels - 1, 1)
