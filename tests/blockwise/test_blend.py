"""Blending: overlapping windows add up to one, and shards change no bit."""

import numpy as np
import pytest

from tomoseg.blockwise.blend import FULL, BlendReader, Parts, contribution
from tomoseg.blockwise.plan import Plan
from tomoseg.geometry import Box, Lattice, whole
from tomoseg.io.omezarr import ArrayStore, create

SHAPES = [(1, 1, 1), (64, 65, 70), (150, 64, 129), (70, 300, 10)]


def plan(shape, shard, halo):
    return Plan(shape=shape, itemsize=4, shard=shard, halo=halo, lane_bytes=0)


def blended(folder, shape, shard, halo, window_saliency):
    """Run every shard's windows through `window_saliency`, store the parts, read the volume."""
    work = plan(shape, shard, halo)
    parts = work.parts
    layout = parts.layout(str(folder))
    create(layout, {})
    store = ArrayStore(layout, "image", 0)
    for number, cell in enumerate(work.shards):
        stored = layout.shards(0).cell(number)
        part = np.zeros(stored.shape, np.uint16)
        for block, window in work.windows(cell):
            saliency = window_saliency(block, window, work.window_shape)
            box, added = contribution(saliency, window, shape, parts.width)
            part[parts.stored(number, box).relative_to(stored).slices] += added
        store.write_shard(stored, part)
    return BlendReader(parts, layout)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("halo", [0, 8, 16, 48])
def test_windows_that_agree_give_what_they_say(tmp_path, shape, halo):
    reader = blended(tmp_path / "parts", shape, 64, halo, lambda *a: np.full(a[2], 0.5, np.float32))
    assert np.unique(reader.read(whole(shape))).tolist() in ([127], [128], [127, 128])
    for box in Lattice(shape, 37):
        assert reader.read(box).shape == box.shape


def noise(block, window, shape):
    return np.random.default_rng(block).random(shape, np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_shards_change_no_bit(tmp_path, shape):
    small, large = (
        blended(tmp_path / str(shard), shape, shard, 16, noise).read(whole(shape))
        for shard in (64, 192)
    )
    np.testing.assert_array_equal(small, large)


def test_is_the_weighted_mean_of_the_windows(tmp_path):
    shape, halo = (64, 130, 70), 16
    reader = blended(tmp_path / "parts", shape, 64, halo, noise)
    work = plan(shape, 64, halo)
    ramps = []
    for length in shape:  # of block k at voxel v, by the distance to the block's faces
        v = np.arange(length) + 0.5
        blocks = range(-(-length // 64))
        rise = [
            np.ones(length) if k == 0 else np.clip((v - 64 * k + 16) / 32, 0, 1) for k in blocks
        ]
        ramps.append([r - (rise[k + 1] if k + 1 < len(rise) else 0) for k, r in enumerate(rise)])
    expected = np.zeros(shape)
    for block, window in work.windows(whole(shape)):
        weights = [ramps[axis][window.core.start[axis] // 64] for axis in range(3)]
        weight = np.einsum("z,y,x->zyx", *weights)
        values = noise(block, window, work.window_shape)[window.inside(window.valid).slices]
        expected[window.valid.slices] += weight[window.valid.slices] * values
    found = reader.read(whole(shape))
    assert np.abs(found - 255 * expected).max() <= 0.5 + 8 * 0.5 / 16 + 1e-3
    assert np.abs(found - 255 * expected).mean() < 0.26


def test_a_seam_between_windows_becomes_a_ramp(tmp_path):
    shape = (20, 128, 20)

    def halves(block, window, shape):
        return np.full(shape, float(block == 1), np.float32)

    profile = blended(tmp_path / "parts", shape, 64, 16, halves).read(whole(shape))[10, :, 10]
    assert (profile[:48] == 0).all()
    assert (profile[80:] == 255).all()
    assert np.diff(profile.astype(int)).max() <= 9
    cropped = blended(tmp_path / "cropped", shape, 64, 0, halves).read(whole(shape))[10, :, 10]
    assert (cropped[63], cropped[64]) == (0, 255)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("width", [0, 16])
def test_stored_parts_lie_side_by_side(shape, width):
    parts = Parts(shape, 64, width)
    stored = Lattice(parts.stored_shape, parts.edge)
    assert stored.cells_per_axis == Lattice(shape, 64).cells_per_axis
    for number in range(len(stored)):
        place = parts.stored(number, parts.box(number))
        assert stored.cell(number).contains(place)
        assert place.size == parts.box(number).size
    point = Box((0, 0, 0), (1, 1, 1))
    assert parts.needed_for(point) == [0]


def test_the_sum_of_the_most_windows_fits():
    assert np.iinfo(np.uint16).max >= FULL + 8


@pytest.mark.parametrize("shard", [64, 128, 192, 256, 512, 1024])
@pytest.mark.parametrize("halo", [0, 8, 16, 24])
def test_parts_are_kept_in_few_chunks(shard, halo):
    layout = plan((2048,) * 3, shard, halo).parts.layout("parts")
    assert 48 <= layout.chunk <= 96
