"""Which objects are particles: measures, filters and non-maximum suppression; pure."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from tomoseg.config import PickConfig
from tomoseg.geometry import Index
from tomoseg.io.volume import Triple
from tomoseg.particles.components import Sums
from tomoseg.simulate.structures.model import ANGSTROM3_PER_DALTON

Floats = NDArray[np.float64]
Table = dict[str, NDArray[np.float64]]
"""Columns of equal length; ``z``, ``y``, ``x`` are voxels."""

BATCH = 4096
"""Points whose neighbours are looked up at once."""

SOLID = 4 / 3 * np.pi * 5**1.5
"""Volume of a solid ellipsoid over the product of the standard deviations along its axes."""

WHOLE_NUMBERS = ("voxels", "z0", "y0", "x0", "z1", "y1", "x1", "border")


def measure(sums: Sums, shape: Index, voxel_size: Triple, *, scored: bool) -> Table:
    """Return what is known of each object.

    Parameters
    ----------
    sums
        Of objects with at least one voxel.
    shape
        Of the volume.
    voxel_size
        In angstrom, z, y, x.
    scored
        Whether `sums` hold saliency.

    Returns
    -------
    Table
        ``z``, ``y``, ``x`` (mean of the voxels), ``voxels``, ``volume_angstrom3``,
        ``mass_kda`` (of protein that fills it), ``diameter_angstrom`` (of the ball of that
        volume), ``score`` and ``max_score`` (0 to 1), ``elongation`` (longest over shortest
        principal axis of its ellipsoid of inertia), ``fill`` (its volume over that of this
        ellipsoid: 1 for a solid one, little for a shell or a curved sheet), ``border`` (1 where
        it touches a face of the volume), and its box ``z0``... to below ``z1``....
    """
    voxels = sums.voxels.astype(np.float64)
    centre = sums.added[:, 1:4] / voxels[:, None]
    volume = voxels * float(np.prod(voxel_size))
    spread = _spread(sums, voxel_size)
    elongation: Floats = np.sqrt(spread[:, 2] / spread[:, 0])
    top = sums.highest[:, :3]
    border = (sums.lowest == 0).any(1) | (top == np.array(shape) - 1).any(1)
    table = dict(zip("zyx", centre.T, strict=True))
    table |= {
        "voxels": voxels,
        "volume_angstrom3": volume,
        "mass_kda": volume / ANGSTROM3_PER_DALTON / 1000,
        "diameter_angstrom": np.cbrt(6 * volume / np.pi),
        "elongation": elongation,
        "fill": fill(sums, voxel_size),
        "border": border.astype(np.float64),
    }
    if scored:
        table["score"] = sums.added[:, 10] / voxels / 255
        table["max_score"] = sums.highest[:, 3] / 255
    for axis, name in enumerate("zyx"):
        table[f"{name}0"] = sums.lowest[:, axis].astype(np.float64)
        table[f"{name}1"] = top[:, axis] + 1.0
    return table


def fill(sums: Sums, voxel_size: Triple) -> Floats:
    """Return the volume of each object over that of its ellipsoid of inertia.

    1 for a solid ellipsoid, 0.89 for a box; 3 (3/5)^1.5 t/r for a shell of radius r and
    thickness t.
    """
    ellipsoid = SOLID * np.sqrt(_spread(sums, voxel_size).prod(axis=1))
    share: Floats = sums.voxels * float(np.prod(voxel_size)) / ellipsoid
    return share


def _spread(sums: Sums, voxel_size: Triple) -> Floats:
    """Return ``(N, 3)`` principal moments in A^2, ascending; a voxel is a cube, not a point."""
    mean = sums.added[:, 1:] / sums.voxels[:, None]
    centre, square = mean[:, :3], mean[:, 3:9]
    covariance = np.empty((len(sums), 3, 3))
    for column, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))):
        value = square[:, column] - centre[:, a] * centre[:, b] + (1 / 12 if a == b else 0)
        covariance[:, a, b] = covariance[:, b, a] = value * voxel_size[a] * voxel_size[b]
    spread: Floats = np.maximum(np.linalg.eigvalsh(covariance), 1e-9)
    return spread


def select(table: Table, config: PickConfig, voxel_size: Triple) -> NDArray[np.int64]:
    """Return the rows that are particles, best first.

    Order: score, where there is one; then volume; then position. A score is asked for only
    where there is one.
    """
    kept = np.ones(len(table["voxels"]), bool)
    for column, low, high in (
        ("volume_angstrom3", config.min_volume_angstrom3, config.max_volume_angstrom3),
        ("mass_kda", config.min_mass_kda, config.max_mass_kda),
        ("diameter_angstrom", config.min_diameter_angstrom, config.max_diameter_angstrom),
        ("score", config.min_score, None),
        ("elongation", None, config.max_elongation),
        ("fill", config.min_fill, config.max_fill),
        ("border", None, 0.5 if config.drop_border else None),
    ):
        if low is not None:
            kept &= table[column] >= low
        if high is not None:
            kept &= table[column] <= high
    rows = np.flatnonzero(kept)
    keys = [table[name][rows] for name in "xyz"] + [-table["voxels"][rows]]
    if "score" in table:
        keys.append(-table["score"][rows])
    rows = rows[np.lexsort(keys)]
    centres = np.stack([table[name][rows] for name in "zyx"], 1) * voxel_size
    return rows[suppress(centres, config.apart_angstrom)]


def suppress(
    points: Floats, distance: float, groups: NDArray[np.int64] | None = None
) -> NDArray[np.bool_]:
    """Tell which points stay where of two nearer than `distance` only the first one does.

    Greedy in the order of the points: a point that is gone suppresses nothing.

    Parameters
    ----------
    points
        ``(N, 3)``, best first, in the unit of `distance`.
    distance
        Points exactly so far apart both stay.
    groups
        Points of different groups leave each other alone.
    """
    alive = np.ones(len(points), bool)
    if distance <= 0 or len(points) < 2:
        return alive
    tree = KDTree(points)
    for start in range(0, len(points), BATCH):
        batch = start + np.flatnonzero(alive[start : start + BATCH])
        near = tree.query_ball_point(points[batch], distance)
        for number, others in zip(batch, near, strict=True):
            if not alive[number]:
                continue
            later = np.array([other for other in others if other > number], np.int64)
            if groups is not None:
                later = later[groups[later] == groups[number]]
            apart = np.sum((points[later] - points[number]) ** 2, axis=1)
            alive[later[apart < distance * distance]] = False
    return alive
