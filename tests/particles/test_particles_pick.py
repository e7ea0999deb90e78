"""Particles of a mask: the same for any shards and workers, after any stop, as in memory."""

import itertools
import threading

import cc3d
import numpy as np
import pytest
import zarr
from masks import assert_same, balls, blobs, run, target

from tomoseg.blockwise.execute import Resources, Serial, open_executor
from tomoseg.errors import OutputExistsError, RequestError, Stopped
from tomoseg.particles import objects as module

SHAPE = (70, 150, 131)


@pytest.mark.parametrize("connectivity", [26, 18, 6])
def test_components_are_those_of_the_whole_for_any_shard(tmp_path, connectivity):
    mask, saliency = blobs(SHAPE)
    found = target(tmp_path, mask, saliency)
    labels, count = cc3d.connected_components(mask, connectivity=connectivity, return_N=True)
    whole = run(tmp_path, found, connectivity=connectivity)
    small = run(tmp_path, found, connectivity=connectivity, shard=64)
    assert_same(whole, small)
    assert_same(whole, run(tmp_path, found, connectivity=connectivity, shard=128))
    assert len(small) == count > 300
    sizes = np.bincount(labels.ravel())[1:]
    np.testing.assert_array_equal(np.sort(small.columns["voxels"]), np.sort(sizes))
    names = labels[tuple(np.argwhere(mask)[0])], *np.unique(labels)[1:]
    for name in {int(n) for n in names[:60]}:
        at = np.argwhere(labels == name)
        row = np.flatnonzero(np.all(np.isclose(small.centres, at.mean(0), atol=1e-9), axis=1))
        assert any(small.columns["voxels"][row] == len(at))
        row = row[small.columns["voxels"][row] == len(at)][0]
        levels = saliency[tuple(at.T)]
        assert small.columns["score"][row] == pytest.approx(levels.mean() / 255)
        assert small.columns["max_score"][row] == levels.max() / 255
        box = [int(small.columns[f"{axis}{side}"][row]) for side in "01" for axis in "zyx"]
        assert box == [*at.min(0), *(at.max(0) + 1)]
        touches = (at == 0).any() or (at == np.array(SHAPE) - 1).any()
        assert bool(small.columns["border"][row]) == touches


@pytest.mark.parametrize("corner", list(itertools.product((63, 64), repeat=2)))
def test_two_voxels_that_touch_across_a_corner_of_shards(tmp_path, corner):
    """The shard that sees them both may own neither."""
    mask = np.zeros((66, 70, 70), np.uint8)
    first = (63, *corner)
    other = tuple(127 - axis for axis in first)
    mask[first] = mask[other] = 1
    found = target(tmp_path, mask)
    assert len(run(tmp_path, found, shard=64)) == 1
    assert len(run(tmp_path, found, shard=64, connectivity=6)) == 2


@pytest.mark.parametrize("split", ["distance", "saliency"])
def test_splitting_is_the_same_for_any_shard(tmp_path, split):
    mask, saliency = blobs((66, 50, 140), cover=0.1, smooth=2.0)
    found = target(tmp_path, mask, saliency)
    settings = {"split": split, "diameter_angstrom": 60.0, "min_distance_angstrom": 0.0}
    whole = run(tmp_path, found, **settings, labels=tmp_path / "whole.zarr")
    small = run(tmp_path, found, **settings, shard=64, labels=tmp_path / "small.zarr")
    assert_same(whole, small)
    assert_same(whole, run(tmp_path, found, **settings, shard=128))
    assert len(whole) > cc3d.connected_components(mask, return_N=True)[1]
    numbers = zarr.open_array(tmp_path / "small.zarr" / "0")[:]
    np.testing.assert_array_equal(numbers, zarr.open_array(tmp_path / "whole.zarr" / "0")[:])
    np.testing.assert_array_equal(np.bincount(numbers.ravel())[1:], small.columns["voxels"])
    assert not numbers[mask == 0].any()
    # coarser levels hold numbers of particles, not means of them
    assert set(np.unique(zarr.open_array(tmp_path / "small.zarr" / "1")[:])) <= set(
        np.unique(numbers)
    )


