"""What a reader should be warned of, told from numbers; pure, no files."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomoseg.blockwise.contrast import Decision
from tomoseg.config import Contrast
from tomoseg.io.volume import Triple

SEAM_LIMIT = 1.05
"""Seam measure from which blocks show."""

USUAL_ANGSTROM = (1.0, 40.0)
"""Voxel sizes that tomograms are segmented at."""

LARGE_FACTOR = 2.0
"""Times that the voxel size may differ from the weights' before it deserves a word."""

ANISOTROPY = 1.05

USUAL_FRACTION = (0.0005, 0.5)
"""Share of voxels in a mask; outside nearly nothing or nearly everything is salient."""

MOST_SATURATED = 0.01
MOST_EMPTY = 0.01
MOST_CUT = 0.25


@dataclass(frozen=True)
class Sampled:
    """What a seeded sample of the tomogram says of its quality.

    Parameters
    ----------
    voxels
        Sampled.
    not_finite
        Share of voxels that are NaN or infinite.
    empty
        Share that holds one and the same value, where that is too much to be ice.
    darkest, lightest
        Shares at the smallest and the largest value.
    contrast
        What the intensities say of the objects' contrast; None where they say nothing.
    """

    voxels: int
    not_finite: float
    empty: float
    darkest: float
    lightest: float
    contrast: Decision | None


@dataclass(frozen=True)
class Facts:
    """The numbers that warnings are drawn from.

    Parameters
    ----------
    voxel_size
        Of the tomogram in angstrom, z, y, x.
    model_voxel_size
        That the network worked at, where it was resampled to it.
    seam
        Seam measure; None where there are too few blocks for it.
    salient_fraction
        Share of voxels in the mask.
    trained
        Whether the weights were.
    contrast
        That the run took for granted.
    sampled
        Of the tomogram; None where it cannot be read.
    cut, particles
        Particles at the border, and all; `cut` is None where that is unknown.
    """

    voxel_size: Triple
    model_voxel_size: Triple | None
    seam: float | None
    salient_fraction: float
    trained: bool
    contrast: Contrast
    sampled: Sampled | None
    cut: int | None
    particles: int


def sample_quality(bricks: list[NDArray[np.generic]], padding: float | None) -> Sampled:
    """Measure a sample of a tomogram.

    Parameters
    ----------
    bricks
        Boxes of it.
    padding
        The value that fills what is no tomogram, if there is one.
    """
    values = np.concatenate([brick.ravel() for brick in bricks]).astype(np.float64)
    finite = values[np.isfinite(values)]
    kept = finite if padding is None else finite[finite != padding]
    low, high = (kept.min(), kept.max()) if kept.size and np.ptp(kept) else (math.nan, math.nan)
    return Sampled(
        voxels=values.size,
        not_finite=1 - finite.size / values.size,
        empty=1 - kept.size / finite.size if finite.size else 1.0,
        darkest=float(np.mean(kept == low)) if kept.size else 0.0,
        lightest=float(np.mean(kept == high)) if kept.size else 0.0,
        contrast=None,
    )


def find_warnings(facts: Facts) -> list[str]:
    """Return what a reader should know before trusting a mask, the gravest first."""
    return [
        text
        for check in (_weights, _fraction, _contrast, _seam, _voxel_size, _quality, _border)
        for text in check(facts)
    ]


def _weights(facts: Facts) -> list[str]:
    return [] if facts.trained else ["The weights are random, not trained: the mask means nothing."]


def _fraction(facts: Facts) -> list[str]:
    low, high = USUAL_FRACTION
    share = f"{100 * facts.salient_fraction:.2g} % of the voxels are salient"
    if facts.salient_fraction < low:
        return [
            f"Nearly nothing was found: {share}. Is the tomogram empty, the contrast or the "
            "voxel size wrong, or the threshold too high?"
        ]
    if facts.salient_fraction > high:
        return [
            f"Nearly everything was found: {share}. Is the contrast or the voxel size wrong, "
            "or the threshold too low?"
        ]
    return []


def _contrast(facts: Facts) -> list[str]:
    looks = facts.sampled and facts.sampled.contrast
    if not looks or looks.weak or looks.contrast == facts.contrast:
        return []
    return [
        f"The contrast looks the wrong way round: objects were taken to be {facts.contrast}, and "
        f"the intensities say {looks.contrast} (skewness {looks.skewness:+.2f}). Compare with "
        f"--contrast {looks.contrast}."
    ]


def _seam(facts: Facts) -> list[str]:
    if facts.seam is None or facts.seam <= SEAM_LIMIT:
        return []
    return [
        f"The blocks show: the seam measure is {facts.seam:.3f}, expected at most {SEAM_LIMIT}. "
        "A larger --halo helps."
    ]


def _voxel_size(facts: Facts) -> list[str]:
    low, high = USUAL_ANGSTROM
    sizes = " x ".join(f"{size:.4g}" for size in facts.voxel_size)
    found = []
    if not all(low <= size <= high for size in facts.voxel_size):
        found.append(
            f"The voxel size is unusual: {sizes} Å (z, y, x), expected {low:g} to {high:g}. "
            "Where it is wrong, give the right one with --voxel-size."
        )
    if max(facts.voxel_size) > ANISOTROPY * min(facts.voxel_size):
        found.append(f"Voxels are not cubes: {sizes} Å (z, y, x).")
    if facts.model_voxel_size is not None:
        pairs = zip(facts.voxel_size, facts.model_voxel_size, strict=True)
        factor = max(max(a / b, b / a) for a, b in pairs)
        if factor > LARGE_FACTOR:
            found.append(
                f"The network worked at {facts.model_voxel_size[0]:.4g} Å, {factor:.2g} times off "
                f"the tomogram's {sizes} Å: fine detail may be missing."
            )
    return found


def _quality(facts: Facts) -> list[str]:
    sampled = facts.sampled
    if sampled is None:
        return []
    found = []
    if sampled.not_finite:
        found.append(f"{_percent(sampled.not_finite)} of the tomogram's voxels are not finite.")
    if sampled.empty > MOST_EMPTY:
        found.append(
            f"{_percent(sampled.empty)} of the tomogram are empty: one value fills them, as "
            "beyond the edges of a rotated or padded reconstruction."
        )
    for share, end in ((sampled.darkest, "smallest"), (sampled.lightest, "largest")):
        if share > MOST_SATURATED:
            found.append(
                f"The tomogram is saturated: {_percent(share)} of its voxels have the {end} value."
            )
    return found


def _border(facts: Facts) -> list[str]:
    if not facts.cut or facts.cut < MOST_CUT * facts.particles:
        return []
    return [
        f"{facts.cut} of {facts.particles} objects touch the border of the tomogram: "
        "they are cut, and their centres and sizes are off."
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
