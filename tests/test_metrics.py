import itertools

import numpy as np
import pytest

from tomoseg.metrics import Agreement, boxes_around, centre_of, score, score_boxes


@pytest.fixture
def pair():
    random = np.random.default_rng(0)
    truth = random.random((20, 30, 25)) < 0.2
    saliency = np.clip(random.normal(90 + 70 * truth, 40), 0, 255).astype(np.uint8)
    return saliency, truth


def test_counts_of_blocks_add_up_to_those_of_the_whole(pair):
    saliency, truth = pair
    parts = Agreement.of(saliency[:7], truth[:7]) + Agreement.of(saliency[7:], truth[7:])
    np.testing.assert_array_equal(parts.counts, Agreement.of(saliency, truth).counts)


def test_scores_are_those_of_their_definitions(pair):
    saliency, truth = pair
    score = Agreement.of(saliency, truth)
    assert score.mean_absolute_error == pytest.approx(np.abs(saliency / 255 - truth).mean())
    chosen = saliency >= 128
    dice = 2 * (chosen & truth).sum() / (chosen.sum() + truth.sum())
    assert score.dice(0.5) == pytest.approx(dice)

    def f(level):
        precision = truth[saliency >= level].mean()
        recall = (saliency[truth] >= level).mean()
        return 1.3 * precision * recall / (0.3 * precision + recall)

    assert score.maximum_f == pytest.approx(max(f(level) for level in range(240)))


def test_precision_recall_and_their_area_are_those_of_their_definitions(pair):
    saliency, truth = pair
    score = Agreement.of(saliency, truth)
    chosen = saliency >= 128
    assert score.precision(0.5) == pytest.approx(truth[chosen].mean())
    assert score.recall(0.5) == pytest.approx(chosen[truth].mean())
    area, before = 0.0, 0.0
    for level in range(255, -1, -1):
        chosen = saliency >= level
        recall = chosen[truth].mean()
        area += (recall - before) * (truth[chosen].mean() if chosen.any() else 0)
        before = recall
    assert score.average_precision == pytest.approx(area)


def test_precision_and_recall_of_nothing():
    nothing, truth = np.zeros((4, 4), np.uint8), np.eye(4, dtype=bool)
    assert Agreement.of(nothing, truth).precision(0.5) == 1
    assert Agreement.of(nothing, truth).recall(0.5) == 0
    assert Agreement.of(nothing, truth & False).recall(0.5) == 1
    assert Agreement.of(nothing, truth & False).average_precision == 0
    assert Agreement.of(truth.astype(np.uint8) * 255, truth).average_precision == 1


def test_trivial_maps():
    truth = np.zeros((10, 10), bool)
    truth[:2] = True
    zeros, ones = np.zeros((10, 10), np.uint8), np.full((10, 10), 255, np.uint8)
    assert Agreement.of(zeros, truth).mean_absolute_error == pytest.approx(0.2)
    assert Agreement.of(ones, truth).mean_absolute_error == pytest.approx(0.8)
    assert Agreement.of(zeros, truth).dice(0.5) == 0
    assert Agreement.of(zeros, truth & False).dice(0.5) == 1
    assert Agreement.of(zeros, truth & False).maximum_f == 0
    perfect = Agreement.of(truth.astype(np.uint8) * 255, truth)
    assert perfect.maximum_f == pytest.approx(1)


