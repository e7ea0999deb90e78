"""Filaments: subunits repeated on a helix along a smooth curve.

Returns sites of mass in angstrom; knows nothing of grids.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomoseg.simulate.structures import ANGSTROM3_PER_DALTON

SITES_PER_SUBUNIT = 14


@dataclass(frozen=True)
class Helix:
    """A helical lattice of subunits.

    Parameters
    ----------
    name
        Of the kind of filament.
    radius_angstrom
        From the axis to the subunits' centres.
    rise_angstrom, twist_degrees
        Step along and turn about the axis from one subunit to the next.
    subunit_dalton
        Mass of a subunit.
    persistence_angstrom
        Length over which the axis forgets its direction.
    """

    name: str
    radius_angstrom: float
    rise_angstrom: float
    twist_degrees: float
    subunit_dalton: float
    persistence_angstrom: float


MICROTUBULE = Helix("microtubule", 112.0, 40.5 / 13, 9 * 360 / 13, 50_000, 1e6)
"""13 protofilaments of monomers 40.5 A apart, on a 3-start helix (three steps of the
one-start lattice lead to the neighbouring protofilament, 9.3 A up)."""

ACTIN = Helix("actin", 24.0, 27.5, -166.7, 42_000, 9e4)


def random_helix(random: np.random.Generator) -> Helix:
    """Return a microtubule, an actin filament, or a helix nobody has seen."""
    choice = random.uniform()
    if choice < 0.2:
        return MICROTUBULE
    if choice < 0.45:
        return ACTIN
    radius = float(random.choice([0.0, random.uniform(8, 30), random.uniform(30, 80)]))
    per_turn = max(1.0, 2 * np.pi * radius / random.uniform(35, 60))
    mass = random.uniform(15_000, 60_000) if radius else random.uniform(8_000, 25_000)
    pitch = random.uniform(30, 60)
    return Helix(
        "helix",
        radius,
        pitch / per_turn if radius else random.uniform(15, 30),
        360 / per_turn + random.uniform(-10, 10),
        mass,
        float(np.exp(random.uniform(np.log(500), np.log(1e5)))),
    )


def curve(
    random: np.random.Generator,
    start: NDArray[np.floating],
    direction: NDArray[np.floating],
    *,
    length_angstrom: float,
    persistence_angstrom: float,
    step_angstrom: float,
) -> NDArray[np.float64]:
    """Return ``(N, 3)`` points of a worm-like chain, evenly spaced, in angstrom.

    The direction diffuses so that its correlation decays over the persistence length; the
    rate of turning is smoothed, so that the curve has no kinks.
    """
    count = max(2, int(length_angstrom / step_angstrom))
    turn = random.normal(size=(count, 3)) * np.sqrt(step_angstrom / persistence_angstrom)
    width = max(1, int(60 / step_angstrom))
    kernel = np.ones(width) / np.sqrt(width)
    turn = np.stack([np.convolve(axis, kernel, mode="same") for axis in turn.T], axis=1)
    tangents = np.empty((count, 3))
    tangent = direction / np.linalg.norm(direction)
    for number in range(count):
        tangent = tangent + turn[number] - (turn[number] @ tangent) * tangent
        tangent = tangent / np.linalg.norm(tangent)
        tangents[number] = tangent
    return np.asarray(start + np.cumsum(tangents, axis=0) * step_angstrom)


def decorate(
    random: np.random.Generator, axis: NDArray[np.floating], helix: Helix
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return sites ``(N, 3)`` in angstrom and masses ``(N,)`` in dalton along an axis.

    Parameters
    ----------
    random
        Decides the shape of the subunit and the phase of the helix.
    axis
        ``(M, 3)`` points of a smooth curve, evenly spaced, in angstrom.
    helix
        The lattice.
    """
    tangents = np.gradient(axis, axis=0)
    lengths = np.linalg.norm(tangents, axis=1)
    tangents /= lengths[:, None]
    normals = _parallel_transport(random, tangents)
    binormals = np.cross(tangents, normals)
    arc = np.concatenate([[0.0], np.cumsum(lengths[1:])])
    stations = np.arange(0, arc[-1], helix.rise_angstrom)
    angle = np.deg2rad(helix.twist_degrees) * np.arange(len(stations)) + random.uniform(
        0, 2 * np.pi
    )
    at = [np.stack([np.interp(stations, arc, v[:, k]) for k in range(3)], 1)
          for v in (axis, normals, binormals, tangents)]  # fmt: skip
    centre, normal, binormal, tangent = at
    outward = np.cos(angle)[:, None] * normal + np.sin(angle)[:, None] * binormal
    around = np.cross(tangent, outward)
    # a subunit is a ball at protein density, its sites the same in every copy
    size = (helix.subunit_dalton * ANGSTROM3_PER_DALTON * 3 / 4 / np.pi) ** (1 / 3)
    sites = random.normal(size=(SITES_PER_SUBUNIT, 3))
    sites *= (size * random.uniform(size=SITES_PER_SUBUNIT) ** (1 / 3)
              / np.linalg.norm(sites, axis=1))[:, None]  # fmt: skip
    sites -= sites.mean(axis=0)
    frame = np.stack([outward, around, tangent], axis=1)  # (stations, 3, 3)
    positions = centre[:, None] + helix.radius_angstrom * outward[:, None] + sites @ frame
    masses = np.full(positions.shape[:2], helix.subunit_dalton / SITES_PER_SUBUNIT)
    return positions.reshape(-1, 3).astype(np.float32), masses.ravel().astype(np.float32)


def _parallel_transport(
    random: np.random.Generator, tangents: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return normals along a curve that turn about it as little as can be."""
    normal = np.cross(tangents[0], random.normal(size=3))
    normals = np.empty(tangents.shape)
    for number, tangent in enumerate(tangents):
        normal = normal - (normal @ tangent) * tangent
        normal = normal / np.linalg.norm(normal)
        normals[number] = normal
    return normals
