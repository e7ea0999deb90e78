"""A scene: what is in the ice, and the truth about it.

Complexes without overlap, membranes, filaments, gold beads and carbon in a slab. Knows structures
and densities; nothing of imaging.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tomoseg.geometry import Box, Index, whole
from tomoseg.simulate.density import (
    Patch,
    blur_sigma,
    random_rotation,
    render,
    rotation_between,
)
from tomoseg.simulate.filaments import curve, decorate, random_helix
from tomoseg.simulate.heavy import BEAD_RADII, carbon_film, gold_bead
from tomoseg.simulate.membranes import Lining, Membrane, from_mask, sheet, vesicle
from tomoseg.simulate.structures import Structure

POSITIONS = 24
"""Places that a rendered complex is tried at before it is given up."""

SUBUNIT_SIGMA = 9.0
"""Angstrom: the Gaussian extent of a site of a filament, coarser than a residue."""

PATIENCE = 12
"""Complexes given up in a row before a scene counts as full."""


class Kind(IntEnum):
    """What a voxel or an object is; gold beads and carbon film are not salient."""

    BACKGROUND = 0
    COMPLEX = 1
    MEMBRANE = 2
    FILAMENT = 3
    GOLD = 4
    CARBON = 5


@dataclass(frozen=True)
class SceneConfig:
    """What a scene holds.

    Parameters
    ----------
    shape
        Voxels z, y, x.
    voxel_size_angstrom
        Edge of a voxel.
    resolution_angstrom
        At which densities are rendered, see `tomoseg.simulate.density.blur_sigma`.
    crowding
        Share of the slab's voxels that complexes are to fill; packing stops before where
        no more fit (random packing jams at about 0.3).
    kinds
        Number of different complexes.
    thickness
        Share of the volume's z that is ice, the rest above and below is vacuum without
        objects.
    vesicles, sheets, filaments, beads
        Numbers of these.
    carbon
        Whether the edge of a hole in the carbon film lies in the volume.
    membrane_proteins
        Share of complexes that sit in a membrane, where there is one.
    patchiness
        0: complexes everywhere; 1: only in patches, with empty ice between.
    texture
        Standard deviation of fine structure in the ice (small molecules), dalton per
        cubic angstrom.
    """

    shape: Index = (128, 128, 128)
    voxel_size_angstrom: float = 10.0
    resolution_angstrom: float = 30.0
    crowding: float = 0.1
    kinds: int = 8
    thickness: float = 0.8
    vesicles: int = 1
    sheets: int = 0
    filaments: int = 2
    beads: int = 2
    carbon: bool = False
    membrane_proteins: float = 0.1
    patchiness: float = 0.0
    texture: float = 0.0


@dataclass(frozen=True, eq=False)
class Particle:
    """One object of a scene.

    Parameters
    ----------
    instance
        Its number in `Scene.instances`, from 1.
    kind
        What it is.
    name
        Of the structure, or the kind of membrane or filament.
    centre_zyx
        Centre of mass in voxels, voxel centres at integers.
    rotation
        3x3 matrix that turned the structure's sites (column vectors z, y, x); identity
        for objects that are made in place.
    """

    instance: int
    kind: Kind
    name: str
    centre_zyx: tuple[float, float, float]
    rotation: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))


@dataclass(frozen=True, eq=False)
class Scene:
    """Density and truth of a scene; arrays with axes z, y, x of one shape.

    Parameters
    ----------
    config
        What was asked for.
    density
        float32, dalton per cubic angstrom above ice, without beads and carbon.
    gold
        float32, the density of beads and carbon alone.
    classes
        uint8, a `Kind` for each voxel.
    instances
        uint16, the number of the object that owns each voxel; 0 is none.
    particles
        All objects, by instance.
    """

    config: SceneConfig
    density: NDArray[np.float32]
    gold: NDArray[np.float32]
    classes: NDArray[np.uint8]
    instances: NDArray[np.uint16]
    particles: list[Particle]

    @property
    def salient(self) -> NDArray[np.uint8]:
        """The mask that a segmentation should find: complexes, membranes and filaments."""
        return salient(self.classes)


def salient(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return 1 where a voxel's class is a salient one, 0 elsewhere."""
    return ((classes > Kind.BACKGROUND) & (classes < Kind.GOLD)).astype(np.uint8)