# What pysodmetrics 1.6.2 gives (normalize=False, saliency / 255): MAE; F adaptive, mean,
# maximum; E adaptive, mean, maximum; S. On 420 random and edge cases the largest difference
# was 3e-11 (E of a constant map), but for S of constant maps, where its rounded means miss
# a variance of 0, and for S of boxes without voxels, where it gives NaN.
FROZEN = [
    (
        "texture",
        (24, 31),
        (
            0.494454986,
            0.073033708,
            0.149861205,
            0.182708688,
            0.430839693,
            0.377476748,
            0.777707724,
            0.319293871,
        ),
    ),
    (
        "faint",
        (24, 31),
        (
            0.165749526,
            0.053867403,
            0.009590026,
            0.182349503,
            0.586789599,
            0.258390431,
            0.773116893,
            0.427143303,
        ),
    ),
    (
        "good",
        (24, 31),
        (0.123297491, 1.0, 0.762007538, 1.0, 1.001345895, 0.777206336, 1.001345895, 0.882846504),
    ),
    (
        "blurred",
        (40, 33),
        (
            0.249979204,
            0.868475992,
            0.540215891,
            1.0,
            0.852435349,
            0.570116335,
            1.00075815,
            0.721976726,
        ),
    ),
    ("perfect", (24, 31), (0.0, 1.0, 0.996800135, 1.0, 1.001345895, 0.998412264, 1.001345895, 1.0)),
    ("inverse", (24, 31), (1.0, 0.0, 0.000706385, 0.180834621, 0.0, 0.000977877, 0.250336474, 0.0)),
    (
        "binary",
        (17, 50),
        (
            0.349411765,
            0.076101928,
            0.076144212,
            0.086926447,
            0.381468983,
            0.380956582,
            0.381468983,
            0.336823072,
        ),
    ),
    (
        "missed",
        (24, 31),
        (
            0.195762176,
            0.0,
            0.000706385,
            0.180834621,
            0.634657524,
            0.550587294,
            0.634657524,
            0.350525765,
        ),
    ),
    (
        "zeros",
        (24, 31),
        (
            0.14516129,
            0.180834621,
            0.000706385,
            0.180834621,
            0.250336474,
            0.250336474,
            0.250336474,
            0.427419355,
        ),
    ),
    (
        "ones",
        (24, 31),
        (
            0.85483871,
            0.180834621,
            0.180834621,
            0.180834621,
            0.250336474,
            0.250336474,
            0.250336474,
            0.072580645,
        ),
    ),
    (
        "texture, empty truth",
        (20, 21),
        (0.491746032, 0.0, 0.0, 0.0, 0.985680191, 0.507476879, 0.997613365, 0.508253968),
    ),
    (
        "texture, full truth",
        (20, 21),
        (
            0.508253968,
            0.068421053,
            0.721146646,
            1.0,
            0.016706444,
            0.494909755,
            1.002386635,
            0.491746032,
        ),
    ),
    (
        "texture, corner",
        (20, 21),
        (
            0.494126984,
            0.0,
            0.000012082,
            0.003093029,
            0.407450762,
            0.253565262,
            0.807900898,
            0.328791991,
        ),
    ),
]
NAMES = (
    "mean_absolute_error",
    "adaptive_f",
    "mean_f",
    "maximum_f",
    "adaptive_e",
    "mean_e",
    "maximum_e",
    "structure",
)


