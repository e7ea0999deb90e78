"""Bodies filled with residue-like sites, alone or as the unit of a symmetric complex.

A body is a depth: how far inside its surface a point lies, in angstrom, negative outside.
Knows geometry, no complexes.
"""

from collections.abc import Callable

import numpy as np

from tomoseg.simulate.structures.model import ANGSTROM3_PER_DALTON
from tomoseg.simulate.structures.symmetry import Array, Symmetry

Depth = Callable[[Array], Array]
"""(M, 3) points, axes z, y, x, in angstrom, to (M,) depths in angstrom."""

SITE_MASS = 110.0
"""Dalton: the mean residue of proteins."""

SITE_VOLUME = SITE_MASS * ANGSTROM3_PER_DALTON
"""Cubic angstrom that a site takes up."""

_JITTER_ANGSTROM = 1.2
"""Less than a quarter of the 5.1 A between sites, so that they never meet."""

_WAVES = 10
"""Plane waves that make a rough surface."""


def lumps(centres: Array, radii: Array, frames: Array) -> Depth:
    """Unite ellipsoids.

    Parameters
    ----------
    centres
        (K, 3) in angstrom, axes z, y, x.
    radii
        (K, 3) half axes in angstrom.
    frames
        (K, 3, 3) orthogonal matrices; row i is the direction of half axis i.
    """

    def depth(points: Array) -> Array:
        deepest = np.full(len(points), -np.inf)
        for centre, half_axes, frame in zip(centres, radii, frames, strict=True):
            scaled = np.linalg.norm((points - centre) @ frame.T / half_axes, axis=1)
            np.maximum(deepest, half_axes.min() * (1 - scaled), out=deepest)
        return deepest

    return depth


def shell(middle: float, thickness: float, axes: tuple[int, ...]) -> Depth:
    """Return a spherical shell, over all axes, or a tube's wall, over the two across it.

    Parameters
    ----------
    middle
        Radius of the middle of the wall, in angstrom.
    thickness
        Of the wall, in angstrom.
    axes
        Over which the radius is measured.
    """

    def depth(points: Array) -> Array:
        from_middle: Array = np.abs(np.linalg.norm(points[:, axes], axis=1) - middle)
        return thickness / 2 - from_middle

    return depth


def rough(body: Depth, rng: np.random.Generator, amplitude: float) -> Depth:
    """Return `body` with a surface that waves at random over 15 to 40 angstrom.

    Parameters
    ----------
    body
        What is made rough.
    rng
        Of the waves.
    amplitude
        Root mean square of the waves, in angstrom.
    """
    directions = rng.normal(size=(_WAVES, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    waves = directions * (2 * np.pi / rng.uniform(15, 40, size=(_WAVES, 1)))
    phases = rng.uniform(0, 2 * np.pi, size=_WAVES)

    def depth(points: Array) -> Array:
        total = np.cos(points @ waves.T + phases).sum(axis=1)
        swell: Array = amplitude * np.sqrt(2 / _WAVES) * total
        return body(points) + swell

    return depth


def random_frames(rng: np.random.Generator, count: int) -> Array:
    """Draw (count, 3, 3) orthogonal matrices."""
    frames: Array = np.linalg.qr(rng.normal(size=(count, 3, 3)))[0]
    return frames


def fill(
    body: Depth,
    count: int,
    rng: np.random.Generator,
    *,
    centre: Array,
    reach: float,
    symmetry: Symmetry | None = None,
) -> Array:
    """Fill the deepest part of a body with sites at the density of protein.

    Parameters
    ----------
    body
        What is filled.
    count
        Sites wanted; the body grows or shrinks to hold just these.
    rng
        Of the sites' irregular lattice.
    centre
        (3,) in angstrom: where to look, and the centre of the unit under `symmetry`.
    reach
        How far from the centre the body goes at most, in angstrom.
    symmetry
        Whose unit this is; sites stay in the unit's own region.

    Returns
    -------
    NDArray
        (count, 3), axes z, y, x, in angstrom, the deepest first.
    """
    points = _lattice(rng, reach) + centre
    if symmetry is not None:
        points = points[symmetry.own(points, centre)]
    if len(points) < count:
        return fill(body, count, rng, centre=centre, reach=1.5 * reach, symmetry=symmetry)
    deepest = np.argsort(-body(points), kind="stable")[:count]
    return points[deepest]


def _lattice(rng: np.random.Generator, reach: float) -> Array:
    """Return jittered points of a cubic lattice within a ball of radius `reach`."""
    spacing = SITE_VOLUME ** (1 / 3)
    steps = np.arange(-np.ceil(reach / spacing), np.ceil(reach / spacing) + 1)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    points = (grid + rng.uniform(-0.5, 0.5, size=3)) * spacing
    points = points[(points**2).sum(axis=1) < reach**2]
    moved: Array = points + rng.uniform(-_JITTER_ANGSTROM, _JITTER_ANGSTROM, size=points.shape)
    return moved
