"""The Python door: what importing costs, and what comes back."""

import dataclasses
import subprocess
import sys
from typing import get_type_hints

import numpy as np
import pytest
import zarr
from file_server import serve
from outputs import make_output, write_mrc
from phantom import phantom

import tomoseg
from tomoseg.config import PRESETS, RefineConfig, SegmentConfig, Settings, configure
from tomoseg.errors import (
    FingerprintError,
    InputError,
    OutputExistsError,
    RequestError,
    StorageError,
)
from tomoseg.io.convert import convert
from tomoseg.io.star import read_star
from tomoseg.saliency.architecture import Architecture
from tomoseg.saliency.initialise import random_network
from tomoseg.saliency.weights import Card, save

SHAPE = (20, 40, 66)


@pytest.fixture
def tomogram(tmp_path):
    return write_mrc(tmp_path / "a.mrc", phantom(SHAPE, seed=0).density)


def test_importing_tomoseg_loads_nothing_heavy_until_it_is_used():
    code = (
        "import sys, tomoseg\n"
        "print([m for m in ('torch', 'dask', 'zarr', 'numpy') if m in sys.modules])\n"
        "print(sorted(set(tomoseg.__all__) - set(dir(tomoseg))))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == ["[]", "[]"]
    assert all(hasattr(tomoseg, name) for name in tomoseg.__all__)
    with pytest.raises(AttributeError, match="no attribute 'segmnt'"):
        _ = tomoseg.segmnt


def test_a_tomogram_is_opened_and_read_on_demand(tomogram):
    found = tomoseg.open_volume(tomogram)
    assert isinstance(found, tomoseg.Tomogram)
    assert (found.shape, found.dtype, found.path) == (SHAPE, np.float32, str(tomogram))
    assert found.voxel_size_angstrom == (10.0, 10.0, 10.0)
    expected = phantom(SHAPE, seed=0).density
    np.testing.assert_array_equal(found.voxels[7].compute(), expected[7])
    np.testing.assert_array_equal(np.asarray(found), expected)
    with pytest.raises(InputError, match="does not exist"):
        tomoseg.open_volume("nowhere.mrc")


@pytest.fixture
def quick(tmp_path):
    """Settings with which a run takes a moment."""
    architecture = Architecture(base_channels=2, generator_channels=2)
    weights = tmp_path / "tiny.safetensors"
    save(weights, random_network(architecture, seed=0), Card("tiny", architecture))
    settings = {"scope": "none", "halo": 0, "core": 64, "shard": 64, "resample": "never"}
    return settings | {"weights": str(weights)}


def test_segment_returns_lazy_arrays_and_goes_on_where_it_was(tomogram, tmp_path, quick):
    stages = []
    result = tomoseg.segment(
        tomogram, tmp_path / "m.zarr", progress=lambda *said: stages.append(said), **quick
    )
    assert isinstance(result.saliency, zarr.Array)
    assert result.saliency.shape == result.mask.shape == SHAPE
    np.testing.assert_array_equal(result.mask[:], result.saliency[:] >= 128)
    assert result.summary["computed"] == 2
    assert {stage for stage, _, _ in stages} >= {"segment", "place"}
    again = tomoseg.segment(tomogram, tmp_path / "m.zarr", **quick)
    assert again.attributes["created"] == result.attributes["created"]
    assert tomoseg.open_segmentation(tmp_path / "m.zarr") == again
    with pytest.raises(RequestError, match="threshold"):
        tomoseg.segment(tomogram, tmp_path / "m.zarr", **quick, threshold=0.25)


def test_a_remote_tomogram_gives_the_same_bits(tomogram, tmp_path, quick):
    convert(tomogram, tmp_path / "a.zarr")
    local = tomoseg.segment(tmp_path / "a.zarr", tmp_path / "local.zarr", **quick)
    with serve(tmp_path) as served:
        url = f"{served.url}/a.zarr"
        remote = tomoseg.segment(url, tmp_path / "remote.zarr", **quick)
        assert tomoseg.segment(url, tmp_path / "remote.zarr", **quick) == remote  # was finished
        assert remote.open_input().path == url
    np.testing.assert_array_equal(remote.saliency[:], local.saliency[:])
    assert remote.attributes["input"]["path"] == url
    assert "metadata_sha256" in remote.attributes["fingerprint"]["input"]
    with pytest.raises(StorageError, match="Check the address and the network"):
        remote.open_input()


def test_particles_of_a_mask_and_their_file(tmp_path):
    mask = np.zeros(SHAPE, np.int8)
    mask[4:9, 10:15, 60:65] = 1
    mask[10:12, 30:33, 5:8] = 1
    source = write_mrc(tmp_path / "mask.mrc", mask)
    picks = tomoseg.pick(source, labels=tmp_path / "labels.zarr")
    np.testing.assert_allclose(picks.centres, [[6, 12, 62], [10.5, 31, 6]])
    labels = tomoseg.open_volume(tmp_path / "labels.zarr").voxels
    assert (labels[6, 12, 62].compute(), labels[0, 0, 0].compute()) == (1, 0)
    wanted = tomoseg.PickConfig(min_volume_angstrom3=30e3)
    large = tomoseg.pick(source, wanted, scratch=tmp_path)  # what lies there stays
    assert source.exists()
    np.testing.assert_allclose(large.centres, [[6, 12, 62]])
    tomoseg.write_particles(large, tmp_path / "p.star", binning=2)
    block = read_star(tmp_path / "p.star")["particles"]
    assert float(block["rlnCoordinateX"][0]) == 124
    with pytest.raises(OutputExistsError):
        tomoseg.write_particles([large], tmp_path / "p.star")
    assert not list(tmp_path.glob(".*picking"))


def test_an_unfinished_output_is_not_opened(tomogram):
    output = make_output(tomogram, np.zeros(SHAPE, np.uint8), complete=False)
    with pytest.raises(InputError, match="not complete"):
        tomoseg.open_segmentation(output)


def test_keywords_are_the_fields_of_the_configuration():
    fields = {
        field.name for kind in (SegmentConfig, RefineConfig) for field in dataclasses.fields(kind)
    }
    assert get_type_hints(Settings).keys() == fields - {"refine"} | {"preset"}
    assert configure() == SegmentConfig()
    assert configure(preset="paper").refine == PRESETS["paper"]
    chosen = configure(preset="paper", classes=7, threshold=0.3)
    assert (chosen.refine.classes, chosen.threshold, chosen.refine.rule) == (7, 0.3, "majority")
    assert configure(preset="paper", rule="prior").refine.learning_rate == 0.1
    assert configure(rule="majority").refine.lessons().learning_rate == 0.2
    steps_of_another_rule = (
        {"preset": "thorough", "rule": "majority"},
        {"preset": "paper", "rule": "teacher"},
    )
    for wrong in steps_of_another_rule:
        with pytest.raises(RequestError, match="its steps are those of rule"):
            configure(**wrong)
    for wrong in ({"preset": "best"}, {"treshold": 0.3}, {"scope": "all"}):
        with pytest.raises(RequestError, match="expected"):
            configure(**wrong)


def test_a_configuration_is_read_back_unless_it_is_of_another_version():
    config = configure(preset="paper", looks="all", core=64)
    values = config.to_dict()
    assert SegmentConfig.from_dict(values) == config
    for other in (values | {"tta": True}, values | {"refine": values["refine"] | {"views": 3}}):
        with pytest.raises(FingerprintError, match=r"no setting (tta|views)"):
            SegmentConfig.from_dict(other)


@pytest.mark.parametrize(
    ("settings", "looks"),
    [
        ({}, "2"),
        ({"scope": "block"}, "2"),
        ({"scope": "none"}, "1"),
        ({"rule": "prior"}, "1"),
        ({"preset": "paper"}, "1"),
        ({"looks": "1"}, "1"),
        ({"scope": "none", "looks": "all"}, "all"),
    ],
)
def test_what_is_taught_looks_twice_unless_told_otherwise(settings, looks):
    assert configure(**settings).looks_in_use == looks
