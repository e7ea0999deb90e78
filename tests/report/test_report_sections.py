"""Planes at the size of a screen: what a pixel is, and what a plane costs."""

import numpy as np
import pytest
import zarr
from outputs import write_mrc

from tomoseg.io.volume import Volume, open_volume
from tomoseg.report.sections import Cut, read_section, section_bytes
from tomoseg.report.views import affordable, shown_step, spread

SHAPE = (13, 22, 35)
DENSITY = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def expected(cut: Cut, step: int, *, mapped: bool) -> np.ndarray:
    """Return means over tiles, written down in the plainest way."""
    plane = np.take(DENSITY, cut.index(SHAPE), axis=cut.axis)
    rows = [plane[r : r + step] for r in range(0, len(plane), step)]
    if cut.axis == 2 and mapped:
        rows = [row[min(step // 2, len(row) - 1)][None] for row in rows]
    return np.array(
        [[row[:, c : c + step].mean() for c in range(0, plane.shape[1], step)] for row in rows]
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.parametrize("kind", ["mrc", "zarr"])
def test_a_pixel_is_the_mean_of_its_voxels(tmp_path, monkeypatch, axis, step, kind):
    monkeypatch.setattr("tomoseg.report.sections.STRIP_VOXELS", 40)  # several strips
    if kind == "mrc":
        volume = open_volume(write_mrc(tmp_path / "a.mrc", DENSITY))
    else:
        zarr.create_array(tmp_path / "a.zarr", data=DENSITY, chunks=(5, 6, 7))
        volume = open_volume(tmp_path / "a.zarr")
    cut = Cut(axis, 0.5)
    with volume.reader() as reader:
        found = read_section(reader, volume, cut, step)
    np.testing.assert_allclose(found, expected(cut, step, mapped=kind == "mrc"), rtol=1e-5)


def test_what_is_not_finite_counts_for_nothing(tmp_path):
    density = np.ones((1, 4, 4), np.float32)
    density[0, :2, :2] = np.nan
    density[0, 2, 2] = np.inf
    zarr.create_array(tmp_path / "a.zarr", data=density)
    volume = open_volume(tmp_path / "a.zarr")
    with volume.reader() as reader:
        found = read_section(reader, volume, Cut(0, 0), 2)
    np.testing.assert_array_equal(found, [[np.nan, 1], [1, 1]])


def volume_of(shape, chunk=None) -> Volume:
    return Volume("a", "zarr" if chunk else "mrc", "", shape, "float32", None, "", chunk=chunk)


def test_planes_are_as_many_as_can_be_read_in_time():
    cuts = [Cut(0, (k + 0.5) / 41) for k in range(41)]
    usual = volume_of((300, 1000, 1000))
    assert affordable(usual, cuts) == cuts
    huge = volume_of((1024, 4096, 4096))
    step = shown_step(huge.shape)
    assert section_bytes(huge, cuts[0], step) == 4 * 4096**2
    assert section_bytes(huge, Cut(2, 0.5), step) == 1024 // 8 * 4096 * 4096  # a page per voxel
    assert len(affordable(huge, cuts)) == 31
    chunked = volume_of((1024, 4096, 4096), chunk=(64, 64, 64))
    assert section_bytes(chunked, cuts[0], step) == 64 * 4 * 4096**2
    assert affordable(chunked, cuts) == []
    few = affordable(volume_of((300, 1000, 1000), chunk=(64, 64, 64)), cuts)
    assert 5 < len(few) < 41


def test_spread_is_even():
    assert spread(5, 9) == [0, 1, 2, 3, 4]
    assert spread(100, 4) == [12, 37, 62, 87]
    assert spread(3, 0) == []
