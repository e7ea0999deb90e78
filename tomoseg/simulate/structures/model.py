"""A complex as sites with masses, centred on its centre of mass; knows no files."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

ANGSTROM3_PER_DALTON = 1.21
"""Volume of protein for its mass."""


@dataclass(frozen=True, eq=False)
class Structure:
    """A macromolecular complex as point masses.

    Parameters
    ----------
    name
        Such as a PDB id.
    sites_zyx
        (N, 3) float32, axes z, y, x, in angstrom from the centre of mass.
    masses
        (N,) float32, in dalton, of each site.
    split
        ``train``, ``validation`` or ``test``; empty where the structure belongs to none.
    """

    name: str
    sites_zyx: NDArray[np.float32]
    masses: NDArray[np.float32]
    split: str = ""

    @property
    def mass(self) -> float:
        """Mass of the whole complex, in dalton."""
        return float(self.masses.sum(dtype=np.float64))

    @property
    def radius(self) -> float:
        """Largest distance of a site from the centre of mass, in angstrom."""
        return float(np.sqrt((self.sites_zyx.astype(np.float64) ** 2).sum(axis=1).max()))

    @classmethod
    def centred(
        cls, name: str, sites_zyx: NDArray[Any], masses: NDArray[Any], split: str = ""
    ) -> Self:
        """Move sites to their centre of mass.

        Parameters
        ----------
        name, split
            As of the class.
        sites_zyx
            (N, 3), axes z, y, x, in angstrom, from any origin; N is at least 1.
        masses
            (N,), in dalton; the sum is positive.
        """
        sites = sites_zyx.astype(np.float64)
        centre = np.average(sites, axis=0, weights=masses.astype(np.float64))
        return cls(name, (sites - centre).astype(np.float32), masses.astype(np.float32), split)
