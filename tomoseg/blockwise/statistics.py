"""One intensity normalisation for a whole volume, from a seeded sample of it.

Every window of a run is normalised with the same two numbers, so that no tile shows.
Knows nothing of shards or networks.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomoseg.config import Contrast
from tomoseg.errors import InputError
from tomoseg.geometry import Lattice
from tomoseg.io.volume import Volume

BRICK = 32
"""Edge in voxels of the bricks that are sampled."""

BRICKS = 64
"""Bricks sampled at most: two million voxels, less than a second."""

CLIP = 10.0
"""Normalised intensities are held to +-CLIP: a gold bead must not outshine a protein."""

FILL = 1 / 3
"""A single value that takes more than this share of the sample is padding, not ice."""

_MAD_TO_SIGMA = 1.4826


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
    """

    location: float
    scale: float
    voxels: int
    sample_sha256: str

    def normalise(self, values: NDArray[np.generic], contrast: Contrast) -> NDArray[np.float32]:
        """Return values in robust standard deviations, salient objects positive.

        Parameters
        ----------
        values
            Intensities of any shape in the units of the input.
        contrast
            Which side of the background the objects lie on in the input.

        Returns
        -------
        numpy.ndarray
            float32 of the same shape, within +-`CLIP`; 0 where a value is not finite.
        """
        sign = -1.0 if contrast == "dark" else 1.0
        result = values.astype(np.float32)
        result -= np.float32(self.location)
        result *= np.float32(sign / self.scale)
        np.nan_to_num(result, copy=False, nan=0.0, posinf=CLIP, neginf=-CLIP)
        return np.clip(result, -CLIP, CLIP, out=result)


def measure(volume: Volume, seed: int) -> Statistics:
    """Measure a volume on a seeded sample of bricks.

    Raises
    ------
    InputError
        Where the sample holds no finite value.
    """
    lattice = Lattice(volume.shape, BRICK)
    count = min(BRICKS, len(lattice))
    # a Generator's choice without replacement from 10^9 bricks must not build them all
    numbers = np.sort(np.random.default_rng(seed).choice(len(lattice), count, replace=False))
    digest = hashlib.sha256()
    bricks = []
    with volume.reader() as reader:
        for number in numbers:
            brick = reader.read(lattice.cell(int(number)))
            digest.update(brick.tobytes())
            bricks.append(brick.ravel())
    sample = np.concatenate(bricks).astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        raise InputError(
            f"{volume.path}: expected finite intensities, found none in {count} sampled bricks.",
            "Reconstruct or export the tomogram again.",
        )
    location, scale = _robust(sample)
    return Statistics(location, scale, int(sample.size), digest.hexdigest())


def _robust(sample: NDArray[np.float64]) -> tuple[float, float]:
    """Return median and robust standard deviation; 1 for the latter in a constant sample."""
    values, counts = np.unique(sample, return_counts=True)
    commonest = values[np.argmax(counts)]
    if values.size > 1 and counts.max() > FILL * sample.size:
        sample = sample[sample != commonest]
    location = float(np.median(sample))
    scale = _MAD_TO_SIGMA * float(np.median(np.abs(sample - location)))
    return location, scale or float(sample.std()) or 1.0
