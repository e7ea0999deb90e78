"""Data sets: the same bits however they are made, resumable, and readable as they say."""

import dataclasses
import json

import numpy as np
import pytest
import zarr

from tomoseg.errors import InputError, RequestError
from tomoseg.geometry import Box, whole
from tomoseg.intensity import robust_location_scale
from tomoseg.simulate.dataset import Simulated, create, open_dataset, write
from tomoseg.simulate.recipes import random_recipe, standard_recipe, without_objects
from tomoseg.simulate.sample import PRESETS, DatasetConfig, make, simulate

SMALL = DatasetConfig(count=2, shape=(64, 64, 72), seed=3)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("simulated") / "data.zarr"
    for number in create(path, SMALL):
        write(path, SMALL, number, simulate(SMALL, number))
    return open_dataset(path)


def test_a_tomogram_is_a_function_of_configuration_and_number():
    first, again, other = simulate(SMALL, 1), simulate(SMALL, 1), simulate(SMALL, 0)
    np.testing.assert_array_equal(first.tomogram, again.tomogram)
    np.testing.assert_array_equal(first.instances, again.instances)
    assert first.record == again.record
    assert not np.array_equal(first.tomogram, other.tomogram)


def test_what_is_read_is_what_was_made(dataset):
    sample = simulate(SMALL, 0)
    box = Box((10, 0, 5), (42, 50, 69))
    image = dataset.image(0, box)
    expected = np.clip(-sample.tomogram[box.slices], -10, 10)
    np.testing.assert_allclose(image, expected, atol=0.01)
    np.testing.assert_array_equal(dataset.salient(0, box), sample.salient[box.slices])
    assert len(dataset) == 2
    assert dataset.shape == SMALL.shape
    assert dataset.split == "train"
    assert dataset.record(0)["snr"] == sample.record["snr"]


def test_on_the_fly_gives_the_bits_that_are_stored(dataset):
    box = Box((0, 3, 5), (64, 50, 69))
    fresh = Simulated(SMALL)
    for number in (1, 0):
        np.testing.assert_array_equal(fresh.image(number, box), dataset.image(number, box))
        np.testing.assert_array_equal(fresh.salient(number, box), dataset.salient(number, box))
    assert (len(fresh), fresh.shape, fresh.split) == (len(dataset), dataset.shape, dataset.split)


def test_intensities_are_normalised(dataset):
    location, scale = robust_location_scale(dataset.image(1, whole(SMALL.shape)).astype(float))
    assert location == pytest.approx(0.0, abs=0.01)
    assert scale == pytest.approx(1.0, abs=0.01)


def test_objects_are_dark_unless_light_is_asked_for():
    config = DatasetConfig(shape=(48, 64, 64), look="standard", snr=(8.0,), seed=1)
    dark = simulate(config, 0)
    light = simulate(dataclasses.replace(config, contrast="light"), 0)
    np.testing.assert_array_equal(dark.tomogram, -light.tomogram)
    inside = dark.classes == 1
    assert dark.tomogram[inside].mean() < dark.tomogram[~inside].mean() - 0.3


def test_an_unfinished_set_is_refused_and_goes_on(tmp_path):
    path = tmp_path / "data.zarr"
    assert create(path, SMALL) == [0, 1]
    write(path, SMALL, 1, simulate(SMALL, 1))
    with pytest.raises(InputError, match="1 of 2 tomograms are missing"):
        open_dataset(path)
    assert create(path, SMALL) == [0]


def test_another_configuration_is_refused(tmp_path):
    path = tmp_path / "data.zarr"
    create(path, SMALL)
    with pytest.raises(RequestError, match="found another one"):
        create(path, dataclasses.replace(SMALL, seed=4))


def test_no_data_set_is_said_so(tmp_path):
    with pytest.raises(InputError, match="tomoseg simulate"):
        open_dataset(tmp_path / "nothing.zarr")


def test_one_file_for_each_tomogram_and_array(dataset):
    for name in ("tomogram", "classes", "instances"):
        array = zarr.open_array(str(dataset.path / name), mode="r")
        assert array.shards == (1, 64, 64, 128)
        files = [p for p in (dataset.path / name / "c").rglob("*") if p.is_file()]
        assert len(files) <= 2


