"""Scenes that share no code with the simulator that training data come from.

Complexes rendered by histogram and blur; membranes
and filaments from distance transforms; plain bodies that no training set holds. Densities
are in units of a protein's interior.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from tomoseg.geometry import Index
from tomoseg.simulate.structures import Structure

SITE_BLUR = 4.0
"""Angstrom: Gaussian extent of one site of mass."""

PROTEIN_VOLUME = 1.21
"""Cubic angstrom that one dalton of protein takes."""

TRUTH_LEVEL = 0.2
"""An object is where its own density exceeds this share of its maximum."""

TRIES, PATIENCE = 25, 40
GOLD = 12.0

Array = NDArray[Any]


@dataclass(frozen=True)
class Content:
    """What a scene holds: share of its voxels in complexes, and numbers of other objects."""

    crowding: float
    kinds: int = 6
    vesicles: int = 0
    filaments: int = 0
    bodies: int = 0
    beads: int = 0


@dataclass(frozen=True)
class Scene:
    """Arrays z, y, x of one shape.

    Parameters
    ----------
    density
        float32, salient objects positive, without the beads.
    beads
        float32, gold: seen, and not salient.
    truth
        uint8, 1 in salient objects.
    """

    density: Array
    beads: Array
    truth: Array


def build(
    content: Content,
    models: Sequence[Structure],
    random: np.random.Generator,
    *,
    shape: Index,
    voxel_size: float,
    resolution: float,
) -> Scene:
    """Fill a volume: large objects first, complexes between them by rejection.

    Parameters
    ----------
    content
        What it holds.
    models
        Complexes to draw from.
    shape, voxel_size, resolution
        Voxels z, y, x; angstrom; angstrom.
    """
    canvas = _Canvas(shape, random)
    blur = float(np.hypot(SITE_BLUR, resolution / 4)) / voxel_size
    for count, make in (
        (content.vesicles, _vesicle),
        (content.filaments, _filament),
        (content.bodies, _body),
    ):
        for _ in range(count):
            _place(canvas, functools.partial(make, random, shape, voxel_size, blur))
    for _ in range(content.beads):
        _place(canvas, lambda: _ball(50.0 / voxel_size, GOLD, blur), salient=False)
    _fill(canvas, content, models, voxel_size, blur)
    return Scene(canvas.density, canvas.beads, canvas.truth.astype(np.uint8))


def _fill(
    canvas: "_Canvas", content: Content, models: Sequence[Structure], voxel_size: float, blur: float
) -> None:
    """Add complexes until their share is reached or no more fit."""
    if not content.crowding:
        return
    random = canvas.random
    kinds = random.choice(len(models), min(content.kinds, len(models)), replace=False)
    target, failed = content.crowding * canvas.truth.size, 0
    while target > 0 and failed < PATIENCE:
        chosen = models[kinds[random.integers(len(kinds))]]
        body = _complex(chosen, random, voxel_size, blur)
        placed = canvas.try_to_add(body, _positions(canvas, body.shape))
        target, failed = target - placed, 0 if placed else failed + 1


def _place(canvas: "_Canvas", make: Callable[[], Array], *, salient: bool = True) -> None:
    for _ in range(PATIENCE):
        body = make()
        if canvas.try_to_add(body, _positions(canvas, body.shape), salient=salient):
            return


def _positions(canvas: "_Canvas", body: Index) -> Array:
    """Draw corners such that the middle of a body lies in the volume."""
    size = np.array(body)
    return np.rint(canvas.random.uniform(0, canvas.truth.shape, (TRIES, 3)) - size / 2).astype(int)


class _Canvas:
    """Grows density and truth; bodies keep a voxel of ice between them."""

    def __init__(self, shape: Index, random: np.random.Generator) -> None:
        self.random = random
        self.density = np.zeros(shape, np.float32)
        self.beads = np.zeros(shape, np.float32)
        self.truth = np.zeros(shape, bool)
        self._taken = np.zeros(shape, bool)

    def try_to_add(self, body: Array, corners: Array, *, salient: bool = True) -> int:
        """Add a body at the first corner where it touches nothing; return its voxels."""
        solid = body > TRUTH_LEVEL * body.max()
        for corner in corners:
            here, there = _common(corner, body.shape, self.truth.shape)
            if not solid[there].any() or (self._taken[here] & solid[there]).any():
                continue
            (self.density if salient else self.beads)[here] += body[there]
            if salient:
                self.truth[here] |= solid[there]
            self._taken[here] |= ndimage.binary_dilation(solid[there])
            return int(solid[there].sum())
        return 0


def _common(
    corner: Array, body: Index, whole: Index
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return what a body at `corner` and the whole share: in the whole, and in the body."""
    low = np.clip(corner, 0, whole)
    high = np.clip(corner + body, low, whole)
    here = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    there = tuple(slice(a, b) for a, b in zip(low - corner, high - corner, strict=True))
    return here, there


