import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomoseg.geometry import Box, Lattice, whole, window_around

SHAPES = [(1, 1, 1), (64, 64, 64), (1, 200, 65), (63, 64, 129), (7, 300, 1)]

shapes = st.tuples(*[st.integers(1, 150)] * 3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("edge", [1, 64, 256])
def test_cells_own_every_voxel_once(shape, edge):
    if edge == 1:
        shape = tuple(min(n, 9) for n in shape)
    owners = np.zeros(shape, int)
    for number, cell in enumerate(Lattice(shape, edge)):
        owners[cell.slices] += 1
        assert Lattice(shape, edge).number_at(cell.start) == number
    assert (owners == 1).all()


@given(shapes, st.sampled_from([16, 64]), st.data())
def test_cells_in_a_box_are_those_that_meet_it(shape, edge, data):
    lattice = Lattice(shape, edge)
    start = tuple(data.draw(st.integers(-20, n + 20)) for n in shape)
    stop = tuple(a + data.draw(st.integers(0, 90)) for a in start)
    box = Box(start, stop)
    expected = [k for k, cell in enumerate(lattice) if cell.intersect(box).size]
    assert lattice.numbers_in(box) == expected


def test_shards_hold_whole_blocks():
    shape = (130, 300, 65)
    blocks, shards = Lattice(shape, 64), Lattice(shape, 128)
    found = [number for shard in shards for number in blocks.numbers_in(shard)]
    assert sorted(found) == list(range(len(blocks)))
    for shard in shards:
        assert all(shard.contains(blocks.cell(k)) for k in blocks.numbers_in(shard))


@given(shapes, st.sampled_from([0, 16, 32]))
def test_windows_have_one_shape_and_hold_their_core(shape, halo):
    for core in itertools.islice(Lattice(shape, 64), 20):
        window = window_around(core, volume=shape, uncut=(64,) * 3, halo=halo)
        padded = tuple(a + n + b for (a, b), n in zip(window.pad, window.valid.shape, strict=True))
        assert padded == (64 + 2 * halo,) * 3
        assert whole(shape).contains(window.valid)
        assert window.valid.contains(core)
        assert window.inside(core) == Box((halo,) * 3, tuple(halo + n for n in core.shape))


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 70, 130), (91, 17, 64)])
def test_a_coordinate_network_gives_every_voxel_its_own_coordinate(shape):
    volume = np.arange(np.prod(shape), dtype=float).reshape(shape)
    result = np.full(shape, -1.0)
    for core in Lattice(shape, 64):
        window = window_around(core, volume=shape, uncut=(64,) * 3, halo=16)
        seen = np.pad(volume[window.valid.slices], window.pad, mode="reflect")
        result[core.slices] = seen[window.inside(core).slices]
    np.testing.assert_array_equal(result, volume)


def test_real_neighbours_fill_the_halo():
    volume = np.random.default_rng(0).normal(size=(200, 200, 200))
    core = Lattice(volume.shape, 64).cell(21)
    window = window_around(core, volume=volume.shape, uncut=(64,) * 3, halo=16)
    assert window.pad == ((0, 0),) * 3
    assert window.valid == core.grow(16)


def test_an_impossible_lattice_is_refused():
    with pytest.raises(ValueError, match="positive"):
        Lattice((0, 4, 4), 64)
    with pytest.raises(IndexError):
        Lattice((4, 4, 4), 64).cell(1)


def test_boxes_that_do_not_meet_intersect_in_nothing():
    assert Box((0, 0), (4, 4)).intersect(Box((9, 9), (12, 12))).size == 0
    assert Box((3, 0), (1, 4)).shape == (0, 4)
