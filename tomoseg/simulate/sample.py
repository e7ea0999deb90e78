"""One simulated tomogram with its truth, a pure function of (configuration, number).

Draws a recipe, builds the scene, images it, and brings it onto the grid asked for.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.restoration import denoise_tv_chambolle

from tomoseg.config import BLOCK, Contrast
from tomoseg.errors import InputError, RequestError
from tomoseg.geometry import Index
from tomoseg.intensity import robust_location_scale
from tomoseg.simulate.imaging import ImagingConfig, Tomogram, image_scene
from tomoseg.simulate.recipes import (
    Look,
    Recipe,
    paper_recipe,
    random_recipe,
    standard_recipe,
    without_objects,
)
from tomoseg.simulate.scene import Kind, Particle, Scene, build_scene, salient
from tomoseg.simulate.structures import Structure, load_library, procedural
from tomoseg.simulate.volume_imaging import image_volume

SLICE = 200
PROCEDURAL = 60
"""Built-in complexes that stand in, or join, a library of real ones."""

SPLIT_SEEDS = {"train": 11, "validation": 22, "test": 33}


def _require(condition: bool, what: str, expected: object, got: object) -> None:
    if not condition:
        raise RequestError(f"{what}: expected {expected}, got {got}.")


@dataclass(frozen=True)
class DatasetConfig:
    """Everything that decides the bits of a data set.

    Parameters
    ----------
    count
        Number of tomograms.
    shape
        Of each, voxels z, y, x.
    voxel_size_angstrom
        Of each.
    look
        ``random``: everything varies; ``standard``: one plain microscope; ``paper``:
        complexes alone, imaged in the volume domain.
    snr
        Of looks ``standard`` and ``paper``: the tomograms take turns; ``random`` draws
        its own.
    split
        ``train``, ``validation`` or ``test``: which complexes of the library.
    structures
        Folder of site models (``models.npz``, ``index.tsv``); None for the built-in
        procedural complexes alone.
    membranes
        Archive (``.npz``) of segmented membranes with `membrane_voxel_size_angstrom`;
        None for surfaces made here alone.
    membrane_voxel_size_angstrom
        Of the segmented membranes.
    volumes, slices
        Crops to export from each tomogram: 64^3 volumes, and 200^2 slices along the
        three axes, flipped at random.
    seed
        Of every random choice.
    contrast
        ``dark``: objects are darker than the ice, as in raw cryo-ET density; ``light``.
    empty
        Whether to leave every object out: ice and noise alone.
    """

    count: int = 1
    shape: Index = (128, 128, 128)
    voxel_size_angstrom: float = 10.0
    look: Look = "random"
    snr: tuple[float, ...] = (0.1, 0.5, 1.0, 1.5)
    split: str = "train"
    structures: str | None = None
    membranes: str | None = None
    membrane_voxel_size_angstrom: float = 13.68
    volumes: int = 0
    slices: int = 0
    seed: int = 0
    contrast: Contrast = "dark"
    empty: bool = False

    def __post_init__(self) -> None:
        _require(self.count >= 1, "count", "at least 1", self.count)
        _require(
            len(self.shape) == 3 and min(self.shape) >= 16, "shape", "three edges of 16 or more",
            self.shape,
        )  # fmt: skip
        _require(self.voxel_size_angstrom > 0, "voxel size", "above 0", self.voxel_size_angstrom)
        _require(self.look in get_args(Look), "look", get_args(Look), self.look)
        _require(bool(self.snr) and min(self.snr) > 0, "snr", "numbers above 0", self.snr)
        _require(self.split in SPLIT_SEEDS, "split", tuple(SPLIT_SEEDS), self.split)
        _require(min(self.volumes, self.slices) >= 0, "crops", "0 or more", self.volumes)
        _require(self.contrast in get_args(Contrast), "contrast", get_args(Contrast), self.contrast)
        _require(
            self.volumes == 0 or min(self.shape) >= BLOCK, "shape", f"edges of {BLOCK} or more",
            self.shape,
        )  # fmt: skip
        _require(
            self.slices == 0 or min(self.shape) >= SLICE, "shape", f"edges of {SLICE} or more",
            self.shape,
        )  # fmt: skip

    @property
    def sign(self) -> float:
        """What turns the contrast over where objects are dark: -1 or 1."""
        return -1.0 if self.contrast == "dark" else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DatasetConfig":
        """Build from what `to_dict` returned, also after JSON made lists of its tuples."""
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**plain)


DEMO = DatasetConfig(shape=(96, 192, 192), look="standard", snr=(1.0,), split="test", seed=4)

PRESETS: dict[str, DatasetConfig] = {
    "demo": DEMO,
    "standard": DatasetConfig(count=20, look="standard", snr=(0.5, 1.5), split="test"),
    "pretrain": DatasetConfig(count=300),
    # 72,000 volumes of 64^3 and 36,000 slices of 200^2, of 1,000 tomograms
    "paper": DatasetConfig(count=1000, shape=(SLICE,) * 3, look="paper", volumes=72, slices=36),
}


@dataclass(frozen=True, eq=False)
class Sample:
    """One simulated tomogram with its truth; arrays of one shape, axes z, y, x.

    Parameters
    ----------
    tomogram
        float32, median 0 and robust standard deviation 1, of the contrast asked for.
    classes
        uint8, a `tomoseg.simulate.scene.Kind` for each voxel.
    instances
        uint16, the object that owns each voxel; 0 is none.
    particles
        The objects, centres in voxels of these arrays.
    record
        Recipe and realised figures, plain JSON values.
    """

    tomogram: NDArray[np.float32]
    classes: NDArray[np.uint8]
    instances: NDArray[np.uint16]
    particles: list[Particle]
    record: dict[str, Any]

    @property
    def salient(self) -> NDArray[np.uint8]:
        """1 where an object is that a segmentation should find."""
        return salient(self.classes)


def simulate(config: DatasetConfig, number: int) -> Sample:
    """Make tomogram `number` of a data set.

    Raises
    ------
    InputError
        Where the structures or membranes can't be read.
    """
    random = np.random.default_rng([config.seed, SPLIT_SEEDS[config.split], number])
    recipe = _recipe(config, number, random)
    return make(without_objects(recipe) if config.empty else recipe, config, random)


def make(recipe: Recipe, config: DatasetConfig, random: np.random.Generator) -> Sample:
    """Make one tomogram by a recipe, on the grid that `config` asks for.

    Parameters
    ----------
    recipe
        What it holds and how it is imaged.
    config
        Grid, contrast and library; its `look`, `snr` and `seed` do not matter.
    random
        The only source of chance.
    """
    membrane = None
    if config.look == "random" and config.membranes and random.uniform() < 0.15:
        membrane = _piece(config, random)
    structures = _structures(config.structures, config.split)
    scene = build_scene(recipe.scene, structures, random, membrane_mask=membrane)
    if isinstance(recipe.imaging, ImagingConfig):
        tomogram = image_scene(scene, recipe.imaging, random)
    else:
        tomogram = image_volume(scene, recipe.imaging, random)
    return _finish(scene, tomogram, recipe, config)


def _recipe(config: DatasetConfig, number: int, random: np.random.Generator) -> Recipe:
    snr = config.snr[number % len(config.snr)]
    if config.look == "standard":
        return standard_recipe(random, config.shape, config.voxel_size_angstrom, snr)
    if config.look == "paper":
        return paper_recipe(random, config.shape, config.voxel_size_angstrom, snr)
    return random_recipe(random, config.shape, config.voxel_size_angstrom)


@lru_cache(maxsize=4)
def _structures(folder: str | None, split: str) -> Sequence[Structure]:
    """Return the complexes of a split: real ones where there are some, and procedural ones."""
    built_in = procedural(PROCEDURAL, SPLIT_SEEDS[split])
    if folder is None:
        return built_in
    real = load_library(Path(folder), split)
    return [*real, *built_in] if split == "train" else real


@lru_cache(maxsize=1)
def _membranes(path: str) -> list[NDArray[np.bool_]]:
    try:
        with np.load(path) as archive:
            masks = [archive[name] != 0 for name in sorted(archive.files)]
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: expected an .npz archive of membrane masks ({error})."
        ) from error
    return [mask for mask in masks if mask.ndim == 3]


def _piece(
    config: DatasetConfig, random: np.random.Generator
) -> tuple[NDArray[np.bool_], float] | None:
    masks = _membranes(str(config.membranes))
    if not masks:
        return None
    mask = masks[random.integers(len(masks))]
    return mask, config.membrane_voxel_size_angstrom * float(random.uniform(0.8, 1.2))


def _finish(scene: Scene, tomogram: Tomogram, recipe: Recipe, config: DatasetConfig) -> Sample:
    """Bring a tomogram onto the grid asked for, filter and scale it, and describe it."""
    values, classes, instances = tomogram.values, scene.classes, scene.instances
    scale = recipe.scene.voxel_size_angstrom / config.voxel_size_angstrom
    particles = scene.particles
    if recipe.scene.shape != config.shape:
        values = _resample(values, config.shape, scale)
        classes, instances = _resample_labels(classes, instances, config.shape, scale)
        particles = [
            dataclasses.replace(p, centre_zyx=_move(p.centre_zyx, scale)) for p in particles
        ]
    else:
        scale = 1.0
    if recipe.denoise == "median":
        values = ndimage.median_filter(values, 3, mode="nearest")
    elif recipe.denoise == "total variation":
        values = denoise_tv_chambolle(  # type: ignore[no-untyped-call]
            values, weight=1.5 * float(values.std()), max_num_iter=12
        )
    location, spread = robust_location_scale(values.astype(np.float64))
    values = ((values - location) * (config.sign / spread)).astype(np.float32)
    return Sample(
        values,
        classes,
        instances,
        particles,
        {
            "recipe": dataclasses.asdict(recipe),
            "snr": _number(tomogram.snr),
            "snr_projections": _number(tomogram.snr_projections),
            "tilts": list(tomogram.tilts),
            "resampled_by": scale,
            "scale": 1 / spread,
            "salient_fraction": float(salient(classes).mean()),
            "particles": [_particle_record(p) for p in particles],
        },
    )


def _number(value: float) -> float | None:
    """Return a figure as JSON can hold it: None where it is infinite or unknown."""
    return value if math.isfinite(value) else None


def _particle_record(particle: Particle) -> dict[str, Any]:
    return {
        "instance": particle.instance,
        "kind": particle.kind.name.lower(),
        "name": particle.name,
        "centre_zyx": [round(c, 3) for c in particle.centre_zyx],
        "rotation_zyx": [round(float(v), 6) for v in particle.rotation.ravel()],
    }


def _move(centre: tuple[float, float, float], scale: float) -> tuple[float, float, float]:
    """Return a position on a grid of voxels `scale` times finer; corners of grids agree."""
    z, y, x = ((c + 0.5) * scale - 0.5 for c in centre)
    return z, y, x


def _coordinates(shape: Index, scale: float) -> tuple[NDArray[np.float64], ...]:
    return np.meshgrid(*[(np.arange(n) + 0.5) / scale - 0.5 for n in shape], indexing="ij")


def _resample(values: NDArray[np.float32], shape: Index, scale: float) -> NDArray[np.float32]:
    """Return a tomogram on a grid of voxels `scale` times finer (cubic)."""
    coordinates = _coordinates(shape, scale)
    result = ndimage.map_coordinates(values, coordinates, order=3, mode="nearest")
    return np.asarray(result, np.float32)


def _resample_labels(
    classes: NDArray[np.uint8], instances: NDArray[np.uint16], shape: Index, scale: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Return truth on a finer grid: each class's smoothed outline, the nearest instance."""
    coordinates = _coordinates(shape, scale)
    best = np.full(shape, 0.5, np.float32)
    result = np.zeros(shape, np.uint8)
    for kind in Kind:
        if kind == Kind.BACKGROUND:
            continue
        share = ndimage.map_coordinates(
            (classes == kind).astype(np.float32), coordinates, order=1, mode="nearest"
        )
        result[share > best] = kind
        best = np.maximum(best, share)
    nearest = ndimage.map_coordinates(instances, coordinates, order=0, mode="nearest")
    return result, np.where(result > 0, nearest, 0).astype(np.uint16)
