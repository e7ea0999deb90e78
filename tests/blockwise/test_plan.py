import dataclasses

import pytest

from tomoseg.blockwise.plan import BASE_BYTES, METHOD, Plan, check_fingerprint, fingerprint
from tomoseg.blockwise.resample import Resampling
from tomoseg.config import FEW, MANY, PRESETS, RefineConfig, SegmentConfig
from tomoseg.errors import FingerprintError, RequestError
from tomoseg.geometry import whole


def plan(**changes):
    values = {"shape": (300, 500, 70), "itemsize": 4, "shard": 128, "halo": 16, "lane_bytes": 0}
    return Plan(**(values | changes))


def test_windows_of_all_shards_are_those_of_all_blocks():
    found = [n for shard in plan().shards for n, _ in plan().windows(shard)]
    assert sorted(found) == list(range(len(plan().blocks)))


def test_a_layer_reads_what_its_windows_see():
    for shard in plan().shards:
        assert sum(layer.size for layer in plan().layers(shard)) == shard.size
        for layer in plan().layers(shard):
            read = plan().read_box(layer)
            assert all(read.contains(window.valid) for _, window in plan().windows(layer))


def test_windows_do_not_depend_on_the_shard():
    by_shard = {
        edge: dict(w for s in plan(shard=edge).shards for w in plan(shard=edge).windows(s))
        for edge in (64, 128, 256)
    }
    assert by_shard[64] == by_shard[128] == by_shard[256]


@pytest.mark.parametrize(
    ("shape", "lessons"),
    [
        ((96, 128, 128), FEW),
        ((149, 461, 231), FEW),
        ((384,) * 3, FEW),
        ((512,) * 3, MANY),
        ((150, 900, 900), MANY),
        ((2048,) * 3, MANY),
    ],
)
def test_a_tomogram_is_taught_more_where_that_costs_little_beside_it(shape, lessons):
    large = plan(shape=shape, core=128, shard=256)
    assert large.lessons(RefineConfig()) == lessons
    assert large.lessons(RefineConfig(iterations=5)).iterations == 5
    assert large.lessons(RefineConfig(iterations=10**9)).windows_per_step == FEW.windows_per_step
    assert large.lessons(PRESETS["quick"]) == FEW
    assert large.lessons(PRESETS["thorough"]) == MANY
    assert large.lessons(RefineConfig(rule="prior")).learning_rate == 0.2
    passes = 3 * lessons.iterations * lessons.windows_per_step + 5 * 8
    seen = {large.window(number).valid for number in range(min(len(large.blocks), 64))}
    assert lessons == FEW or passes * 64**3 < 0.75 * sum(window.size for window in seen)


def test_windows_that_several_cores_share_count_once():
    thin = plan(shape=(149, 461, 231), core=128, shard=256)
    assert len(thin.blocks) == 16
    seen = {thin.window(number).valid for number in range(16)}
    assert thin._distinct_windows() == len(seen) == 8


def test_bytes_count_every_term():
    # distinct primes, so that a dropped term shows
    small = Plan(shape=(64,) * 3, itemsize=7, shard=64, halo=16, lane_bytes=1009)
    assert small.shard_bytes() == 7 * 64**3 + 4 * 80**3
    assert small.worker_bytes(lanes=3) == BASE_BYTES + small.shard_bytes() + 3 * 1009
    two = Plan(shape=(64, 64, 128), itemsize=7, shard=64, halo=16, lane_bytes=1009)
    assert two.shard_bytes() == 7 * 64 * 64 * 96 + 4 * 80 * 80 * 96
    layered = Plan(shape=(512,) * 3, itemsize=7, shard=128, halo=16, lane_bytes=0)
    assert layered.shard_bytes() == 7 * 144**3 + 4 * 160**3
    assert two.worker_bytes(lanes=1) == BASE_BYTES + 2 * two.shard_bytes() + 1009


def test_chunks_that_are_decoded_at_once_count():
    small = Plan((64,) * 3, itemsize=2, shard=64, halo=0, lane_bytes=0)
    chunked = dataclasses.replace(small, chunk=(7, 64, 64))
    assert chunked.shard_bytes() - small.shard_bytes() == 10 * 2 * 7 * 64 * 64
    whole = dataclasses.replace(small, shape=(640,) * 3, chunk=(640,) * 3)
    assert whole.shard_bytes() - small.shard_bytes() == 2 * 640**3