def _complex(
    model: Structure, random: np.random.Generator, voxel_size: float, blur: float
) -> Array:
    """Render a complex, turned at random: histogram on half voxels, blurred, and binned."""
    turned = Rotation.random(rng=random).apply(model.sites_zyx) / voxel_size
    turned += random.uniform(-0.5, 0.5, 3)
    half = int(np.ceil(np.abs(turned).max() + 3 * blur)) + 1
    edges = np.linspace(-half, half, 4 * half + 1)
    mass, _ = np.histogramdd(turned, bins=(edges,) * 3, weights=model.masses)
    fine = ndimage.gaussian_filter(mass, 2 * blur, mode="constant")
    binned = fine.reshape(2 * half, 2, 2 * half, 2, 2 * half, 2).sum((1, 3, 5))
    return (binned * PROTEIN_VOLUME / voxel_size**3).astype(np.float32)


def _vesicle(random: np.random.Generator, shape: Index, voxel_size: float, blur: float) -> Array:
    """A bilayer on the surface of a dented ellipsoid, by the distance to it."""
    radii = random.uniform(180, 420) / voxel_size * random.uniform(0.75, 1.2, 3)
    grid = _grid(np.ceil(radii * 1.3 + 6).astype(int))
    reach = np.sqrt(sum((g / r) ** 2 for g, r in zip(grid, radii, strict=True)))
    dents = ndimage.gaussian_filter(random.normal(size=reach.shape), min(radii) / 2)
    inside = reach + 0.06 * dents / dents.std() < 1
    distance = voxel_size * (
        ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    )
    distance = ndimage.gaussian_filter(distance, 1.0)  # steps of whole voxels are no surface
    heads = sum(np.exp(-(((distance - at) / 7) ** 2) / 2) for at in (-18.0, 18.0))
    core = np.exp(-((distance / 11) ** 2) / 2)
    bilayer = ndimage.gaussian_filter(heads - 0.15 * core, blur)
    return bilayer.clip(0).astype(np.float32)


def _filament(random: np.random.Generator, shape: Index, voxel_size: float, blur: float) -> Array:
    """A rod bent to a parabola, at every second draw hollow, its wall uneven."""
    length = random.uniform(0.6, 1.3) * shape[1]
    t = np.linspace(-0.5, 0.5, int(4 * length))
    bend = random.uniform(-0.25, 0.25) * length
    flat = np.stack([0 * t, bend * (4 * t**2 - 0.5), length * t], 1)
    turn = Rotation.from_euler("zyx", [0, random.uniform(-12, 12), random.uniform(0, 360)], True)
    points = turn.apply(flat)
    hollow = random.random() < 0.5
    radius = (random.uniform(105, 125) if hollow else random.uniform(32, 55)) / voxel_size
    half = np.ceil(np.abs(points).max(0) + radius + 3 * blur + 2).astype(int)
    line = np.ones(2 * half + 1, bool)
    line[tuple((np.rint(points).astype(int) + half).T)] = False
    distance = ndimage.distance_transform_edt(line)
    solid = distance < radius
    if hollow:
        solid &= distance > radius - 45 / voxel_size
    grain = ndimage.gaussian_filter(random.normal(size=solid.shape), 20 / voxel_size)
    rod = solid * (0.8 + 0.25 * grain / grain.std()).clip(0.2, 1.2)
    return ndimage.gaussian_filter(rod, blur).astype(np.float32)


def _body(random: np.random.Generator, shape: Index, voxel_size: float, blur: float) -> Array:
    """A ball, a brick, a ring or a short rod of 50 to 130 angstrom radius, turned at random."""
    radius = random.uniform(50, 130) / voxel_size
    grid = np.stack(_grid(np.full(3, int(np.ceil(1.8 * radius + 3 * blur)))), -1)
    z, y, x = np.moveaxis(Rotation.random(rng=random).apply(grid.reshape(-1, 3)), 1, 0)
    flat = np.hypot(y, x)
    solids = (
        np.sqrt(flat**2 + z**2) < radius,
        np.max([np.abs(z) / 0.5, np.abs(y) / 0.8, np.abs(x)], 0) < radius,
        np.hypot(flat - 0.75 * radius, z) < 0.3 * radius,
        (flat < 0.35 * radius) & (np.abs(z) < 1.5 * radius),
    )
    solid = solids[random.integers(len(solids))].reshape(grid.shape[:3])
    return ndimage.gaussian_filter(0.8 * solid.astype(np.float32), blur)


def _ball(radius: float, value: float, blur: float) -> Array:
    grid = _grid(np.full(3, int(np.ceil(radius + 3 * blur)) + 1))
    solid = np.sqrt(sum(g**2 for g in grid)) < radius
    return ndimage.gaussian_filter(value * solid.astype(np.float32), blur)


def _grid(half: Array) -> list[Array]:
    """Return coordinates z, y, x of a box of ``2 * half + 1`` voxels around 0."""
    return list(np.meshgrid(*(np.arange(-n, n + 1.0) for n in half), indexing="ij"))
