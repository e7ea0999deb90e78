"""Grids and resampling: pure functions of the whole volume, whichever part is asked for."""

import numpy as np
import pytest

from tomoseg.blockwise.grid import Grid, is_absurd, is_off
from tomoseg.blockwise.resample import Resampling, regrid
from tomoseg.geometry import Box, whole

VOXEL_SIZES = [(16.4, 16.4, 16.4), (6.0, 6.0, 6.0), (5.0, 5.0, 5.0), (20.0, 10.0, 7.3)]


def resampling(voxel_size, shape=(41, 70, 53), kernel="lanczos"):
    grid = Grid(shape, voxel_size)
    return Resampling.between(grid, grid.resized(10.0), kernel)


def all_at_once(resampling, values):
    box = whole(resampling.target)
    return resampling.apply(values[resampling.source_box(box).slices], box)


@pytest.mark.parametrize("voxel_size", VOXEL_SIZES)
@pytest.mark.parametrize("kernel", ["lanczos", "linear"])
@pytest.mark.parametrize("shape", [(41, 70, 53), (1, 3, 200)])
def test_tiles_give_the_bits_of_the_whole(voxel_size, kernel, shape):
    chosen = resampling(voxel_size, shape, kernel)
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = all_at_once(chosen, values)
    np.testing.assert_array_equal(
        regrid(chosen, whole(chosen.target), lambda box: values[box.slices], lambda v: v), expected
    )
    random = np.random.default_rng(1)
    for _ in range(20):
        corners = [sorted(random.choice(n + 1, 2, replace=False)) for n in chosen.target]
        box = Box(tuple(int(a) for a, _ in corners), tuple(int(b) for _, b in corners))
        part = chosen.apply(values[chosen.source_box(box).slices], box)
        np.testing.assert_array_equal(part, expected[box.slices])


@pytest.mark.parametrize("voxel_size", VOXEL_SIZES)
def test_a_box_needs_no_more_than_its_span(voxel_size):
    chosen = resampling(voxel_size)
    for tile in chosen.tiles(whole(chosen.target)):
        needed = chosen.source_box(tile)
        assert whole(chosen.source).contains(needed)
        assert all(a <= b for a, b in zip(needed.shape, chosen.span(tile.shape), strict=True))


@pytest.mark.parametrize("voxel_size", VOXEL_SIZES)
@pytest.mark.parametrize("kernel", ["lanczos", "linear"])
def test_a_constant_stays_one_and_a_ramp_stays_in_place(voxel_size, kernel):
    grid = Grid((60, 60, 60), voxel_size)
    chosen = Resampling.between(grid, grid.resized(10.0), kernel)
    constant = all_at_once(chosen, np.full(grid.shape, 3, np.float32))
    np.testing.assert_allclose(constant, 3, rtol=1e-6)
    for axis in range(3):
        shape = [1, 1, 1]
        shape[axis] = 60
        centres = (np.arange(60) + 0.5) * voxel_size[axis]  # angstrom from the corner
        ramp = np.broadcast_to(centres.reshape(shape), grid.shape).astype(np.float32)
        found = all_at_once(chosen, ramp).mean(axis=tuple(k for k in range(3) if k != axis))
        expected = (np.arange(len(found)) + 0.5) * 10
        inside = slice(len(found) // 4, -len(found) // 4)
        np.testing.assert_allclose(found[inside], expected[inside], atol=0.5)


def test_what_the_coarse_grid_cannot_show_is_suppressed_and_the_rest_kept():
    step = 2.0
    chosen = Resampling((1, 1, 400), (1, 1, 200), (1.0, 1.0, step), "lanczos")
    nyquist = 0.5 / step  # cycles / source voxel

    def kept(frequency):
        wave = np.exp(2j * np.pi * frequency * np.arange(400)).reshape(1, 1, 400)
        parts = [all_at_once(chosen, part.astype(np.float32)) for part in (wave.real, wave.imag)]
        return float(np.hypot(*parts)[0, 0, 20:-20].mean())

    for above in (1.3, 1.5, 1.7, 1.9):
        assert kept(above * nyquist) < 0.1  # more than 20 dB
    for below in (0.05, 0.2, 0.4):
        assert kept(below * nyquist) == pytest.approx(1, abs=0.02)


def test_saliency_never_leaves_its_range():
    values = np.random.default_rng(0).choice([0.0, 255.0], (30, 30, 30)).astype(np.float32)
    for voxel_size in VOXEL_SIZES:
        found = all_at_once(resampling(voxel_size, values.shape, "linear"), values)
        assert found.min() >= 0
        assert found.max() <= 255.001


@pytest.mark.parametrize("voxel_size", VOXEL_SIZES)
def test_grids_cover_the_same_space(voxel_size):
    grid = Grid((41, 70, 53), voxel_size, (100.0, -50.0, 7.0))
    resized = grid.resized(10.0)
    for axis in range(3):
        corner = grid.origin_angstrom[axis] - voxel_size[axis] / 2
        assert resized.origin_angstrom[axis] - 5 == pytest.approx(corner)
        beyond = resized.shape[axis] * 10 - grid.shape[axis] * voxel_size[axis]
        assert -1e-4 <= beyond < 10


def test_a_shape_that_is_whole_but_for_rounding_is_not_rounded_up():
    assert Grid((50, 7, 1), (0.1, 10.0, 0.1)).resized(1.0).shape == (5, 70, 1)


def test_fifteen_percent_is_the_limit_either_way():
    assert not is_off((1.14, 1.0, 1 / 1.14))
    assert is_off((1.16, 1.0, 1.0))
    assert is_off((1.0, 1.0, 1 / 1.16))
    assert is_absurd((1.0, 8.1, 1.0))
    assert is_absurd((1.0, 1.0, 0.12))
    assert not is_absurd((8.0, 1.0, 0.125))
