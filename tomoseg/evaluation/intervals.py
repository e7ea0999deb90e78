"""Means over tomograms with bootstrap intervals, and how tables print them."""

from collections.abc import Sequence

import numpy as np

REDRAWS = 2000
"""Bootstrap samples behind an interval."""


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean, and the ends of its 95 % bootstrap interval (percentiles, seeded)."""
    sample = np.array(values, np.float64)
    drawn = np.random.default_rng(0).choice(sample, (REDRAWS, len(sample)))
    low, high = np.percentile(drawn.mean(1), (2.5, 97.5))
    return float(sample.mean()), float(low), float(high)


def cell(values: Sequence[float]) -> str:
    """Return a mean and its interval as the cell of a table; a single value alone."""
    mean, low, high = interval(values)
    return f"{mean:.3f} ({low:.3f} to {high:.3f})" if len(values) > 1 else f"{mean:.3f}"
