"""A data set of simulated tomograms: one sharded Zarr group with a manifest.

Any worker may make any tomogram, in any order, and a set that was interrupted goes on
where it stopped. Knows nothing of who runs the tasks.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from tomoseg.config import BLOCK
from tomoseg.errors import InputError, RequestError
from tomoseg.geometry import Box, Index
from tomoseg.intensity import normalise
from tomoseg.io.storage import storage_errors, write_json
from tomoseg.simulate.sample import SLICE, SPLIT_SEEDS, DatasetConfig, Sample, simulate
from tomoseg.simulate.scene import salient

ATTRIBUTE = "tomoseg_dataset"
RECORDS = "records"
VERSION = 1

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
        random = np.random.default_rng([config.seed, SPLIT_SEEDS[config.split], number, 1])
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
        return normalise(self._read("tomogram", number, box), 0.0, self.config.sign)

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
        return normalise(stored, 0.0, self.config.sign)

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
