"""A region of interest: a mask on the input's voxels that the result is held to.

Reads the mask once, before anything runs, to know which shards need no work.
"""

import hashlib
import logging
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomoseg.errors import InputError
from tomoseg.geometry import Box, Lattice
from tomoseg.io.volume import Volume

logger = logging.getLogger(__name__)

VOXEL_SIZE_TOLERANCE = 0.01


@dataclass(frozen=True)
class Roi:
    """A region, and where it lies.

    Parameters
    ----------
    volume
        The mask: what is not 0 is inside.
    shards
        Numbers of the output's shards that hold any of it.
    sha256
        Of which voxels are inside: a mask written again is the same one.
    fraction
        Share of the volume that is inside.
    """

    volume: Volume
    shards: frozenset[int]
    sha256: str
    fraction: float


def describe_roi(volume: Volume, tomogram: Volume, shards: Lattice) -> Roi:
    """Find which shards a region touches.

    Parameters
    ----------
    volume
        The mask.
    tomogram
        What is segmented.
    shards
        Of the output, on the tomogram's voxels.

    Raises
    ------
    InputError
        Where the mask lies on other voxels, or nothing is inside.
    """
    if volume.shape != tomogram.shape:
        raise InputError(
            f"--roi: expected {' x '.join(map(str, tomogram.shape))} voxels (z, y, x) as in "
            f"{tomogram.path}, got {' x '.join(map(str, volume.shape))} in {volume.path}.",
            "Bring the region onto the tomogram's grid first.",
        )
    ours, theirs = tomogram.voxel_size_angstrom, volume.voxel_size_angstrom
    if ours and theirs and not np.allclose(ours, theirs, rtol=VOXEL_SIZE_TOLERANCE):
        logger.warning("%s: its voxel size is not that of %s.", volume.path, tomogram.path)
    digest, touched, inside = hashlib.sha256(), set(), 0
    with volume.reader() as reader:
        for number, box in enumerate(shards):
            region = reader.read(box) != 0
            digest.update(np.packbits(region).data)
            count = int(np.count_nonzero(region))
            inside += count
            if count:
                touched.add(number)
    if not touched:
        raise InputError(
            f"--roi: expected a region in {volume.path}, got zeros alone.",
            "What is not 0 is segmented.",
        )
    fraction = inside / math.prod(volume.shape)
    return Roi(volume, frozenset(touched), digest.hexdigest(), fraction)


def read_region(volume: Volume, box: Box) -> NDArray[np.bool_]:
    """Return which voxels of a box are inside."""
    with volume.reader() as reader:
        region: NDArray[np.bool_] = reader.read(box) != 0
    return region
