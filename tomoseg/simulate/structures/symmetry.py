"""The copies of a subunit in a complex, and the region that each has to itself.

Knows rotations and shifts, no bodies and no masses.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]

_INTERFACE_ANGSTROM = 1.5
"""Sites keep this distance from the plane between two subunits."""


@dataclass(frozen=True, eq=False)
class Symmetry:
    """The copies of a unit: rotate, then shift; the first copy is the unit itself.

    Parameters
    ----------
    rotations
        (G, 3, 3), acting on columns z, y, x.
    shifts
        (G, 3) in angstrom, axes z, y, x.
    """

    rotations: Array
    shifts: Array

    def images(self, points: Array) -> Array:
        """Copy (M, 3) points; return (G, M, 3)."""
        turned: Array = np.einsum("gij,mj->gmi", self.rotations, points)
        return turned + self.shifts[:, None]

    def own(self, points: Array, unit_centre: Array) -> NDArray[np.bool_]:
        """Tell which of (M, 3) points lie nearer to the unit's centre than to any copy's.

        These regions tile space, so that units which stay within theirs never clash.
        """
        inside = np.ones(len(points), bool)
        for image in self.images(unit_centre[None])[1:, 0]:
            gap = unit_centre - image
            beyond_plane = (points - (unit_centre + image) / 2) @ gap / np.linalg.norm(gap)
            inside &= beyond_plane > _INTERFACE_ANGSTROM
        return inside


def point_group(name: str) -> Symmetry:
    """Return the rotations of a point group.

    Parameters
    ----------
    name
        Schoenflies: ``C7``, ``D7`` (both about the z axis), ``T``, ``O`` or ``I``.
    """
    # scipy's X axis is the first column, which is z here
    group = (
        Rotation.create_group(name, axis="X") if name[0] in "CD" else Rotation.create_group(name)
    )
    rotations = group.as_matrix()
    identity_first = np.argsort(-np.trace(rotations, axis1=1, axis2=2), kind="stable")
    return Symmetry(rotations[identity_first], np.zeros((len(rotations), 3)))


def screw(count: int, *, rise: float, twist: float) -> Symmetry:
    """Return the steps of a helix about the z axis.

    Parameters
    ----------
    count
        Steps upwards, from 0; as many downwards follow, so that the first unit has the
        neighbours that it would have within a long helix.
    rise
        Along z, in angstrom a step.
    twist
        About z, in radian a step.
    """
    steps = np.concatenate([np.arange(count), -np.arange(1, count)]).astype(np.float64)
    rotations = Rotation.from_rotvec(np.outer(twist * steps, [1.0, 0.0, 0.0])).as_matrix()
    return Symmetry(rotations, np.outer(rise * steps, [1.0, 0.0, 0.0]))
