"""Membranes: smooth closed or open surfaces, and the profile of a bilayer across them.

A membrane is a field of signed distances in angstrom from its mid-plane; density and
truth follow from the distance alone. Knows arrays only.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tomoseg.geometry import Box, Index, whole

HALF_THICKNESS = 28.0
"""Angstrom from the mid-plane to where a bilayer's density ends."""

FAR = 1e3
"""Angstrom: a distance beyond every interest."""


@dataclass(frozen=True)
class Lining:
    """A layer of protein inside a closed membrane, like the matrix of a virion.

    Parameters
    ----------
    depth_angstrom
        From the membrane's mid-plane to the layer's, inwards.
    sigma_angstrom
        Gaussian half-width of the layer.
    strength
        Its peak, dalton per cubic angstrom above ice.
    """

    depth_angstrom: float
    sigma_angstrom: float
    strength: float


@dataclass(frozen=True, eq=False)
class Membrane:
    """Signed distances from a membrane's mid-plane, within a box of the scene.

    Parameters
    ----------
    box
        Where `distance` lies in the scene.
    distance
        float32 in angstrom, negative inside or below.
    lining
        A layer inside, or None.
    """

    box: Box
    distance: NDArray[np.float32]
    lining: Lining | None = None

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Voxels of the bilayer and its lining."""
        mask = np.abs(self.distance) < HALF_THICKNESS
        if self.lining:
            depth = np.abs(self.distance + self.lining.depth_angstrom)
            mask |= depth < 1.8 * self.lining.sigma_angstrom
        return np.asarray(mask)

    def density(self, sigma_angstrom: float, strength: float) -> NDArray[np.float32]:
        """Return the bilayer's density: two sheets of heads 40 A apart, thin tails between.

        Parameters
        ----------
        sigma_angstrom
            Blur of the resolution.
        strength
            Peak of the sheets before the blur, dalton per cubic angstrom above ice;
            a lipid head group has about 0.25.
        """
        heads, tails = np.hypot(6.0, sigma_angstrom), np.hypot(9.0, sigma_angstrom)
        d = self.distance
        sheets = np.exp(-((np.abs(d) - 20) ** 2) / (2 * heads**2)) * 6.0 / heads
        between = np.exp(-(d**2) / (2 * tails**2)) * 9.0 / tails
        density = strength * (sheets - 0.15 * between)
        if self.lining:
            width = np.hypot(self.lining.sigma_angstrom, sigma_angstrom)
            peak = self.lining.strength * self.lining.sigma_angstrom / width
            density += peak * np.exp(-((d + self.lining.depth_angstrom) ** 2) / (2 * width**2))
        return np.asarray(density, np.float32)


def vesicle(
    random: np.random.Generator,
    shape: Index,
    *,
    voxel_size_angstrom: float,
    radius_angstrom: float,
    roughness: float,
) -> Membrane | None:
    """Return a closed, smoothly deformed shell with a random centre, or None outside.

    Parameters
    ----------
    random
        Source of chance.
    shape
        Of the scene, voxels z, y, x.
    voxel_size_angstrom
        Edge of a voxel.
    radius_angstrom
        Mean radius of the mid-plane.
    roughness
        Standard deviation of the radius over its mean; 0 is an ellipsoid.
    """
    radius = radius_angstrom / voxel_size_angstrom
    centre = random.uniform(-0.3 * radius, np.array(shape) + 0.3 * radius)
    axes = random.uniform(0.75, 1.3, 3)
    reach = radius * axes.max() * (1 + 3 * roughness) + HALF_THICKNESS / voxel_size_angstrom + 2
    box = _box_around(centre, reach, shape)
    if min(box.shape) < 3:
        return None
    p = _positions(box, centre) / axes[:, None, None, None]
    norm = np.sqrt((p**2).sum(axis=0)) + 1e-6
    unit = p / norm
    waves = np.zeros_like(norm)
    for _ in range(4):
        direction = random.normal(size=3)
        direction *= random.uniform(1.0, 4.0) / np.linalg.norm(direction)
        phase = random.uniform(0, 2 * np.pi)
        waves += np.sin(np.tensordot(direction, unit, 1) + phase)
    level = norm - radius * (1 + roughness * waves / np.sqrt(2))
    return Membrane(box, _as_distance(level, voxel_size_angstrom))


def sheet(
    random: np.random.Generator, shape: Index, *, voxel_size_angstrom: float, roughness: float
) -> Membrane:
    """Return an open, smoothly waved sheet through the whole scene.

    Parameters
    ----------
    random
        Source of chance.
    shape
        Of the scene, voxels z, y, x.
    voxel_size_angstrom
        Edge of a voxel.
    roughness
        Height of the waves over their wavelength.
    """
    box = whole(shape)
    normal = random.normal(size=3) * (0.5, 1.0, 1.0)  # more often upright than flat
    normal /= np.linalg.norm(normal)
    p = _positions(box, random.uniform(0.2, 0.8, 3) * shape)
    level = np.tensordot(normal, p, 1)
    for _ in range(3):
        wavelength = random.uniform(40, 160)
        direction = random.normal(size=3)
        direction -= (direction @ normal) * normal
        direction *= 2 * np.pi / wavelength / np.linalg.norm(direction)
        wave = np.sin(np.tensordot(direction, p, 1) + random.uniform(0, 2 * np.pi))
        level = level + roughness * wavelength * wave
    return Membrane(box, _as_distance(level, voxel_size_angstrom))


def from_mask(
    random: np.random.Generator,
    mask: NDArray[np.bool_],
    shape: Index,
    *,
    mask_voxel_size_angstrom: float,
    voxel_size_angstrom: float,
) -> Membrane | None:
    """Return a random piece of a segmented membrane, or None where the piece is empty.

    Parameters
    ----------
    random
        Source of chance.
    mask
        Voxels of membranes, axes z, y, x.
    shape
        Of the scene, voxels z, y, x.
    mask_voxel_size_angstrom, voxel_size_angstrom
        Edges of the mask's and the scene's voxels.
    """
    factor = voxel_size_angstrom / mask_voxel_size_angstrom
    start = random.uniform(0, np.maximum(0, np.array(mask.shape) - factor * np.array(shape)))
    flips = random.integers(0, 2, 3)
    axes = [a + factor * np.arange(n) for a, n in zip(start, shape, strict=True)]
    axes = [axis[::-1] if flip else axis for axis, flip in zip(axes, flips, strict=True)]
    grid = np.meshgrid(*axes, indexing="ij")
    values = ndimage.map_coordinates(mask.astype(np.float32), grid, order=1, mode="constant")
    piece = values > 0.5
    if piece.sum() < 100:
        return None
    inside = ndimage.distance_transform_edt(piece).astype(np.float32)
    outside = ndimage.distance_transform_edt(~piece).astype(np.float32)
    # masks are thicker or thinner than a bilayer: the mid-plane is half a mean thickness in
    half = float(np.percentile(inside[piece], 90))
    distance = np.where(piece, half - np.minimum(inside, half), half + outside - 0.5)
    return Membrane(whole(shape), (distance * voxel_size_angstrom).astype(np.float32))


def _as_distance(level: NDArray[np.floating], voxel_size_angstrom: float) -> NDArray[np.float32]:
    """Turn a level function into distances near its zero: level over its slope."""
    slope = np.sqrt(sum(np.square(g) for g in np.gradient(level)))
    distance = level / np.maximum(slope, 0.2) * voxel_size_angstrom
    return np.asarray(np.clip(distance, -FAR, FAR), np.float32)


def _box_around(centre: NDArray[np.floating], reach: float, shape: Index) -> Box:
    low = np.floor(centre - reach).astype(int)
    high = np.ceil(centre + reach).astype(int) + 1
    box = Box(tuple(int(n) for n in low), tuple(int(n) for n in high))
    return box.intersect(whole(shape))


def _positions(box: Box, centre: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return ``(3, *box.shape)`` positions of the voxels relative to `centre`, in voxels."""
    axes = [np.arange(a, b) - c for a, b, c in zip(box.start, box.stop, centre, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