def test_what_resampling_holds_counts():
    halved = Resampling((128,) * 3, (64,) * 3, (2.0,) * 3, "linear")
    small = Plan((64,) * 3, itemsize=7, shard=64, halo=0, lane_bytes=1009, resampling=halved)
    assert small.shard_bytes() == 7 * 128**3 + 4 * 64**3 + 4 * 64**3
    tile = 4 * 4 * 68**3  # four arrays of the source of 32^3 voxels
    assert small.worker_bytes(lanes=3) == BASE_BYTES + small.shard_bytes() + 3 * tile
    heavy = dataclasses.replace(small, lane_bytes=10**9)
    assert heavy.worker_bytes(lanes=3) == BASE_BYTES + small.shard_bytes() + 3 * 10**9
    chunked = dataclasses.replace(small, chunk=(7, 128, 128))
    assert chunked.shard_bytes() - small.shard_bytes() == 10 * 7 * 7 * 128 * 128


def test_memory_of_a_worker_does_not_grow_with_the_volume():
    assert plan(shape=(10_000,) * 3).worker_bytes(2) == plan(shape=(1_000,) * 3).worker_bytes(2)


def test_a_worker_that_is_too_small_is_refused_with_the_flags_that_help():
    with pytest.raises(RequestError, match=r"--shard 64.*--threads 1.*--memory"):
        plan().check_memory(lanes=2, available=2**20)
    plan().check_memory(lanes=2, available=2**40)


def test_as_many_lanes_are_taken_as_fit():
    work = plan(lane_bytes=2**30)
    available = work.worker_bytes(3)
    assert [work.lanes_within(n, available) for n in (1, 3, 8)] == [1, 3, 3]
    assert work.lanes_within(8, available - 1) == 2
    assert work.lanes_within(8, 0) == 1


@pytest.mark.parametrize(
    ("shape", "window"),
    [((300, 500, 70), (160, 160, 80)), ((64, 1, 130), (64, 48, 144)), ((128,) * 3, (128,) * 3)],
)
def test_windows_are_no_longer_than_a_thin_volume_needs(shape, window):
    work = plan(shape=shape, core=128)
    assert work.window_shape == window
    for _, one in work.windows(whole(shape)):
        padded = zip(one.valid.shape, one.pad, strict=True)
        assert tuple(n + after for n, after in padded) == window


def test_a_million_blocks_are_planned_lazily():
    large = plan(shape=(6400,) * 3, shard=256)
    assert len(large.blocks) == 1_000_000
    assert len(large.shards) == 15_625
    assert large.shards.cell(15_624).stop == (6400,) * 3


def identity(**changes):
    values = {
        "source": {"sample_sha256": "a", "shape": [1, 2, 3]},
        "weights_sha256": "w",
        "config": SegmentConfig(),
        "grid": None,
        "device": "cpu",
        "versions": {"torch": "2"},
    }
    return fingerprint(**(values | changes))


def test_the_fingerprint_names_what_differs():
    check_fingerprint(identity(), identity())
    other = identity(
        config=SegmentConfig(seed=5, refine=RefineConfig(scope="none")), versions={"torch": "3"}
    )
    with pytest.raises(FingerprintError) as caught:
        check_fingerprint(identity(), other)
    for part in ("config.seed was 0, now 5", "refine.scope was volume, now none", "torch was 2"):
        assert part in str(caught.value)
    assert "weights" not in caught.value.message


def test_an_output_of_an_earlier_method_is_not_gone_on_with():
    earlier = {key: value for key, value in identity().items() if key != "method"}
    with pytest.raises(FingerprintError, match=f"method was absent, now {METHOD}"):
        check_fingerprint(earlier, identity())


def test_the_name_of_the_weights_is_no_identity_but_their_hash_is():
    check_fingerprint(identity(), identity(config=SegmentConfig(weights="/elsewhere")))
    with pytest.raises(FingerprintError, match="weights was w, now v"):
        check_fingerprint(identity(), identity(weights_sha256="v"))
