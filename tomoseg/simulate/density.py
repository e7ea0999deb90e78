"""From sites of mass to a density on a voxel grid, in one unit.

The unit everywhere in the simulator: dalton per cubic angstrom in excess of vitreous ice,
so that a protein, a lipid head and a gold bead stand in their true proportion. Knows
arrays only.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tomoseg.geometry import Index
from tomoseg.simulate.structures import ANGSTROM3_PER_DALTON

ICE_DENSITY = 0.56
"""Dalton per cubic angstrom of vitreous ice (0.93 g/cm^3)."""

PROTEIN_EXCESS = 1 - ICE_DENSITY * ANGSTROM3_PER_DALTON
"""Share of a protein's mass that exceeds the ice which it displaces."""

SITE_SIGMA = 3.5
"""Angstrom: the Gaussian extent of a residue."""

MOLMAP_FACTOR = 0.225
"""Gaussian sigma over resolution (the convention of molmap in UCSF Chimera)."""

MASK_LEVEL = 0.2
"""An object's voxels are those where its own clean density exceeds this share of its
maximum (the Xu lab's truth)."""


class Patch(NamedTuple):
    """A density on its own small grid, and where that grid lies.

    Parameters
    ----------
    corner
        Index of its first voxel (z, y, x) on the scene's grid; may lie outside it.
    density
        float32, axes z, y, x, dalton per cubic angstrom in excess of ice.
    """

    corner: Index
    density: NDArray[np.float32]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Voxels above `MASK_LEVEL` of the maximum."""
        return np.asarray(self.density > MASK_LEVEL * self.density.max())


def blur_sigma(resolution_angstrom: float, site_sigma_angstrom: float = SITE_SIGMA) -> float:
    """Return the Gaussian sigma in angstrom of a site seen at a resolution."""
    return float(np.hypot(site_sigma_angstrom, MOLMAP_FACTOR * resolution_angstrom))


def render(
    sites_voxels: NDArray[np.floating],
    masses: NDArray[np.floating],
    *,
    voxel_size_angstrom: float,
    sigma_angstrom: float,
) -> Patch:
    """Render sites of mass as a density.

    Parameters
    ----------
    sites_voxels
        ``(N, 3)`` positions z, y, x in voxels; voxel centres lie at integers.
    masses
        ``(N,)`` dalton of protein-like matter.
    voxel_size_angstrom
        Edge of a voxel.
    sigma_angstrom
        Gaussian extent of every site, see `blur_sigma`.

    Returns
    -------
    Patch
        Holds the sites and four sigma around them; its sum times the voxel's volume is
        the mass in excess of the displaced ice.
    """
    sigma = sigma_angstrom / voxel_size_angstrom
    margin = int(np.ceil(4 * sigma)) + 1
    corner = np.floor(sites_voxels.min(axis=0)).astype(int) - margin
    shape = np.ceil(sites_voxels.max(axis=0)).astype(int) + margin + 1 - corner
    counts = splat(sites_voxels - corner, masses, tuple(shape))
    # a trilinear splat spreads a site by a sixth of a voxel squared on average
    rest = np.sqrt(max(sigma**2 - 1 / 6, 0.0))
    smooth = ndimage.gaussian_filter(counts, rest, mode="constant", truncate=4.0)
    smooth *= PROTEIN_EXCESS / voxel_size_angstrom**3
    return Patch(tuple(int(n) for n in corner), smooth)


def splat(
    sites_voxels: NDArray[np.floating], masses: NDArray[np.floating], shape: Index
) -> NDArray[np.float32]:
    """Share every site's mass among its eight voxels, trilinearly; all lie inside."""
    base = np.floor(sites_voxels).astype(np.int64)
    upper = (sites_voxels - base).T
    shares = (1 - upper, upper)
    first = np.ravel_multi_index(tuple(base.T), shape)
    total = np.zeros(int(np.prod(shape)))
    for corner in np.ndindex(2, 2, 2):
        z, y, x = (shares[side][axis] for axis, side in enumerate(corner))
        index = first + np.ravel_multi_index(corner, shape)
        total += np.bincount(index, z * y * x * masses, total.size)
    return total.reshape(shape).astype(np.float32)


def random_rotation(random: np.random.Generator) -> NDArray[np.float64]:
    """Return a uniformly random 3x3 rotation, for column vectors (z, y, x)."""
    w, x, y, z = (q := random.normal(size=4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def rotation_between(
    start: NDArray[np.floating], stop: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the 3x3 rotation that takes the unit vector `start` to the unit vector `stop`."""
    cosine = float(start @ stop)
    if cosine < -0.999999:  # half a turn about any perpendicular axis
        axis = np.eye(3)[np.argmin(np.abs(start))]
        axis = axis - (axis @ start) * start
        axis /= np.linalg.norm(axis)
        return np.asarray(2 * np.outer(axis, axis) - np.eye(3))
    a, b, c = np.cross(start, stop)
    cross = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
    return np.asarray(np.eye(3) + cross + cross @ cross / (1 + cosine))
