"""How each kind of invented complex is put together: subunits, symmetry, outline.

Not models of anything that lives: what counts is that sizes, symmetries and outlines vary
as much as those of real complexes do, at a protein's density. Knows no files.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tomoseg.simulate.structures.shapes import (
    SITE_MASS,
    SITE_VOLUME,
    Depth,
    fill,
    lumps,
    random_frames,
    rough,
    shell,
)
from tomoseg.simulate.structures.symmetry import Array, point_group, screw

_SMALLEST_SUBUNIT = 90
"""Residues."""

_RNA_TO_PROTEIN = 1.34
"""Mass of RNA over that of protein in the same volume."""

_ORIGIN = np.zeros(3)

Sites = tuple[Array, Array]
"""(N, 3) positions in angstrom, axes z, y, x, and (N,) masses in dalton."""

Maker = Callable[[np.random.Generator, int], Sites]
"""Makes a complex of about so many residues' mass."""


@dataclass(frozen=True)
class Family:
    """A kind of complexes.

    Parameters
    ----------
    name
        One word.
    make
        Makes one of them.
    lightest, heaviest
        In dalton: masses at which such complexes are made.
    weight
        How often, relative to the other families of the same mass.
    """

    name: str
    make: Maker
    lightest: float
    heaviest: float
    weight: float = 1.0


def _globular(rng: np.random.Generator, count: int) -> Sites:
    radius = _radius_of(count)
    return _protein(
        fill(_blob(rng, radius, _ORIGIN), count, rng, centre=_ORIGIN, reach=2.5 * radius)
    )


def _branched(rng: np.random.Generator, count: int) -> Sites:
    """Two to four arms from a hinge: L, V, Y, T, and antibodies."""
    arms = int(rng.integers(2, 5))
    radius = _radius_of(count / arms) * rng.uniform(0.7, 0.85)
    along = np.array([1.0, 2.3]) * radius
    centres = (_directions_apart(rng, arms)[:, None] * along[:, None]).reshape(-1, 3)
    radii = radius * rng.uniform(0.8, 1.25, size=centres.shape)
    body = rough(lumps(centres, radii, random_frames(rng, len(centres))), rng, 2.0)
    return _protein(fill(body, count, rng, centre=_ORIGIN, reach=4 * radius))