def patterns(kind, shape):
    """Return a saliency 0-255 and a truth by plain arithmetic, so that they never change."""
    height, width = shape
    y, x = np.indices(shape)
    square = (y - height / 3) ** 2 + (x - width / 2) ** 2
    truth = square < (min(shape) / 4) ** 2
    ramp = (37 * y + 101 * x + 7 * x * y) % 256
    made = {
        "texture": (ramp, truth),
        "faint": (ramp // 16, truth),
        "good": (190 * truth + ramp // 4, truth),
        "blurred": (255 / (1 + square / (height + width)), truth),
        "perfect": (255 * truth, truth),
        "inverse": (255 * ~truth, truth),
        "binary": (255 * (ramp < 80), truth),
        "missed": (200 * (x < 2), truth),
        "zeros": (0 * x, truth),
        "ones": (0 * x + 255, truth),
        "texture, empty truth": (ramp, truth & False),
        "texture, full truth": (ramp, truth | True),
        "texture, corner": (ramp, (y == 0) & (x == 0)),
    }
    saliency, truth = made[kind]
    return saliency.astype(np.uint8), truth


@pytest.mark.parametrize(("kind", "shape", "expected"), FROZEN)
def test_images_score_as_by_the_reference_implementation(kind, shape, expected):
    result = score(*patterns(kind, shape)).to_dict()
    assert [result[name] for name in NAMES] == pytest.approx(expected, abs=1e-9)


def structure_by_definition(p, g):
    """Return the S-measure of an array that truth fills in part, straight from the paper."""

    def evenness(x):
        return 2 * x.mean() / (x.mean() ** 2 + 1 + (x.std(ddof=1) if x.size > 1 else 0))

    def similarity(p, g):
        n = max(p.size - 1, 1)
        sp, sg = ((v - v.mean()) ** 2 for v in (p, g))
        both = ((p - p.mean()) * (g - g.mean())).sum() / n
        top = 4 * p.mean() * g.mean() * both
        bottom = (p.mean() ** 2 + g.mean() ** 2) * (sp.sum() + sg.sum()) / n
        return top / bottom if top else float(bottom == 0)

    share = g.mean()
    objects = share * evenness(p[g]) + (1 - share) * evenness(1 - p[~g])
    cut = [int(np.round(c)) + 1 for c in np.argwhere(g).mean(0)]
    region = 0.0
    for high in itertools.product((False, True), repeat=g.ndim):
        box = tuple(slice(c, None) if up else slice(0, c) for c, up in zip(cut, high, strict=True))
        if g[box].size:
            region += g[box].size / g.size * similarity(p[box], g[box].astype(float))
    return max(0.0, 0.5 * objects + 0.5 * region)


@pytest.mark.parametrize("shape", [(12, 17, 9), (5, 1, 8), (30, 21), (40,), (4, 5, 6, 3)])
def test_structure_of_any_dimension_is_that_of_its_definition(shape):
    random = np.random.default_rng(3)
    truth = random.random(shape) < 0.3
    saliency = np.clip(random.normal(90 + 70 * truth, 40), 0, 255).astype(np.uint8)
    expected = structure_by_definition(saliency / 255, truth)
    assert score(saliency, truth).structure == pytest.approx(expected, abs=1e-12)


def test_an_object_in_the_last_corner_leaves_boxes_without_voxels():
    truth = np.zeros((4, 6, 5), bool)
    truth[-1, -1, -1] = True
    result = score(truth.astype(np.uint8) * 255, truth)
    assert result.structure == pytest.approx(1)
    assert result.maximum_f == pytest.approx(1)


def test_e_of_a_volume_is_that_of_its_definition(pair):
    saliency, truth = pair
    curve = Agreement.of(saliency, truth).e_curve()
    for level in (0, 1, 90, 128, 255):
        b = (saliency >= level) - (saliency >= level).mean()
        g = truth - truth.mean()
        xi = 2 * b * g / (b**2 + g**2)
        assert curve[level] == pytest.approx(((xi + 1) ** 2 / 4).sum() / (truth.size - 1))


def test_a_volume_scored_in_blocks_scores_as_a_whole(pair):
    saliency, truth = pair
    parts = []
    for box in boxes_around(centre_of(truth), truth.shape):
        blocks = np.array_split(saliency[box], 3), np.array_split(truth[box], 3)
        counted = [Agreement.of(s, t) for s, t in zip(*blocks, strict=True)]
        parts.append(counted[0] + counted[1] + counted[2])
    assert score_boxes(parts) == score(saliency, truth)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_floating_point_scores_as_the_levels_that_are_stored(pair, dtype):
    saliency, truth = pair
    assert score((saliency / 255).astype(dtype), truth) == score(saliency, truth)


def test_an_empty_truth_rewards_a_map_without_false_alarms():
    empty = np.zeros((6, 6, 6), np.uint8)
    faint = np.full((6, 6, 6), 25, np.uint8)
    result = score(empty, empty)
    assert (result.mean_absolute_error, result.structure, result.dice) == (0, 1, 1)
    assert result.maximum_e > 1 - 1e-9
    assert score(faint, empty).structure == pytest.approx(1 - 25 / 255)


@pytest.mark.parametrize(
    "saliency",
    [
        np.full((2, 2), 1.5),
        np.full((2, 2), -0.1),
        np.full((2, 2), np.nan),
        np.ones((2, 2), np.int16),
        np.zeros((2, 3)),
    ],
)
def test_what_is_no_saliency_of_the_truths_shape_is_refused(saliency):
    with pytest.raises(ValueError, match="expected"):
        score(saliency, np.zeros((2, 2), bool))


def test_nothing_cannot_be_scored():
    with pytest.raises(ValueError, match="voxels"):
        score(np.zeros((0, 4), np.uint8), np.zeros((0, 4), bool))
