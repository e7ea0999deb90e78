"""Whole runs where the input's voxels are not the model's: places, seams, grids, refusals."""

import json

import numpy as np
import pytest
import zarr
from engine import config, digests, read, run, write_volume
from scipy import ndimage
from test_run import Identity

from tomoseg.blockwise import shard
from tomoseg.blockwise.prepare import prepare
from tomoseg.blockwise.prepared import Request
from tomoseg.blockwise.status import layout_of, read_status
from tomoseg.errors import FingerprintError, InputError, Stopped
from tomoseg.io.layout import Layout
from tomoseg.io.omezarr import ArrayStore, create
from tomoseg.io.volume import open_volume

ORIGIN = (100.0, -250.0, 33.0)


def write_ball(path, voxel_size, *, extent=(620.0, 1000.0, 730.0), centre=(200.0, 610.0, 333.0)):
    """Write an image with voxel size and origin, a dark ball of 60 A in noise; angstrom."""
    shape = tuple(int(e / s) for e, s in zip(extent, voxel_size, strict=True))
    axes = [(np.arange(n) + 0.5) * s - c for n, s, c in zip(shape, voxel_size, centre, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    inside = z**2 + y**2 + x**2 < 60.0**2
    values = np.random.default_rng(0).normal(size=shape) - 30 * inside
    layout = Layout(
        path=str(path),
        shape=shape,
        voxel_size_angstrom=voxel_size,
        origin_angstrom=ORIGIN,
        dtype="float32",
        label=False,
    )
    create(layout, {})
    store = ArrayStore(layout, "image", 0)
    for box in layout.shards(0):
        store.write_shard(box, values[box.slices].astype(np.float32))
    corner = [o - s / 2 for o, s in zip(ORIGIN, voxel_size, strict=True)]
    return path, np.array(corner) + centre


def centre_of_mass(mask):
    return np.array([index.mean() for index in np.nonzero(mask)])


@pytest.mark.parametrize("output_grid", ["input", "model"])
@pytest.mark.parametrize(
    "voxel_size",
    [(6.0, 6.0, 6.0), (16.4, 16.4, 16.4), (20.0, 20.0, 20.0), (5.0, 5.0, 5.0), (16.4, 10.0, 7.0)],
)
def test_a_ball_comes_back_to_its_place(tmp_path, weights, monkeypatch, voxel_size, output_grid):
    monkeypatch.setattr(shard, "Predictor", Identity)
    path, expected = write_ball(tmp_path / "in.zarr", voxel_size)
    settings = config(
        weights, voxel_size_angstrom=None, threshold=0.95, shard=128, output_grid=output_grid
    )
    run(path, tmp_path / "out.zarr", settings)
    layout, _ = layout_of(tmp_path / "out.zarr")
    if output_grid == "input":
        assert layout.shape == open_volume(path).shape
        assert layout.voxel_size_angstrom == voxel_size
        assert layout.origin_angstrom == ORIGIN
    else:
        assert layout.voxel_size_angstrom == (10.0,) * 3
    mask = read(tmp_path / "out.zarr", "mask")
    size = np.array(layout.voxel_size_angstrom)
    found = centre_of_mass(mask) * size + layout.origin_angstrom
    assert np.all(np.abs(found - expected) < 0.5 * np.minimum(size, voxel_size))
    radius = (mask.sum() * size.prod() * 3 / 4 / np.pi) ** (1 / 3)
    assert radius == pytest.approx(60, abs=0.5 * size.max())
    reopened = open_volume(tmp_path / "out.zarr", array="labels/mask/0")
    assert reopened.voxel_size_angstrom == pytest.approx(layout.voxel_size_angstrom)
    assert reopened.origin_angstrom == pytest.approx(layout.origin_angstrom)


@pytest.mark.parametrize("voxel_size", [6.0, 16.4])
def test_a_resampled_volume_has_no_seams(tmp_path, weights, monkeypatch, voxel_size):
    monkeypatch.setattr(shard, "Predictor", Identity)
    noise = np.random.default_rng(0).normal(size=(100, 130, 120)).astype(np.float32)
    zarr.create_array(tmp_path / "in.zarr", data=ndimage.gaussian_filter(noise, 1.5))
    settings = config(weights, voxel_size_angstrom=voxel_size)
    summary = run(tmp_path / "in.zarr", tmp_path / "out.zarr", settings)
    assert summary.seam == pytest.approx(1, abs=0.06)


def test_normalisation_is_that_of_the_grid_the_network_works_on(tmp_path, weights):
    path, _ = write_ball(tmp_path / "in.zarr", (5.0, 5.0, 5.0))
    settings = config(weights, voxel_size_angstrom=None)
    source = prepare(Request(open_volume(path), tmp_path / "out.zarr", settings)).source
    reader = source.reader()
    box = shard.Box((0, 0, 0), source.shape)
    assert source.normalise(reader.read(box)).std() == pytest.approx(1, abs=0.2)
    assert source.statistics.scale < 0.5  # eight voxels' noise in one
    assert source.raw.scale == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("factor", [0.9, 1.1, 1.149])
def test_voxel_sizes_that_nearly_agree_change_no_bit(tmp_path, volume, weights, expected, factor):
    settings = config(weights, voxel_size_angstrom=10.0 * factor)
    run(volume, tmp_path / "out.zarr", settings)
    assert digests(tmp_path / "out.zarr") == expected["none"]


def test_resampling_can_be_switched_off(tmp_path, volume, weights, expected, caplog):
    settings = config(weights, voxel_size_angstrom=16.4, resample="never")
    run(volume, tmp_path / "out.zarr", settings)
    assert digests(tmp_path / "out.zarr") == expected["none"]
    assert "16.4" in caplog.text
    assert "not resampled" in caplog.text


def test_weights_without_a_voxel_size_are_never_resampled_for(tmp_path, volume):
    settings = config("random:0", voxel_size_angstrom=16.4)
    prepared = prepare(Request(open_volume(volume), tmp_path / "out.zarr", settings))
    assert prepared.source.resampling is None


@pytest.mark.parametrize("voxel_size", [81.0, 1.2])
def test_absurd_voxel_sizes_are_refused_with_the_way_out(tmp_path, volume, weights, voxel_size):
    settings = config(weights, voxel_size_angstrom=voxel_size)
    with pytest.raises(InputError, match=r"8 times.*--voxel-size.*--resample never"):
        run(volume, tmp_path / "out.zarr", settings)
    assert not (tmp_path / "out.zarr").exists()


def test_the_scratch_goes_and_damage_is_mended_without_it(tmp_path, volume, weights, expected):
    output = tmp_path / "out.zarr"
    first = run(volume, output, config(weights, "resampled"))
    assert digests(output) == expected["resampled"]
    assert not (output / ".tomoseg" / "model").exists()
    victim = next(p for p in (output / "0").rglob("*") if p.is_file() and p.name != "zarr.json")
    victim.unlink()
    assert len(read_status(output, verify=True).damaged) == 1
    again = run(volume, output, config(weights, "resampled"))
    assert again.computed == 1
    assert again.seam == first.seam
    assert digests(output) == expected["resampled"]
    assert read_status(output, verify=True).complete
    assert not (output / ".tomoseg" / "model").exists()


def test_status_counts_both_grids_until_one_is_left(tmp_path, volume, weights, monkeypatch):
    output, seen = tmp_path / "out.zarr", {}

    def look(stage, done, total):
        if done == total:
            seen[stage] = read_status(output, verify=True)

    run(volume, output, config(weights, "resampled"), progress=look)
    assert (seen["segment"].done, seen["segment"].shards) == (8, 14)
    assert (seen["place"].done, seen["place"].shards) == (14, 14)
    assert not seen["place"].complete
    assert read_status(output).complete


def test_damage_on_the_way_is_found_and_mended(tmp_path, volume, weights, expected):
    output = tmp_path / "out.zarr"
    in_scratch = output / ".tomoseg" / "model" / "0"

    def damage(stage, done, total):
        if stage == "seams" and done == 0:
            victim = next(p for p in in_scratch.rglob("*") if p.is_file() and p.name == "0")
            victim.write_bytes(victim.read_bytes()[:50])

    with pytest.raises((Stopped, OSError)):
        run(volume, output, config(weights, "resampled"), progress=damage)
    assert len(read_status(output, verify=True).damaged) == 1
    run(volume, output, config(weights, "resampled"))
    assert digests(output) == expected["resampled"]


def test_the_fingerprint_knows_the_grid(tmp_path, volume, weights):
    output = tmp_path / "out.zarr"
    run(volume, output, config(weights, "resampled"))
    with pytest.raises(FingerprintError, match="output_grid was input, now model"):
        run(volume, output, config(weights, "resampled", output_grid="model"))
    with pytest.raises(FingerprintError, match="grid"):
        run(volume, output, config(weights))


def test_provenance_says_what_was_resampled_and_who_chose_the_contrast(tmp_path, volume, weights):
    settings = config(weights, "volume", voxel_size_angstrom=16.4, contrast="auto")
    run(volume, tmp_path / "out.zarr", settings)
    attributes = json.loads((tmp_path / "out.zarr" / "zarr.json").read_text())["attributes"]
    provenance = attributes["tomoseg"]
    assert provenance["resampling"]["network"]["shape"] == [33, 214, 109]
    assert provenance["resampling"]["network"]["voxel_size_angstrom"] == [10.0] * 3
    assert provenance["resampling"]["input"]["voxel_size_angstrom"] == [16.4] * 3
    assert provenance["config"]["contrast"] == "dark"
    assert provenance["contrast"]["automatic"] is True
    assert provenance["contrast"]["skewness"] < -0.5
    assert provenance["fingerprint"]["grid"]["shape"] == [33, 214, 109]


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 65, 3), (40, 130, 64)])
@pytest.mark.parametrize("voxel_size", [2.0, 16.4])
@pytest.mark.parametrize("output_grid", ["input", "model"])
def test_odd_shapes(tmp_path, weights, shape, voxel_size, output_grid):
    path = write_volume(tmp_path / "in.zarr", shape)
    settings = config(
        weights, voxel_size_angstrom=voxel_size, output_grid=output_grid, halo=16, contrast="auto"
    )
    run(path, tmp_path / "out.zarr", settings)
    found = read(tmp_path / "out.zarr")
    if output_grid == "input":
        assert found.shape == shape
    else:
        assert found.shape == tuple(int(np.ceil(n * voxel_size / 10)) for n in shape)
    assert read_status(tmp_path / "out.zarr", verify=True).complete


def test_nothing_that_is_no_number_spreads(tmp_path, weights):
    values = np.random.default_rng(0).normal(size=(20, 70, 66)).astype(np.float32)
    values[:10] = np.nan
    zarr.create_array(tmp_path / "in.zarr", data=values)
    run(tmp_path / "in.zarr", tmp_path / "out.zarr", config(weights, voxel_size_angstrom=16.4))
    assert read_status(tmp_path / "out.zarr", verify=True).complete
