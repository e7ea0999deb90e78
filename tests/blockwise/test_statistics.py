import numpy as np
import pytest
import zarr

from tomoseg.blockwise.source import describe_source
from tomoseg.blockwise.statistics import measure as measure_bricks
from tomoseg.blockwise.statistics import sample_bricks
from tomoseg.intensity import CLIP, smooth
from tomoseg.io.volume import open_volume


def stored(tmp_path, values):
    zarr.create_array(tmp_path / "in.zarr", data=values)
    return open_volume(tmp_path / "in.zarr")


def measure(volume, seed):
    with volume.reader() as reader:
        return measure_bricks(sample_bricks(volume.shape, reader.read, seed), "volume")


def test_two_robust_numbers_that_gold_does_not_move(tmp_path):
    values = np.random.default_rng(0).normal(100, 7, (80, 80, 80)).astype(np.float32)
    values[:8] = -5000  # a tenth of the volume is gold
    statistics = measure(stored(tmp_path, values), seed=0)
    assert statistics.location == pytest.approx(100, abs=1.5)
    assert statistics.scale == pytest.approx(7, rel=0.2)


def test_padding_does_not_count(tmp_path):
    values = np.random.default_rng(0).normal(100, 7, (80, 80, 80)).astype(np.float32)
    values[:, :50] = 0
    statistics = measure(stored(tmp_path, values), seed=0)
    assert statistics.location == pytest.approx(100, abs=0.5)
    assert statistics.scale == pytest.approx(7, rel=0.05)


def test_a_seed_decides_the_sample_of_a_large_volume(tmp_path):
    values = np.random.default_rng(0).normal(size=(160, 160, 200)).astype(np.float32)
    volume = stored(tmp_path, values)
    assert measure(volume, 1) == measure(volume, 1)
    assert measure(volume, 1).sample_sha256 != measure(volume, 2).sample_sha256
    assert measure(volume, 1).scale == pytest.approx(1, abs=0.01)


def test_contrast_makes_objects_positive_and_gold_harmless(tmp_path):
    values = np.random.default_rng(0).normal(0, 1, (40, 40, 40)).astype(np.float32)
    statistics = measure(stored(tmp_path, values), seed=0)
    dark = statistics.normalise(np.float32([-2.0, -1e6, np.nan]), "dark")
    assert dark[0] == pytest.approx(2, abs=0.1)
    assert dark[1] == CLIP
    assert dark[2] == 0
    light = statistics.normalise(np.float32([-2.0]), "light")
    np.testing.assert_array_equal(light, -dark[:1])


@pytest.mark.parametrize("planes", [1, 7, 8, 9, 40])
def test_planes_at_a_time_are_smoothed_as_the_whole(tmp_path, planes):
    values = np.random.default_rng(0).normal(0, 900, (40, 33, 35)).astype(np.int16)
    source = describe_source(stored(tmp_path, values), None, "dark", 0, smoothed=True)
    whole = smooth(source.raw.normalise(values[:planes], "light"))
    expected = source.statistics.normalise(whole, "dark")
    np.testing.assert_array_equal(source.normalise(values[:planes]), expected)
