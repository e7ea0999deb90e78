"""A region of interest: inside it the bits of a whole run, outside zeros and no work."""

import dataclasses
import threading
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import zarr
from engine import config, read, write_volume

from tomoseg.blockwise import run as run_module
from tomoseg.blockwise.execute import Resources, open_executor
from tomoseg.blockwise.prepare import prepare, prepare_again
from tomoseg.blockwise.prepared import Request
from tomoseg.blockwise.run import segment
from tomoseg.errors import FingerprintError, InputError, RequestError, Stopped
from tomoseg.io.volume import open_volume

SHAPE = (20, 64, 200)
"""Four shards of 64."""


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    return write_volume(tmp_path_factory.mktemp("wide") / "volume.zarr", SHAPE)


@pytest.fixture
def region(tmp_path):
    """An oblique slab in the last shards along x."""
    mask = np.zeros(SHAPE, np.int8)
    z, y, x = np.indices(SHAPE)
    mask[(x > 193 + y // 20) & (z > 4)] = 1
    path = tmp_path / "lamella.mrc"
    with mrcfile.new(path) as file:
        file.set_data(mask)
        file.set_volume()
    return path, mask


def run(wide, output, settings, roi=None, stop=None):
    volume = open_volume(roi) if roi else None
    request = Request(open_volume(wide), Path(output), settings, roi=volume, command="a command")
    prepared = prepare(request)
    with open_executor(Resources(), stop or threading.Event()) as executor:
        return prepared, segment(prepared, executor, lambda *_: None)


@pytest.fixture
def segmented(monkeypatch):
    """The shards that the network was run on."""
    numbers, original = [], run_module.shard.segment_shard
    monkeypatch.setattr(
        run_module.shard,
        "segment_shard",
        lambda job, number: numbers.append(number) or original(job, number),
    )
    return numbers


@pytest.mark.parametrize("case", ["none", "resampled"])
def test_inside_are_the_bits_of_a_whole_run(tmp_path, weights, wide, region, segmented, case):
    path, mask = region
    settings = config(weights, case)
    run(wide, tmp_path / "whole.zarr", settings)
    every = len(segmented)
    segmented.clear()
    prepared, summary = run(wide, tmp_path / "part.zarr", settings, path)
    assert 0 < len(segmented) < every
    assert prepared.roi.shards == {3}
    for kind in ("image", "mask"):
        whole = read(tmp_path / "whole.zarr", kind)
        np.testing.assert_array_equal(read(tmp_path / "part.zarr", kind), whole * (mask != 0))
    salient = np.count_nonzero(read(tmp_path / "part.zarr", "mask"))
    assert summary.salient_fraction == pytest.approx(salient / mask.size, abs=1e-6)
    attributes = zarr.open_group(tmp_path / "part.zarr").attrs["tomoseg"]
    assert attributes["roi"]["path"] == str(path)


def test_a_run_goes_on_with_the_same_region_only(tmp_path, weights, wide, region, segmented):
    path, mask = region
    output, settings, stop = tmp_path / "o.zarr", config(weights), threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        run(wide, output, settings, path, stop)
    with pytest.raises(FingerprintError, match="roi"):
        run(wide, output, settings)
    smaller = tmp_path / "smaller.mrc"
    with mrcfile.new(smaller) as file:
        file.set_data(mask * (np.arange(20) > 9)[:, None, None].astype(np.int8))
    with pytest.raises(FingerprintError, match="roi"):
        run(wide, output, settings, smaller)
    again = prepare_again(output, Resources())  # as finalize does
    assert again.roi.shards == {3}
    run(wide, output, settings, path)
    assert len(segmented) == 2


def test_regions_that_cannot_be(tmp_path, weights, wide, region):
    settings, empty = config(weights), tmp_path / "empty.zarr"
    zarr.create_array(empty, shape=SHAPE, dtype="uint8")
    with pytest.raises(InputError, match="zeros alone"):
        run(wide, tmp_path / "o.zarr", settings, empty)
    other = tmp_path / "other.zarr"
    zarr.create_array(other, shape=(20, 64, 199), dtype="uint8")
    with pytest.raises(InputError, match="20 x 64 x 199"):
        run(wide, tmp_path / "o.zarr", settings, other)
    resampled = dataclasses.replace(config(weights, "resampled"), output_grid="model")
    with pytest.raises(RequestError, match="--output-grid"):
        run(wide, tmp_path / "o.zarr", resampled, region[0])
    assert not (tmp_path / "o.zarr").exists()
