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


def window_of(core, shape, halo=16):
    edges = tuple(min(64 + 2 * halo, max(48, -(-n // 16) * 16)) for n in shape)
    return window_around(core, volume=shape, shape=edges, halo=halo, step=16), edges


@given(shapes, st.sampled_from([0, 8, 16, 32]))
def test_windows_have_one_shape_and_hold_their_core_and_what_halo_there_is(shape, halo):
    for core in itertools.islice(Lattice(shape, 64), 20):
        window, edges = window_of(core, shape, halo)
        padded = tuple(n + after for n, after in zip(window.valid.shape, window.pad, strict=True))
        assert padded == edges
        assert whole(shape).contains(window.valid)
        assert window.valid.contains(core.grow(halo).intersect(whole(shape)))
        assert window.inside(core).shift(window.valid.start) == core
        for axis, after in enumerate(window.pad):
            assert after < 16 or shape[axis] < 48
            assert window.valid.start[axis] % 8 == 0


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 70, 130), (91, 17, 64)])
def test_a_coordinate_network_gives_every_voxel_its_own_coordinate(shape):
    volume = np.arange(np.prod(shape), dtype=float).reshape(shape)
    result = np.full(shape, -1.0)
    for core in Lattice(shape, 64):
        window, _ = window_of(core, shape)
        seen = np.pad(volume[window.valid.slices], [(0, n) for n in window.pad], mode="reflect")
        result[core.slices] = seen[window.inside(core).slices]
    np.testing.assert_array_equal(result, volume)


def test_real_neighbours_fill_the_window():
    shape = (200, 200, 200)
    for number, start in ((21, (48, 48, 48)), (0, (0, 0, 0)), (63, (112, 112, 112))):
        window, _ = window_of(Lattice(shape, 64).cell(number), shape)
        assert window.valid.start == start
    assert window.pad == (8, 8, 8)


def test_an_impossible_lattice_is_refused():
    with pytest.raises(ValueError, match="positive"):
        Lattice((0, 4, 4), 64)
    with pytest.raises(IndexError):
        Lattice((4, 4, 4), 64).cell(1)


def test_boxes_that_do_not_meet_intersect_in_nothing():
    assert Box((0, 0), (4, 4)).intersect(Box((9, 9), (12, 12))).size == 0
    assert Box((3, 0), (1, 4)).shape == (0, 4)