def _cyclic(rng: np.random.Generator, count: int) -> Sites:
    order = int(rng.integers(2, min(12, count // _SMALLEST_SUBUNIT) + 1))
    radius = _radius_of(count / order)
    centre = _on_cylinder(_ring_radius(rng, radius, order), height=0, azimuth=0)
    return _oligomer(rng, count, f"C{order}", centre, _blob(rng, radius, centre))


def _dihedral(rng: np.random.Generator, count: int) -> Sites:
    order = int(rng.integers(2, min(8, count // _SMALLEST_SUBUNIT // 2) + 1))
    radius = _radius_of(count / order / 2)
    height, azimuth = radius * rng.uniform(0.6, 0.9), rng.uniform(0, np.pi)
    centre = _on_cylinder(_ring_radius(rng, radius, order), height, azimuth)
    return _oligomer(rng, count, f"D{order}", centre, _blob(rng, radius, centre))


def _barrel(rng: np.random.Generator, count: int) -> Sites:
    """Stacked rings around a channel, as of GroEL and the proteasome."""
    order, domains = int(rng.integers(6, 9)), int(rng.integers(2, 4))
    radius = _radius_of(count / order / 2 / domains)
    ring = _ring_radius(rng, radius, order) * rng.uniform(1.0, 1.25)
    heights = radius * (0.45 + 1.45 * np.arange(domains))
    centres = np.stack([_on_cylinder(ring, h, rng.uniform(-0.3, 0.3)) for h in heights])
    radii = radius * rng.uniform(0.85, 1.3, size=centres.shape)
    body = rough(lumps(centres, radii, random_frames(rng, domains)), rng, 2.0)
    return _oligomer(rng, count, f"D{order}", centres.mean(axis=0), body)


def _rod(rng: np.random.Generator, count: int) -> Sites:
    """Subunits along a helix, around a channel or not."""
    units = max(6, round(count / rng.uniform(250, 600)))
    aspect, hollow = rng.uniform(3, 8), rng.uniform(0, 0.5)
    outer = float(np.cbrt(count * SITE_VOLUME / (2 * np.pi * aspect * (1 - hollow**2))))
    middle, wall = outer * (1 + hollow) / 2, outer * (1 - hollow)
    helix = screw(units, rise=2 * outer * aspect / units, twist=rng.uniform(0.4, 2.7))
    body = rough(shell(middle, wall, axes=(1, 2)), rng, 3.0)
    centre = _on_cylinder(middle, height=0, azimuth=0)
    each = round(count / units)
    unit = fill(body, each, rng, centre=centre, reach=1.5 * outer, symmetry=helix)
    return _protein(helix.images(unit)[:units].reshape(-1, 3))


def _cage(rng: np.random.Generator, count: int) -> Sites:
    """Shells of 12 to 24 subunits, as of ferritin."""
    return _hollow(rng, count, "TO"[int(rng.integers(2))], rng.uniform(25, 40))


def _capsid(rng: np.random.Generator, count: int) -> Sites:
    """Icosahedral shells of 18 to 37 nm, studded."""
    return _hollow(rng, count, "I", rng.uniform(14, 26))


def _ribosomal(rng: np.random.Generator, count: int) -> Sites:
    """Two lumpy halves with a cleft between, RNA inside and protein outside."""
    rna_share = rng.uniform(0.4, 0.65)
    count = round(count / (1 + rna_share * (_RNA_TO_PROTEIN - 1)))
    radius = _radius_of(count)
    large, small = radius * rng.uniform(0.8, 0.9), radius * rng.uniform(0.6, 0.72)
    apart = np.array([large + small, 0, 0]) * rng.uniform(0.6, 0.75)
    halves = _blob(rng, large, _ORIGIN, lobes=10), _blob(rng, small, apart, lobes=6)
    body = _parted(*halves, width=rng.uniform(3, 8))
    sites = fill(body, count, rng, centre=apart / 3, reach=2 * radius)
    masses = np.full(count, SITE_MASS)
    masses[: round(rna_share * count)] *= _RNA_TO_PROTEIN  # the deepest come first
    return sites, masses


FAMILIES = (
    Family("globular", _globular, 60e3, 160e3),
    Family("branched", _branched, 60e3, 500e3),
    Family("cyclic", _cyclic, 60e3, 1.2e6),
    Family("dihedral", _dihedral, 80e3, 2e6),
    Family("barrel", _barrel, 400e3, 2.5e6),
    Family("rod", _rod, 150e3, 3e6, weight=0.5),
    Family("cage", _cage, 300e3, 1e6, weight=0.5),
    Family("capsid", _capsid, 2e6, np.inf),
    Family("ribosomal", _ribosomal, 800e3, np.inf),
)


def _oligomer(
    rng: np.random.Generator, count: int, group: str, centre: Array, body: Depth
) -> Sites:
    """Fill the unit at `centre` with its part of `count` sites, and copy it."""
    symmetry = point_group(group)
    each = round(count / len(symmetry.shifts))
    reach = 3 * _radius_of(each) + 10
    unit = fill(body, each, rng, centre=centre, reach=reach, symmetry=symmetry)
    return _protein(symmetry.images(unit).reshape(-1, 3))


def _hollow(rng: np.random.Generator, count: int, group: str, thickness: float) -> Sites:
    # a shell's volume: 4 pi r^2 t + pi t^3 / 3
    radius = float(np.sqrt(count * SITE_VOLUME / (4 * np.pi * thickness) - thickness**2 / 12))
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    wall = rough(shell(radius, thickness, axes=(0, 1, 2)), rng, 3.0)
    stud = _blob(rng, thickness * rng.uniform(0.3, 0.9), direction * (radius + thickness / 2))

    def studded(points: Array) -> Array:
        return np.maximum(wall(points), stud(points))

    return _oligomer(rng, count, group, direction * radius, studded)


def _blob(rng: np.random.Generator, radius: float, centre: Array, lobes: int = 0) -> Depth:
    """Return a few overlapping ellipsoids with a pocket: bent, long or hollow by chance."""
    lobes = lobes or int(rng.integers(2, 6))
    size = 1.2 * radius / np.cbrt(lobes)
    centres = np.zeros((lobes, 3))
    for lobe in range(1, lobes):
        step = rng.normal(size=3)
        step *= size * rng.uniform(0.7, 1.2) / np.linalg.norm(step)
        centres[lobe] = centres[rng.integers(lobe)] + step
    centres += centre - centres.mean(axis=0)
    radii = size * rng.uniform(0.7, 1.4, size=(lobes, 3))
    united = lumps(centres, radii, random_frames(rng, lobes))
    pocket = lumps(
        centre + 0.4 * radius * rng.normal(size=(1, 3)),
        rng.uniform(0.1, 0.4, size=(1, 3)) * radius + 3,
        random_frames(rng, 1),
    )
    return rough(lambda points: np.minimum(united(points), -pocket(points)), rng, 2.0)


def _parted(one: Depth, other: Depth, width: float) -> Depth:
    """Unite two bodies with a cleft where neither is the deeper one."""

    def depth(points: Array) -> Array:
        first, second = one(points), other(points)
        cleft = np.maximum(0, width - np.abs(first - second))
        united: Array = np.maximum(first, second) - 3 * cleft
        return united

    return depth


def _protein(sites_zyx: Array) -> Sites:
    return sites_zyx, np.full(len(sites_zyx), SITE_MASS)


def _radius_of(count: float) -> float:
    """Return the radius in angstrom of a ball of so many sites."""
    return float(np.cbrt(count * SITE_VOLUME * 3 / (4 * np.pi)))


def _ring_radius(rng: np.random.Generator, radius: float, order: int) -> float:
    """Return the radius at which balls in a ring overlap a little."""
    return radius * rng.uniform(0.7, 0.92) / float(np.sin(np.pi / order))


def _on_cylinder(radius: float, height: float, azimuth: float) -> Array:
    return np.array([height, radius * np.cos(azimuth), radius * np.sin(azimuth)])


def _directions_apart(rng: np.random.Generator, count: int) -> Array:
    """Draw (count, 3) unit vectors with at least 55 degrees between any two."""
    while True:
        drawn = rng.normal(size=(count, 3))
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        cosines = drawn @ drawn.T - 2 * np.eye(count)
        if cosines.max() < np.cos(np.deg2rad(55)):
            return drawn
