"""A data set of simulated tomograms: one sharded Zarr group with a manifest.

Every tomogram is a pure function of (configuration, number): any worker may make any of
them, in any order, and a set that was interrupted goes on where it stopped. Knows nothing
of who runs the tasks.
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy import ndimage
from skimage.restoration import denoise_tv_chambolle
from zarr.codecs import BloscCodec

from tomoseg.config import BLOCK, Contrast
from tomoseg.errors import InputError, RequestError
from tomoseg.geometry import Box, Index
from tomoseg.intensity import normalise, robust_location_scale
from tomoseg.io.storage import storage_errors, write_json
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

ATTRIBUTE = "tomoseg_dataset"
RECORDS = "records"
VERSION = 1
SLICE = 200
PROCEDURAL = 60
"""Built-in complexes that stand in, or join, a library of real ones."""

_SPLIT_SEEDS = {"train": 11, "validation": 22, "test": 33}


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
        _require(self.split in _SPLIT_SEEDS, "split", tuple(_SPLIT_SEEDS), self.split)
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


# Making -------------------------------------------------------------------------------


def simulate(config: DatasetConfig, number: int) -> Sample:
    """Make tomogram `number` of a data set.

    Raises
    ------
    InputError
        Where the structures or membranes can't be read.
    """
    random = np.random.default_rng([config.seed, _SPLIT_SEEDS[config.split], number])
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
    built_in = procedural(PROCEDURAL, _SPLIT_SEEDS[split])
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
    values = ((values - location) * (_sign(config) / spread)).astype(np.float32)
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


# Storing ------------------------------------------------------------------------------

_ARRAYS: dict[str, tuple[str, str]] = {
    "tomogram": ("float16", "intensities in robust standard deviations"),
    "classes": ("uint8", "0 background, 1 complex, 2 membrane, 3 filament, 4 gold, 5 carbon"),
    "instances": ("uint16", "number of the object, 0 none"),
}


def create(path: Path, config: DatasetConfig) -> list[int]:
    """Create a data set, or find the one that `config` began; return what is left to do.

    Raises
    ------
    RequestError
        Where something else lies at `path`.
    """
    if path.exists():
        found = _attributes(path).get("config")
        if found != json.loads(json.dumps(config.to_dict())):
            raise RequestError(
                f"{path}: expected nothing, or the data set of this very configuration, "
                "found another one.",
                "Give another folder, or remove this one.",
            )
    else:
        _create_arrays(path, config)
    return [n for n in range(config.count) if not _record_path(path, n).exists()]


def _create_arrays(path: Path, config: DatasetConfig) -> None:
    with storage_errors("data set", path):
        group = zarr.create_group(
            str(path), attributes={ATTRIBUTE: {"version": VERSION, "config": config.to_dict()}}
        )
        for name, (dtype, meaning) in _ARRAYS.items():
            _array(group, name, dtype, meaning, config.count, 1, config.shape)
        for kind, crops, shape in _crops(config):
            for name in ("tomogram", "classes"):
                dtype, meaning = _ARRAYS[name]
                _array(group, f"{kind}/{name}", dtype, meaning, config.count * crops, crops, shape)
        (path / RECORDS).mkdir()


def _crops(config: DatasetConfig) -> list[tuple[str, int, Index]]:
    kinds = [("volumes", config.volumes, (BLOCK,) * 3), ("slices", config.slices, (SLICE,) * 2)]
    return [(name, count, shape) for name, count, shape in kinds if count]


def _array(
    group: zarr.Group, name: str, dtype: str, meaning: str, count: int, shard: int, shape: Index
) -> None:
    """Create an array whose shard holds what comes of one tomogram: one writer for each."""
    chunk = tuple(min(BLOCK, n) for n in shape)
    padded = tuple(-(-n // c) * c for n, c in zip(shape, chunk, strict=True))
    group.create_array(
        name,
        shape=(count, *shape),
        dtype=dtype,
        chunks=(1, *chunk),
        shards=(shard, *padded),
        compressors=BloscCodec(cname="zstd", clevel=1),
        attributes={"meaning": meaning},
    )


def write(path: Path, config: DatasetConfig, number: int, sample: Sample) -> None:
    """Write tomogram `number`; its record comes last and says that it is whole."""
    with storage_errors("data set", path):
        group = zarr.open_group(str(path), mode="r+")
        arrays: dict[str, NDArray[Any]] = {
            "tomogram": _stored(sample.tomogram),
            "classes": sample.classes,
            "instances": sample.instances,
        }
        for name, values in arrays.items():
            _in(group, name)[number] = values
        random = np.random.default_rng([config.seed, _SPLIT_SEEDS[config.split], number, 1])
        for kind, count, shape in _crops(config):
            boxes = [_random_crop(random, config.shape, shape) for _ in range(count)]
            rows = slice(number * count, (number + 1) * count)
            for name in ("tomogram", "classes"):
                crops = [arrays[name][index].reshape(shape) for index in boxes]
                _in(group, f"{kind}/{name}")[rows] = np.stack(crops)
    write_json(_record_path(path, number), {"number": number, **sample.record})


def _in(group: zarr.Group, name: str) -> Any:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise InputError(f"{group.name}: expected an array {name}, found a group.")
    return array


def _random_crop(random: np.random.Generator, shape: Index, crop: Index) -> tuple[slice, ...]:
    """Return a random box of a shape, flipped at random; a 2-D one lies along any axis."""
    sizes = list(crop)
    if len(sizes) < len(shape):
        sizes.insert(int(random.integers(len(shape))), 1)
    slices = []
    for n, size in zip(shape, sizes, strict=True):
        start = int(random.integers(n - size + 1))
        whole = slice(start, start + size)
        backwards = slice(start + size - 1, start - 1 if start else None, -1)
        slices.append(backwards if size > 1 and random.integers(2) else whole)
    return tuple(slices)


def _record_path(path: Path, number: int) -> Path:
    return path / RECORDS / f"{number:06d}.json"


def _attributes(path: Path) -> dict[str, Any]:
    try:
        attributes = dict(zarr.open_group(str(path), mode="r").attrs)
        values = attributes[ATTRIBUTE]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{path}: expected a data set that 'tomoseg simulate' made, found none."
        ) from error
    if not isinstance(values, dict) or values.get("version") != VERSION:
        raise InputError(f"{path}: expected a data set of version {VERSION}, found {values}.")
    return values


# Reading ------------------------------------------------------------------------------


class _Configured:
    """What a data set says of itself, stored or not."""

    config: DatasetConfig

    def __len__(self) -> int:
        return self.config.count

    @property
    def shape(self) -> Index:
        """Voxels z, y, x of each tomogram."""
        return self.config.shape

    @property
    def voxel_size_angstrom(self) -> float:
        """Of each tomogram."""
        return self.config.voxel_size_angstrom

    @property
    def split(self) -> str:
        """Which complexes it shows: ``train``, ``validation`` or ``test``."""
        return self.config.split


class Dataset(_Configured):
    """A finished data set, read tomogram by tomogram.

    Parameters
    ----------
    path
        Folder that `create` made.

    Raises
    ------
    InputError
        Where there is no data set, or one that is not finished.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = DatasetConfig.from_dict(_attributes(path)["config"])
        left = [n for n in range(self.config.count) if not _record_path(path, n).exists()]
        if left:
            raise InputError(
                f"{path}: {len(left)} of {self.config.count} tomograms are missing.",
                "Repeat the command that began the data set; it goes on where it stopped.",
            )
        group = zarr.open_group(str(path), mode="r")
        self._arrays = {name: _in(group, name) for name in _ARRAYS}

    def image(self, number: int, box: Box) -> NDArray[np.float32]:
        """Return normalised intensities of a box, objects positive, within +-10."""
        return normalise(self._read("tomogram", number, box), 0.0, _sign(self.config))

    def salient(self, number: int, box: Box) -> NDArray[np.uint8]:
        """Return 1 where a salient object is, within a box."""
        return salient(self._read("classes", number, box))

    def record(self, number: int) -> dict[str, Any]:
        """Return recipe and figures of a tomogram."""
        values: dict[str, Any] = json.loads(_record_path(self.path, number).read_text())
        return values

    def _read(self, name: str, number: int, box: Box) -> NDArray[Any]:
        z, y, x = box.slices
        return np.asarray(self._arrays[name][number, z, y, x])