@pytest.mark.parametrize("split", ["distance", "saliency"])
def test_touching_balls_come_apart_at_their_centres(tmp_path, split):
    """Two on the corner of four shards, one alone, and one too small to hold two."""
    centres = [(32, 60, 64), (32, 74, 64), (10, 20, 100), (50, 110, 20)]
    mask = balls((64, 130, 120), centres[:3], 8) | balls((64, 130, 120), centres[3:], 3)
    found = target(tmp_path, mask, mask * np.uint8(200))
    whole = run(tmp_path, found, split="none", shard=64, diameter_angstrom=160.0)
    assert len(whole) == 3
    apart = run(
        tmp_path, found, split=split, shard=64, diameter_angstrom=160.0, min_distance_angstrom=80.0
    )
    order = np.lexsort(apart.centres.T[::-1])
    expected = np.array(sorted(centres), float)
    np.testing.assert_allclose(apart.centres[order], expected, atol=0.6)
    assert apart.columns["voxels"].sum() == mask.sum()


def test_workers_give_the_same_bits(tmp_path):
    mask, saliency = blobs((66, 70, 60), cover=0.1, smooth=2.0)
    found = target(tmp_path, mask, saliency)
    settings = {"diameter_angstrom": 80.0, "shard": 64}
    with open_executor(Resources(workers=2), threading.Event()) as executor:
        assert_same(run(tmp_path, found, executor, **settings), run(tmp_path, found, **settings))


class StopsAfter:
    """An executor that is stopped after some tasks, as by Ctrl-C."""

    width = 1

    def __init__(self, count):
        self.left = count

    def map(self, function, tasks):
        for task in tasks:
            if self.left == 0:
                return
            self.left -= 1
            yield function(task)


def test_a_stopped_run_goes_on_with_what_is_kept(tmp_path, monkeypatch):
    mask, saliency = blobs((66, 70, 100), cover=0.1, smooth=2.0)
    found = target(tmp_path, mask, saliency)
    settings = {"diameter_angstrom": 60.0, "shard": 64}
    expected = run(tmp_path, found, **settings)
    labelled = []
    original = module.label_shard
    monkeypatch.setattr(
        module, "label_shard", lambda job, n: labelled.append(n) or original(job, n)
    )
    for tasks in (5, 7):  # while labelling, while splitting
        with pytest.raises(Stopped, match="what is done is kept"):
            run(tmp_path, found, StopsAfter(tasks), **settings)
    assert_same(run(tmp_path, found, **settings), expected)
    assert sorted(labelled) == list(range(8))
    assert not (tmp_path / "scratch").exists()


def test_what_another_request_kept_is_not_used(tmp_path):
    mask, saliency = blobs((66, 70, 60), cover=0.1, smooth=2.0)
    found = target(tmp_path, mask, saliency)
    with pytest.raises(Stopped):
        run(tmp_path, found, StopsAfter(2), shard=64, connectivity=6)
    with pytest.raises(Stopped):
        run(tmp_path, found, StopsAfter(2), shard=64)
    assert_same(run(tmp_path, found, shard=64), run(tmp_path, found))


def test_one_run_at_a_time(tmp_path):
    mask, _ = blobs((20, 20, 20))
    found = target(tmp_path, mask)

    class Nested(Serial):
        def map(self, function, tasks):
            run(tmp_path, found)
            return super().map(function, tasks)

    with pytest.raises(OutputExistsError, match="another run"):
        run(tmp_path, found, Nested(threading.Event()))