def test_crops_are_cut_along_all_axes(tmp_path):
    config = DatasetConfig(count=1, shape=(200, 200, 200), volumes=3, slices=9, snr=(8.0,))
    random = np.random.default_rng(0)
    made = simulate(dataclasses.replace(config, shape=(64, 64, 64), volumes=0, slices=0), 0)
    ramp = np.arange(200**3, dtype=np.float32).reshape(200, 200, 200) % 2048
    classes = random.integers(0, 2, ramp.shape).astype(np.uint8)
    sample = dataclasses.replace(
        made, tomogram=ramp, classes=classes, instances=classes.astype(np.uint16)
    )
    path = tmp_path / "data.zarr"
    create(path, config)
    write(path, config, 0, sample)
    group = zarr.open_group(str(path), mode="r")
    volumes, truths = group["volumes/tomogram"][:], group["volumes/classes"][:]
    assert volumes.shape == (3, 64, 64, 64)
    stored = ramp.astype(np.float16).astype(np.float32)
    for volume, truth in zip(volumes, truths, strict=True):
        # neighbours along x differ by one: a crop, perhaps flipped
        assert set(np.unique(np.abs(np.diff(volume.astype(float), axis=2)))) <= {1.0, 2047.0}
        assert truth.mean() == pytest.approx(0.5, abs=0.02)
    slices = group["slices/tomogram"][:].astype(np.float32)
    assert slices.shape == (9, 200, 200)
    found = set()
    for image in slices:
        for axis in range(3):
            for k in range(200):
                plane = stored.take(k, axis)
                flips = (plane, plane[::-1], plane[:, ::-1], plane[::-1, ::-1])
                if any(np.array_equal(image, f) for f in flips):
                    found.add(axis)
    assert found == {0, 1, 2}


def test_recipes_vary():
    drawn = [random_recipe(np.random.default_rng(k), (64, 64, 64), 10.0) for k in range(60)]
    crowding = [r.scene.crowding for r in drawn]
    assert min(crowding) == 0.0
    assert max(crowding) > 0.15
    assert len({type(r.imaging) for r in drawn}) == 2
    assert any(r.imaging.snr is None for r in drawn)
    assert any(r.imaging.defocus is None for r in drawn)
    assert any(r.scene.shape != (64, 64, 64) for r in drawn)


def test_truth_lies_over_a_resampled_tomogram():
    random = np.random.default_rng(1)
    recipe = standard_recipe(random, (40, 48, 48), 16.0, 8.0)
    config = DatasetConfig(shape=(64, 76, 76), voxel_size_angstrom=10.0)
    sample = make(recipe, config, random)
    assert sample.tomogram.shape == config.shape
    complexes = [p for p in sample.particles if p.kind == 1]
    assert complexes
    for particle in complexes:
        own = np.argwhere(sample.instances == particle.instance)
        inside = all(8 < c < n - 8 for c, n in zip(particle.centre_zyx, config.shape, strict=True))
        if len(own) and inside:
            assert np.linalg.norm(own.mean(axis=0) - particle.centre_zyx) < 2.0


def test_ice_alone_has_no_truth():
    random = np.random.default_rng(0)
    recipe = without_objects(standard_recipe(random, (48, 48, 48), 10.0, 0.5))
    sample = make(recipe, DatasetConfig(shape=(48, 48, 48)), random)
    assert not sample.salient.any()
    assert sample.tomogram.std() > 0.5


def test_ice_alone_is_never_without_noise():
    recipes = (random_recipe(np.random.default_rng(n), (32, 32, 32), 10.0) for n in range(200))
    quiet = [recipe for recipe in recipes if recipe.imaging.snr is None]
    assert quiet  # objects without noise are another matter
    assert all(without_objects(recipe).imaging.snr for recipe in quiet)
    assert not any(without_objects(r).scene == r.scene for r in quiet)


def test_splits_show_different_complexes(shared_data):
    folder = str(shared_data / "structures")
    names = {}
    for split in ("train", "validation", "test"):
        config = DatasetConfig(
            shape=(64, 64, 64), look="paper", split=split, structures=folder, seed=1
        )
        names[split] = {p["name"] for p in simulate(config, 0).record["particles"]}
    assert not names["train"] & names["test"]
    assert not names["train"] & names["validation"]
    assert not names["validation"] & names["test"]


def test_the_paper_s_numbers_are_one_preset():
    paper = PRESETS["paper"]
    assert paper.count * paper.volumes == 72_000
    assert paper.count * paper.slices == 36_000


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"count": 0}, "count"),
        ({"shape": (8, 64, 64)}, "shape"),
        ({"split": "all"}, "validation"),
        ({"slices": 1}, "200"),
        ({"snr": (0.0,)}, "snr"),
        ({"look": "pretty"}, "standard"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, word):
    with pytest.raises(RequestError, match=word):
        DatasetConfig(**wrong)


def test_the_configuration_survives_json():
    assert DatasetConfig.from_dict(json.loads(json.dumps(SMALL.to_dict()))) == SMALL
