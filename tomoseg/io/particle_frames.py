"""Where a particle lies in each program's coordinates: the only home of their conventions.

Inside tomoseg voxel (0, 0, 0) is the first one and whole numbers are centres of voxels.
Pure arithmetic on points x, y, z.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomoseg.config import Centre
from tomoseg.errors import RequestError
from tomoseg.io.picks import Picks

Points = NDArray[np.float64]

IMOD_SHIFT = np.array([0.5, 0.5, 0.0])
"""IMOD's models count x and y from a pixel's corner and z from a section's middle
(PEET, "Indexing and coordinate mapping between IMOD and Matlab")."""

DYNAMO_SHIFT = 1.0
"""Dynamo runs on MATLAB, whose first voxel is 1."""


@dataclass(frozen=True)
class Tilt:
    """What RELION knows of a tomogram: the unbinned volume that coordinates refer to.

    Parameters
    ----------
    binning
        Unbinned pixels in a voxel of what was picked.
    pixel_angstrom
        Of the unbinned volume.
    size
        Unbinned pixels along x, y, z.
    """

    binning: float
    pixel_angstrom: float
    size: tuple[float, float, float]

    def centre(self, centre: Centre) -> Points:
        """Return the middle in unbinned pixels, x, y, z.

        RELION's C++ and copick take half the size, RELION's Python picker one less
        (github.com/3dem/relion, issues 1137 and 1280).
        """
        return np.array(self.size) / 2 - (1.0 if centre == "half-minus-one" else 0.0)


def tilt_of(picks: Picks, binning: float | None, tomograms: dict[str, Tilt] | None = None) -> Tilt:
    """Return the unbinned volume of picks.

    Parameters
    ----------
    picks
        Of one tomogram.
    binning
        Unbinned pixels in a voxel; None for 1, or for what `tomograms` say.
    tomograms
        What a ``tomograms.star`` says: of each, its size and pixel; by name.

    Raises
    ------
    RequestError
        Where `tomograms` lack this one.
    """
    voxel = float(np.prod(picks.voxel_size_angstrom)) ** (1 / 3)
    if tomograms is None:
        factor = binning or 1.0
        z, y, x = (n * factor for n in picks.shape)
        return Tilt(factor, voxel / factor, (x, y, z))
    require_tomogram(picks.name, tomograms)
    found = tomograms[picks.name]
    return Tilt(binning or voxel / found.pixel_angstrom, found.pixel_angstrom, found.size)


def require_tomogram(name: str, tomograms: dict[str, Tilt] | None) -> None:
    """Refuse a tomogram that is not among those of a ``tomograms.star``, where there is one.

    Raises
    ------
    RequestError
        Naming those that are.
    """
    if tomograms is not None and name not in tomograms:
        raise RequestError(
            f"--tomograms: expected a tomogram {name}, got {', '.join(tomograms) or 'none'}.",
            "Give the name that it has there with --tomo-name.",
        )


def to_pixels(points: Points, tilt: Tilt) -> Points:
    """Return ``rlnCoordinateX/Y/Z``: unbinned pixels."""
    return points * tilt.binning


def from_pixels(pixels: Points, tilt: Tilt) -> Points:
    """Return voxels of ``rlnCoordinateX/Y/Z``."""
    return pixels / tilt.binning


def to_centred(points: Points, tilt: Tilt, centre: Centre) -> Points:
    """Return ``rlnCenteredCoordinateX/Y/ZAngst``: angstrom from the middle."""
    return (points * tilt.binning - tilt.centre(centre)) * tilt.pixel_angstrom


def from_centred(positions: Points, tilt: Tilt, centre: Centre) -> Points:
    """Return voxels of ``rlnCenteredCoordinateX/Y/ZAngst``."""
    return (positions / tilt.pixel_angstrom + tilt.centre(centre)) / tilt.binning


def to_copick(points: Points, picks: Picks) -> Points:
    """Return angstrom from the centre of the first voxel, without the volume's origin."""
    return np.multiply(points, picks.voxel_size_angstrom[::-1])


def from_copick(positions: Points, picks: Picks) -> Points:
    """Return voxels of angstrom from the centre of the first voxel."""
    return np.divide(positions, picks.voxel_size_angstrom[::-1])