def test_nothing_in_nothing(tmp_path):
    found = target(tmp_path, np.zeros((30, 70, 20), np.uint8))
    assert len(run(tmp_path, found, shard=64, diameter_angstrom=50.0)) == 0
    full = target(tmp_path / "full", np.ones((30, 70, 20), np.uint8))
    (voxels,) = run(tmp_path, full, shard=64, diameter_angstrom=50.0).columns["voxels"][:1]
    assert voxels > 0


def test_a_shell_is_told_from_what_is_solid_by_its_fill(tmp_path):
    mask = balls((50, 50, 90), [(25, 25, 24)], 20) - balls((50, 50, 90), [(25, 25, 24)], 17)
    mask[10:40, 20:30, 60:70] = balls((30, 10, 10), [(14, 5, 5)], 5)
    found = target(tmp_path, mask)
    solid, shell = run(tmp_path, found, min_fill=0.5), run(tmp_path, found, max_fill=0.5)
    np.testing.assert_allclose(solid.centres, [[24, 25, 65]], atol=0.01)
    np.testing.assert_allclose(shell.centres, [[25, 25, 24]], atol=0.01)
    assert solid.columns["fill"] == pytest.approx(1, abs=0.1)
    thick = 3 / 18.5  # of the radius; a thin shell fills 3 * (3 / 5)^1.5 of it
    assert shell.columns["fill"] == pytest.approx(1.394 * thick, rel=0.1)
    # a shell is not cut into beads, each of them solid; what is solid is split all the same
    mask[10:40, 20:30, 68:78] |= balls((30, 10, 10), [(14, 5, 5)], 5)
    found = target(tmp_path / "touching", mask)
    settings = {"diameter_angstrom": 90.0, "min_distance_angstrom": 0.0, "shard": 64}
    assert len(run(tmp_path, found, **settings)) > 10
    solid = run(tmp_path, found, **settings, min_fill=0.5)
    order = np.argsort(solid.centres[:, 2])
    np.testing.assert_allclose(solid.centres[order], [[24, 25, 65], [24, 25, 73]], atol=0.6)


def test_limits(tmp_path):
    """Each limit leaves the particles that it says, and a mask alone has no score."""
    mask = np.zeros((40, 60, 60), np.uint8)
    mask[5:9, 5:9, 5:9] = 1  # 64 voxels, 64,000 A^3
    mask[20:22, 20:22, 10:50] = 1  # 160 voxels, a rod
    mask[30:40, 40:50, 40:50] = 1  # 1000 voxels, at a face
    saliency = np.where(mask, 100, 0).astype(np.uint8)
    saliency[5:9] = 255
    found = target(tmp_path, mask, saliency)
    voxels = lambda **limits: sorted(run(tmp_path, found, **limits).columns["voxels"])  # noqa: E731
    assert voxels() == [64, 160, 1000]
    assert voxels(min_volume_angstrom3=64_000.0) == [64, 160, 1000]
    assert voxels(min_volume_angstrom3=64_001.0) == [160, 1000]
    assert voxels(max_mass_kda=133.0) == [64, 160]  # 160,000 A^3 are 132.2 kDa
    assert voxels(max_mass_kda=132.0) == [64]
    assert voxels(min_diameter_angstrom=67.0, max_diameter_angstrom=68.0) == [160]
    assert voxels(max_elongation=1.01) == [64, 1000]
    assert voxels(min_fill=0.86, max_fill=0.9) == [64, 160, 1000]  # boxes: 6 / pi * (3 / 5)^1.5
    assert voxels(drop_border=True) == [64, 160]
    assert voxels(min_score=0.9) == [64]
    assert voxels(min_distance_angstrom=310.0) == [64, 1000]  # the rod is 304 A off
    alone = target(tmp_path / "alone", mask)
    with pytest.raises(RequestError, match="saliency"):
        run(tmp_path, alone, min_score=0.5)
    with pytest.raises(RequestError, match="saliency"):
        run(tmp_path, alone, split="saliency", diameter_angstrom=50.0)
    with pytest.raises(RequestError, match="--diameter"):
        run(tmp_path, alone, split="distance")