def build_scene(
    config: SceneConfig,
    structures: Sequence[Structure],
    random: np.random.Generator,
    *,
    membrane_mask: tuple[NDArray[np.bool_], float] | None = None,
) -> Scene:
    """Build a scene.

    Parameters
    ----------
    config
        What it holds.
    structures
        Complexes to draw from.
    random
        The only source of chance: the same state gives the same bits.
    membrane_mask
        A segmented membrane and its voxel size in angstrom, to take a piece of.
    """
    builder = _Builder(config, random)
    if config.carbon:
        builder.add_carbon()
    builder.add_membranes(membrane_mask)
    builder.add_filaments()
    builder.add_beads()
    chosen = random.permutation(len(structures))[: config.kinds]
    builder.add_complexes([structures[number] for number in chosen])
    return builder.finish()


class _Builder:
    """Adds objects to growing arrays; whoever comes first keeps its place."""

    def __init__(self, config: SceneConfig, random: np.random.Generator) -> None:
        self.config, self.random = config, random
        shape = config.shape
        self.density = np.zeros(shape, np.float32)
        self.gold = np.zeros(shape, np.float32)
        self.classes = np.zeros(shape, np.uint8)
        self.instances = np.zeros(shape, np.uint16)
        self.taken = np.zeros(shape, bool)
        self.particles: list[Particle] = []
        self.membranes: list[Membrane] = []
        self.sigma = blur_sigma(config.resolution_angstrom)
        half = max(1.0, config.thickness * shape[0] / 2)
        self.slab = (shape[0] / 2 - half, shape[0] / 2 + half)

    # Membranes, filaments, beads ------------------------------------------------------

    def add_membranes(self, mask: tuple[NDArray[np.bool_], float] | None) -> None:
        config, random, voxel = self.config, self.random, self.config.voxel_size_angstrom
        for _ in range(config.vesicles):
            largest = max(250.0, 0.6 * voxel * config.shape[2])
            radius = float(np.exp(random.uniform(np.log(200), np.log(largest))))
            rough = random.uniform(0, 0.12)
            membrane = vesicle(
                random,
                config.shape,
                voxel_size_angstrom=voxel,
                radius_angstrom=radius,
                roughness=rough,
            )
            if membrane and radius > 300 and random.uniform() < 0.3:
                layer = Lining(
                    depth_angstrom=random.uniform(50, 120),
                    sigma_angstrom=random.uniform(10, 25),
                    strength=random.uniform(0.1, 0.3),
                )
                membrane = replace(membrane, lining=layer)
            self._add_membrane(membrane, "vesicle")
        for _ in range(config.sheets):
            rough = random.uniform(0, 0.08)
            self._add_membrane(
                sheet(random, config.shape, voxel_size_angstrom=voxel, roughness=rough), "sheet"
            )
        if mask is not None:
            self._add_membrane(
                from_mask(
                    random,
                    mask[0],
                    config.shape,
                    mask_voxel_size_angstrom=mask[1],
                    voxel_size_angstrom=voxel,
                ),
                "segmented",
            )

    def _add_membrane(self, membrane: Membrane | None, name: str) -> None:
        if membrane is None or not membrane.mask.any():
            return
        patch = Patch(
            membrane.box.start,
            membrane.density(self.sigma_resolution, self.random.uniform(0.15, 0.4)),
        )
        self._place(patch, membrane.mask, Kind.MEMBRANE, name)
        self.taken[membrane.box.slices] |= np.abs(membrane.distance) < 40
        self.membranes.append(membrane)

    @property
    def sigma_resolution(self) -> float:
        return blur_sigma(self.config.resolution_angstrom, 0.0)

    def add_filaments(self) -> None:
        config, random, voxel = self.config, self.random, self.config.voxel_size_angstrom
        for _ in range(config.filaments):
            helix = random_helix(random)
            for _ in range(3):
                middle = random.uniform(0, np.array(config.shape))
                middle[0] = random.uniform(*self.slab)
                direction = random.normal(size=3) * (0.3, 1.0, 1.0)
                length = voxel * float(np.linalg.norm(config.shape)) * random.uniform(0.3, 1.2)
                start = middle * voxel - direction / np.linalg.norm(direction) * length / 2
                axis = curve(
                    random,
                    start,
                    direction,
                    length_angstrom=length,
                    persistence_angstrom=helix.persistence_angstrom,
                    step_angstrom=10.0,
                )
                sites, masses = decorate(random, axis, helix)
                near = self._near(sites / voxel)
                if near.sum() < 50:
                    continue
                sigma = blur_sigma(config.resolution_angstrom, SUBUNIT_SIGMA)
                patch = self._render(sites[near] / voxel, masses[near], sigma)
                mask = patch.mask
                if self._overlap(patch.corner, mask) < 0.05 * mask.sum():
                    self._place(patch, mask, Kind.FILAMENT, helix.name)
                    break

    def _near(self, sites_voxels: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Tell which sites lie in the slab or just outside the scene."""
        low, high = np.full(3, -4.0), np.array(self.config.shape) + 4.0
        low[0], high[0] = max(low[0], self.slab[0]), min(high[0], self.slab[1])
        return np.asarray(((sites_voxels > low) & (sites_voxels < high)).all(axis=1))

    def add_carbon(self) -> None:
        config = self.config
        film = carbon_film(
            self.random,
            config.shape,
            voxel_size_angstrom=config.voxel_size_angstrom,
            slab=self.slab,
            sigma=self.sigma_resolution / config.voxel_size_angstrom,
        )
        self._place(film.patch, film.mask, Kind.CARBON, "carbon film", into=self.gold)

    def add_beads(self) -> None:
        config, random, voxel = self.config, self.random, self.config.voxel_size_angstrom
        radius = float(random.choice(BEAD_RADII)) / voxel
        for _ in range(config.beads):
            centre = random.uniform(0, np.array(config.shape))
            size = radius * random.uniform(0.9, 1.1)
            patch, mask = gold_bead(centre, size, self.sigma_resolution / voxel)
            if self._overlap(patch.corner, mask) == 0:
                self._place(patch, mask, Kind.GOLD, "gold bead", centre=centre, into=self.gold)

    # Complexes ------------------------------------------------------------------------

    def add_complexes(self, structures: Sequence[Structure]) -> None:
        """Pack complexes until the share asked for is filled or no more fit."""
        config, random = self.config, self.random
        if not structures or config.crowding <= 0:
            return
        share = random.dirichlet(np.ones(len(structures)))
        slab_voxels = self.taken.size * config.thickness
        target, filled, failed = config.crowding * slab_voxels, 0.0, 0
        patches = self._patches()
        while filled < target and failed < PATIENCE:
            structure = structures[random.choice(len(structures), p=share)]
            in_membrane = self.membranes and random.uniform() < config.membrane_proteins
            place = self._in_membrane if in_membrane else self._in_ice(patches)
            voxels = place(structure)
            failed = 0 if voxels else failed + 1
            filled += voxels

    def _patches(self) -> NDArray[np.bool_] | None:
        """Return where complexes may lie on a coarse grid; None where that is everywhere."""
        if self.config.patchiness <= 0:
            return None
        coarse = tuple(-(-n // 8) for n in self.config.shape)
        field_ = ndimage.gaussian_filter(self.random.normal(size=coarse), 2.0, mode="nearest")
        return np.asarray(field_ >= np.quantile(field_, min(0.9, self.config.patchiness)))

    def _in_ice(self, patches: NDArray[np.bool_] | None) -> Callable[[Structure], float]:
        def place(structure: Structure) -> float:
            config, random = self.config, self.random
            rotation = random_rotation(random)
            offset = random.uniform(-0.5, 0.5, 3)
            patch = self._complex(structure, rotation, offset)
            mask = patch.mask
            reach = structure.radius / config.voxel_size_angstrom
            low, high = np.zeros(3), np.array(config.shape, float)
            low[0], high[0] = self.slab[0] + reach, self.slab[1] - reach
            if high[0] <= low[0]:
                return 0.0
            for _ in range(POSITIONS):
                position = np.round(random.uniform(low, high)).astype(int)
                if patches is not None:
                    coarse = np.minimum(position // 8, np.array(patches.shape) - 1)
                    if not patches[tuple(coarse)]:
                        continue
                moved = Patch(tuple(int(n) for n in np.add(patch.corner, position)), patch.density)
                if self._overlap(moved.corner, mask) == 0:
                    return self._place(
                        moved, mask, Kind.COMPLEX, structure.name, position + offset, rotation
                    )
            return 0.0

        return place

    def _in_membrane(self, structure: Structure) -> float:
        """Seat a complex on a membrane's mid-plane, its z axis along the normal."""
        random = self.random
        membrane = self.membranes[random.integers(len(self.membranes))]
        voxel = self.config.voxel_size_angstrom
        surface = np.argwhere(np.abs(membrane.distance) < 0.6 * voxel)
        if len(surface) == 0:
            return 0.0
        for _ in range(POSITIONS // 4):
            local = surface[random.integers(len(surface))]
            if (local < 1).any() or (local >= np.array(membrane.distance.shape) - 1).any():
                continue
            normal = _slope(membrane.distance, local)
            centre = local + membrane.box.start + normal * random.uniform(-30, 60) / voxel
            spin = rotation_between(np.array([0.0, 1.0, 0.0]), _on_circle(random))
            rotation = rotation_between(np.array([1.0, 0.0, 0.0]), normal) @ spin
            patch = self._complex(structure, rotation, centre)
            mask = patch.mask
            free = self._free_of_objects(patch.corner, mask)
            if free:
                return self._place(
                    patch, mask, Kind.COMPLEX, structure.name, centre, rotation, over_membrane=True
                )
        return 0.0

    def _complex(
        self, structure: Structure, rotation: NDArray[np.float64], centre: NDArray[np.floating]
    ) -> Patch:
        sites = structure.sites_zyx @ rotation.T / self.config.voxel_size_angstrom
        return self._render(sites + centre, structure.masses, self.sigma)

    def _render(
        self, sites_voxels: NDArray[np.floating], masses: NDArray[np.floating], sigma: float
    ) -> Patch:
        voxel = self.config.voxel_size_angstrom
        return render(sites_voxels, masses, voxel_size_angstrom=voxel, sigma_angstrom=sigma)

    # Placing --------------------------------------------------------------------------

    def _cut(self, corner: Index, shape: Index) -> tuple[Box, Box]:
        """Return the part of a patch that lies in the scene: in the scene, in the patch."""
        patch = Box(corner, tuple(a + n for a, n in zip(corner, shape, strict=True)))
        inside = patch.intersect(whole(self.config.shape))
        return inside, inside.relative_to(patch)

    def _overlap(self, corner: Index, mask: NDArray[np.bool_]) -> int:
        inside, local = self._cut(corner, mask.shape)
        return int(np.count_nonzero(self.taken[inside.slices] & mask[local.slices]))

    def _free_of_objects(self, corner: Index, mask: NDArray[np.bool_]) -> bool:
        inside, local = self._cut(corner, mask.shape)
        if inside.size == 0:
            return False
        classes = self.classes[inside.slices][mask[local.slices]]
        return bool(((classes == Kind.BACKGROUND) | (classes == Kind.MEMBRANE)).all())

    def _place(
        self,
        patch: Patch,
        mask: NDArray[np.bool_],
        kind: Kind,
        name: str,
        centre: NDArray[np.floating] | None = None,
        rotation: NDArray[np.float64] | None = None,
        *,
        into: NDArray[np.float32] | None = None,
        over_membrane: bool = False,
    ) -> float:
        """Add a patch, take its place and return the voxels that it owns."""
        inside, local = self._cut(patch.corner, mask.shape)
        target = self.density if into is None else into
        target[inside.slices] += patch.density[local.slices]
        self.taken[inside.slices] |= mask[local.slices]
        classes, instances = self.classes[inside.slices], self.instances[inside.slices]
        free = (classes == Kind.BACKGROUND) | (over_membrane & (classes == Kind.MEMBRANE))
        owned = mask[local.slices] & free
        count = int(owned.sum())
        if not count:
            return 0.0
        instance = len(self.particles) + 1
        classes[owned] = kind
        instances[owned] = instance
        if centre is None:
            centre = np.argwhere(owned).mean(axis=0) + inside.start
        z, y, x = (float(c) for c in centre)
        turned = np.eye(3) if rotation is None else rotation
        self.particles.append(Particle(instance, kind, name, (z, y, x), turned))
        return count

    def finish(self) -> Scene:
        """Add what the ice itself holds, and return the scene."""
        config = self.config
        if config.texture > 0:
            grain = ndimage.gaussian_filter(
                self.random.standard_normal(config.shape, np.float32),
                self.sigma / config.voxel_size_angstrom,
            )
            grain *= config.texture / grain.std()
            low, high = (int(np.clip(n, 0, config.shape[0])) for n in self.slab)
            self.density[low:high] += grain[low:high]
        return Scene(config, self.density, self.gold, self.classes, self.instances, self.particles)


def _slope(distance: NDArray[np.float32], index: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the unit normal of a field of distances at a voxel."""
    gradient = np.array(
        [
            distance[tuple(index + step)] - distance[tuple(index - step)]
            for step in np.eye(3, dtype=int)
        ],
        np.float64,
    )
    norm = float(np.linalg.norm(gradient))
    return gradient / norm if norm > 0 else np.array([1.0, 0.0, 0.0])


def _on_circle(random: np.random.Generator) -> NDArray[np.float64]:
    angle = random.uniform(0, 2 * np.pi)
    return np.array([0.0, np.cos(angle), np.sin(angle)])
