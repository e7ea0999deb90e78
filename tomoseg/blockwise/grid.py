"""Where voxels lie in space, and on which grid the network works. Pure.

Knows voxel sizes and when they are too far apart; knows no values and no files.
"""

import math
from dataclasses import dataclass

from tomoseg.geometry import Index
from tomoseg.io.volume import Triple

TOLERANCE = 1.15
"""Voxel sizes that differ by no more than this factor are taken as equal."""

LARGEST_FACTOR = 8.0
"""Beyond it a voxel size is a mistake: memory and time go with its cube."""

_FUZZ = 1e-6
"""Of a voxel: a shape that is whole but for rounding is not rounded up."""


@dataclass(frozen=True)
class Grid:
    """Voxels in space, axes z, y, x; centres of voxels at integers.

    Parameters
    ----------
    shape
        In voxels.
    voxel_size_angstrom
        Edges of a voxel.
    origin_angstrom
        Position of the centre of voxel (0, 0, 0).
    """

    shape: Index
    voxel_size_angstrom: Triple
    origin_angstrom: Triple = (0.0, 0.0, 0.0)

    def factors(self, angstrom: float) -> Triple:
        """Return this grid's voxel size over another one, along z, y, x."""
        z, y, x = (size / angstrom for size in self.voxel_size_angstrom)
        return z, y, x

    def resized(self, angstrom: float) -> "Grid":
        """Return the grid of cubic voxels that covers the same space, corner on corner.

        Its last voxels may reach beyond by less than one of them.
        """
        z, y, x = (
            origin + (angstrom - size) / 2
            for origin, size in zip(self.origin_angstrom, self.voxel_size_angstrom, strict=True)
        )
        shape = tuple(
            max(1, math.ceil(n * factor - _FUZZ))
            for n, factor in zip(self.shape, self.factors(angstrom), strict=True)
        )
        return Grid(shape, (angstrom,) * 3, (z, y, x))


def is_off(factors: Triple) -> bool:
    """Tell whether an axis is further off the model's voxel size than `TOLERANCE`."""
    return any(not 1 / TOLERANCE <= factor <= TOLERANCE for factor in factors)


def is_absurd(factors: Triple) -> bool:
    """Tell whether an axis is further off than any tomogram of such objects can be."""
    return any(not 1 / LARGEST_FACTOR <= factor <= LARGEST_FACTOR for factor in factors)