def open_dataset(path: Path) -> Dataset:
    """Open a finished data set; see `Dataset`."""
    return Dataset(Path(path))


class Simulated(_Configured):
    """A data set that is simulated when it is read, and stored nowhere.

    Gives the bits that `Dataset` gives. Keeps only the tomogram that was read last: who
    reads in no order should hold what it needs.

    Parameters
    ----------
    config
        What to make.
    """

    def __init__(self, config: DatasetConfig) -> None:
        self.config = config
        self._last: tuple[int, Sample] | None = None

    def image(self, number: int, box: Box) -> NDArray[np.float32]:
        """Return normalised intensities of a box, objects positive, within +-10."""
        stored = _stored(self._sample(number).tomogram[box.slices])
        return normalise(stored, 0.0, _sign(self.config))

    def salient(self, number: int, box: Box) -> NDArray[np.uint8]:
        """Return 1 where a salient object is, within a box."""
        return self._sample(number).salient[box.slices]

    def _sample(self, number: int) -> Sample:
        last = self._last
        if last is None or last[0] != number:
            last = self._last = (number, simulate(self.config, number))
        return last[1]


def _stored(tomogram: NDArray[np.float32]) -> NDArray[np.float16]:
    return np.clip(tomogram, -6e4, 6e4).astype(np.float16)


def _sign(config: DatasetConfig) -> float:
    """Return what turns the contrast of a data set to bright objects."""
    return -1.0 if config.contrast == "dark" else 1.0
