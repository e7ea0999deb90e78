"""Coarser levels: exact arithmetic, odd sizes, shard by shard as all at once."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tomoseg.io.layout import Layout
from tomoseg.io.omezarr import ArrayStore, create
from tomoseg.io.pyramid import build_level_shard, downsample

SHAPES = [(1, 1, 1), (2, 2, 2), (3, 4, 5), (1, 7, 2), (6, 1, 1), (8, 9, 10)]


def by_hand(array: np.ndarray, kind: str) -> np.ndarray:
    """The definition, voxel by voxel, in fractions."""
    shape = tuple(-(-n // 2) for n in array.shape)
    result = np.empty(shape, array.dtype)
    for index in np.ndindex(shape):
        cell = array[tuple(slice(2 * i, 2 * i + 2) for i in index)].ravel().tolist()
        mean = sum(map(Fraction, cell)) / len(cell)
        exact = mean if array.dtype.kind == "f" else round(mean)  # half to even
        result[index] = max(cell) if kind == "mask" else exact
    return result


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "uint32"])
@pytest.mark.parametrize("kind", ["image", "mask"])
def test_integers_are_exact(shape: tuple[int, ...], dtype: str, kind: Any) -> None:
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(1)
    for low, high in ((limits.min, limits.max), (max(limits.min, -3), 3), (limits.max, limits.max)):
        array = rng.integers(low, high, shape, dtype, endpoint=True)
        result = downsample(array, kind)
        assert result.dtype == array.dtype
        np.testing.assert_array_equal(result, by_hand(array, kind))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_floats_are_means(shape: tuple[int, ...], dtype: str) -> None:
    array = np.random.default_rng(2).integers(-9, 9, shape).astype(dtype)
    np.testing.assert_array_equal(downsample(array, "image"), by_hand(array, "image"))


def test_input_is_left_alone() -> None:
    array = np.arange(27, dtype="uint8").reshape(3, 3, 3)
    for kind in ("image", "mask"):
        before = array.copy()
        downsample(array, kind)  # type: ignore[arg-type]
        np.testing.assert_array_equal(array, before)


def test_wide_integers_are_refused() -> None:
    with pytest.raises(ValueError, match="32 bits"):
        downsample(np.zeros((2, 2, 2), "int64"), "image")


@pytest.mark.parametrize("kind", ["image", "mask"])
@pytest.mark.parametrize("shape", [(150, 70, 65), (1, 200, 3), (130, 129, 131)])
def test_shard_by_shard_is_as_all_at_once(
    tmp_path: Path, kind: Any, shape: tuple[int, ...]
) -> None:
    layout = Layout(path=str(tmp_path / "a"), shape=shape, voxel_size_angstrom=None, shard=64)
    create(layout, {})
    expected = (np.random.default_rng(3).random(shape) < 0.02).astype("uint8")
    expected *= 1 if kind == "mask" else 201
    for box in layout.shards(0):
        ArrayStore(layout, kind, 0).write_shard(box, expected[box.slices])
    for level in range(1, layout.levels):
        for box in layout.shards(level):
            build_level_shard(layout, kind, level, box)
        expected = downsample(expected, kind)
        store = ArrayStore(layout, kind, level)
        found = np.empty(store.shape, "uint8")
        for box in layout.shards(level):
            found[box.slices] = store.read(box)
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="at least 1"):
        build_level_shard(layout, kind, 0, layout.shards(0).cell(0))
