"""One intensity normalisation for a whole volume, from a seeded sample of it.

Every window of a run is normalised with the same two numbers, so that no tile shows.
Knows nothing of shards or networks.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomoseg.config import Contrast
from tomoseg.errors import InputError
from tomoseg.geometry import Box, Index, Lattice
from tomoseg.intensity import normalise, padding_value, robust_location_scale

BRICK = 32
"""Edge in voxels of the bricks that are sampled."""

BRICKS = 64
"""Bricks sampled at most: two million voxels, less than a second."""


@dataclass(frozen=True)
class Statistics:
    """What normalises a volume, and what identifies it.

    Parameters
    ----------
    location
        Median of the sample, in the units of the input.
    scale
        Robust standard deviation (1.4826 times the median absolute deviation), above 0.
    voxels
        Number of voxels sampled.
    sample_sha256
        Hash of the sampled voxels: part of the identity of the input.
    padding
        The value that fills what is no tomogram, and counts for nothing; None without.
    """

    location: float
    scale: float
    voxels: int
    sample_sha256: str
    padding: float | None = None

    def normalise(
        self, values: NDArray[np.generic], contrast: Contrast, amplitude: float = 1.0
    ) -> NDArray[np.float32]:
        """Return values in robust standard deviations, salient objects positive.

        Parameters
        ----------
        values
            Intensities of any shape in the units of the input.
        contrast
            Which side of the background the objects lie on in the input.
        amplitude
            What they are multiplied by.

        Returns
        -------
        numpy.ndarray
            float32 of the same shape, within +-10; 0 where a value is not finite.
        """
        sign = -1.0 if contrast == "dark" else 1.0
        return normalise(values, self.location, sign * self.scale / amplitude)


def sample_bricks(
    shape: Index, read: Callable[[Box], NDArray[Any]], seed: int
) -> list[NDArray[Any]]:
    """Read a seeded sample of bricks.

    Parameters
    ----------
    shape
        Of the volume.
    read
        Returns the voxels of a box of it.
    seed
        Of the choice.
    """
    lattice = Lattice(shape, BRICK)
    count = min(BRICKS, len(lattice))
    # a Generator's choice without replacement from 10^9 bricks must not build them all
    numbers = np.sort(np.random.default_rng(seed).choice(len(lattice), count, replace=False))
    return [read(lattice.cell(int(number))) for number in numbers]


def measure(bricks: Sequence[NDArray[Any]], name: str) -> Statistics:
    """Measure a sample of a volume.

    Parameters
    ----------
    bricks
        What `sample_bricks` returned.
    name
        Of the volume, for messages.

    Raises
    ------
    InputError
        Where the sample holds no finite value.
    """
    digest = hashlib.sha256()
    for brick in bricks:
        digest.update(brick.tobytes())
    sample = np.concatenate([brick.ravel() for brick in bricks]).astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        raise InputError(
            f"{name}: expected finite intensities, found none in {len(bricks)} sampled bricks.",
            "Reconstruct or export the tomogram again.",
        )
    padding = padding_value(sample)
    kept = sample if padding is None else sample[sample != padding]
    location, scale = robust_location_scale(kept)
    return Statistics(location, scale, int(sample.size), digest.hexdigest(), padding)
