"""What is heavy and not salient: gold beads, and the carbon film around a hole.

Densities on a voxel grid, in dalton per cubic angstrom above ice; knows no scene.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tomoseg.geometry import Index
from tomoseg.simulate.density import Patch

GOLD_EXCESS = 11.0
"""Dalton per cubic angstrom of gold above ice."""

CARBON_EXCESS = 0.64
"""Dalton per cubic angstrom of amorphous carbon (2.0 g/cm^3) above ice."""

BEAD_RADII = (25.0, 50.0, 75.0)
"""Angstrom."""


class Solid(NamedTuple):
    """A body: its density, blurred to a resolution, and the voxels of the patch it fills."""

    patch: Patch
    mask: NDArray[np.bool_]


def gold_bead(centre: NDArray[np.floating], radius: float, sigma: float) -> Solid:
    """Return a ball of gold; centre, radius and the sigma of the blur in voxels."""
    corner = np.floor(centre - radius - 3).astype(int)
    voxels = np.arange(2 * int(radius) + 9)
    grid = np.meshgrid(*(voxels + a for a in corner - centre), indexing="ij")
    distance = np.sqrt(sum(axis**2 for axis in grid))
    density = GOLD_EXCESS * np.clip(radius + 0.5 - distance, 0, 1)
    patch = Patch(tuple(int(n) for n in corner), _blurred(density, sigma))
    return Solid(patch, distance < radius + 0.5)


def carbon_film(
    random: np.random.Generator,
    shape: Index,
    *,
    voxel_size_angstrom: float,
    slab: tuple[float, float],
    sigma: float,
) -> Solid:
    """Return a grainy film with a round hole, most of it beside the volume.

    Parameters
    ----------
    random
        Source of chance.
    shape
        Of the scene, voxels z, y, x.
    voxel_size_angstrom
        Edge of a voxel.
    slab
        First and last voxel along z between which the film's middle lies.
    sigma
        Of the blur, in voxels.
    """
    depth, *across = shape
    radius = random.uniform(5e3, 12e3) / voxel_size_angstrom
    edge = random.uniform(0.1, 0.45) * min(across)  # its distance from the volume's middle
    angle = random.uniform(0, 2 * np.pi)
    y, x = np.ogrid[: across[0], : across[1]]
    from_hole = np.hypot(
        y - across[0] / 2 - (radius - edge) * np.sin(angle),
        x - across[1] / 2 - (radius - edge) * np.cos(angle),
    )
    thickness = random.uniform(100, 300) / voxel_size_angstrom
    height = np.abs(np.arange(depth) - random.uniform(*slab))[:, None, None]
    mask = (from_hole > radius) & (height < thickness / 2)
    grain = ndimage.gaussian_filter(random.standard_normal(shape, np.float32), 0.7)
    grain *= random.uniform(0.05, 0.3) / grain.std()
    return Solid(Patch((0, 0, 0), _blurred(CARBON_EXCESS * mask * (1 + grain), sigma)), mask)


def _blurred(density: NDArray[np.floating], sigma: float) -> NDArray[np.float32]:
    return np.asarray(ndimage.gaussian_filter(density.astype(np.float32), sigma))
