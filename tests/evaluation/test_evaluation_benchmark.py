import dataclasses
import json
import threading
from pathlib import Path

import numpy as np
import pytest

from tomoseg.errors import InputError, RequestError, Stopped, StorageError
from tomoseg.evaluation import cases, learned, suite, tables
from tomoseg.evaluation.benchmark import Bench, Task, measured
from tomoseg.evaluation.cases import Data, Pictures, Tomogram, elsewhere, home
from tomoseg.evaluation.cells import Cells
from tomoseg.evaluation.figures import pareto
from tomoseg.evaluation.intervals import cell, interval
from tomoseg.evaluation.methods import Method, of_baseline
from tomoseg.evaluation.paper import TABLE3
from tomoseg.evaluation.pictures import load_pictures
from tomoseg.evaluation.render import gains_of, margins, markdown, scores_table, series
from tomoseg.evaluation.tables import Networks, share_out, tasks

SMALL = (32, 40, 36)


def toy(number: int = 0) -> Tomogram:
    random = np.random.default_rng(number)
    truth = np.zeros(SMALL, np.uint8)
    truth[10:20, 12:24, 8:20] = 1
    density = random.normal(size=SMALL) - 3 * truth  # salient objects dark
    return Tomogram(density.astype(np.float32), truth, 10.0)


class Toys(Data):
    """A data set that counts how often it makes a tomogram."""

    made: list[int] = []  # noqa: RUF012

    def make(self, number: int, structures: Path | None) -> Tomogram:
        self.made.append(number)
        return toy(number)


@pytest.fixture
def data() -> Toys:
    Toys.made = []
    return Toys("toys", shape=SMALL)


def bright(image: np.ndarray) -> np.ndarray:
    return np.clip(image / 5, 0, 1).astype(np.float32)


def nothing(image: np.ndarray) -> np.ndarray:
    return np.zeros(image.shape, np.float32)


METHODS = [of_baseline("bright", bright, 3), of_baseline("nothing", nothing, 3)]


def bench(folder: Path, stop: threading.Event | None = None, jobs: int = 1) -> Bench:
    return Bench(Cells(folder), None, stop or threading.Event(), jobs)


def task(data: Data, count: int = 2, methods: list[Method] = METHODS) -> Task:
    return Task(3, [(data, number) for number in range(count)], methods)


# Cells and resuming ----------------------------------------------------------------------


def test_results_are_kept_and_never_computed_twice(tmp_path: Path, data: Toys) -> None:
    first = bench(tmp_path).run([task(data)], lambda *_: None)
    assert [(r["method"], r["number"]) for r in first] == [
        ("bright", 0), ("nothing", 0), ("bright", 1), ("nothing", 1)
    ]  # fmt: skip
    assert first[0]["maximum_f"] > 0.5 > first[1]["maximum_f"]
    assert bench(tmp_path).run([task(data)], lambda *_: None) == first
    assert Toys.made == [0, 1]
    more = bench(tmp_path).run([task(data, 3)], lambda *_: None)
    assert Toys.made == [0, 1, 2]
    assert more[:4] == first


def test_a_stop_keeps_what_is_done_and_the_rest_follows(tmp_path: Path, data: Toys) -> None:
    stop = threading.Event()

    def halting(image: np.ndarray) -> np.ndarray:
        stop.set()
        return bright(image)

    methods = [of_baseline("bright", halting, 3), METHODS[1]]
    with pytest.raises(Stopped) as stopped:
        bench(tmp_path, stop).run([task(data, 2, methods)], lambda *_: None)
    assert stopped.value.exit_code == 3
    assert len(list(tmp_path.glob("*.json"))) == 1
    whole = bench(tmp_path).run([task(data)], lambda *_: None)
    assert len(whole) == 4


def test_jobs_decide_no_score_and_no_order(tmp_path: Path, data: Toys) -> None:
    runs = [
        bench(tmp_path / str(jobs), jobs=jobs).run([task(data, 4)], lambda *_: None)
        for jobs in (1, 3)
    ]
    for one, other in zip(*runs, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    cells.put({"a": 1}, {"score": 0.5})
    assert cells.get({"a": 1}) == {"score": 0.5}
    assert cells.get({"a": 2}) is None
    (path,) = tmp_path.glob("*.json")
    path.write_text("{")
    with pytest.raises(StorageError, match=path.name):
        cells.get({"a": 1})


def test_a_limit_is_shared_out_over_data_sets() -> None:
    data = [home(0.5), home(1.5), elsewhere("empty")]
    assert share_out(data, 2, None) == [(d, n) for d in data for n in (0, 1)]
    assert share_out(data, 5, 4) == [(data[0], 0), (data[0], 1), (data[1], 0), (data[2], 0)]
    assert share_out(data, 5, 2) == [(data[0], 0), (data[1], 0)]


# Tomograms -------------------------------------------------------------------------------


def test_views_are_the_volume_or_slices_that_hold_truth() -> None:
    tomogram = toy()
    ((volume, truth),) = tomogram.views(3)
    assert volume[truth == 1].mean() > volume[truth == 0].mean() + 2  # objects bright
    slices = tomogram.views(2)
    assert 0 < len(slices) < 3 * cases.SLICES
    assert all(found.any() for _, found in slices)
    smoothed = cases.normalised(tomogram.density, smoothed=True)
    np.testing.assert_array_equal(volume, smoothed)  # what our networks see, all methods do
    np.testing.assert_array_equal(slices[0][0], smoothed[12])
    empty = Tomogram(tomogram.density, np.zeros(SMALL, np.uint8), 10.0)
    assert len(empty.views(2)) == 3 * cases.SLICES


@pytest.mark.parametrize("data", [home(1.5, shape=SMALL), elsewhere("volume_domain", shape=SMALL)])
def test_tomograms_follow_from_split_and_number(data: Data) -> None:
    one, again, other = (data.make(n, None) for n in (0, 0, 1))
    np.testing.assert_array_equal(one.density, again.density)
    assert not np.array_equal(one.density, other.density)
    assert one.density.shape == one.truth.shape == SMALL
    assert one.truth.any()
    chosen = Data(data.name, data.style, data.snr, "validation", SMALL).make(0, None)
    assert not np.array_equal(one.truth, chosen.truth)


def test_unknown_styles_are_refused_by_name() -> None:
    with pytest.raises(RequestError, match="sparse_clean"):
        elsewhere("pretty")


# Numbers ---------------------------------------------------------------------------------


def test_intervals_hold_the_mean_and_shrink_with_the_sample() -> None:
    random = np.random.default_rng(0)
    few, many = (list(random.normal(5, 1, n)) for n in (10, 1000))
    mean, low, high = interval(few)
    assert low < mean < high
    assert mean == pytest.approx(np.mean(few))
    assert interval(many)[2] - interval(many)[1] < (high - low) / 4
    assert interval(few) == interval(few)
    assert cell([0.5]) == "0.500"


def records(method: str, f: float, error: float) -> list[dict[str, object]]:
    scores = measured(METHODS[0], toy(), 3) | {"maximum_f": f, "mean_absolute_error": error}
    where = {"dim": 3, "data": "toys", "method": method}
    return [where | {"number": number} | scores for number in range(2)]


def test_gains_are_positive_where_ours_is_better_mae_included() -> None:
    values = series(records("ours", 0.9, 0.1) + records("theirs", 0.6, 0.2), 3, "toys")
    assert gains_of(values, "ours", "theirs", "maximum_f") == pytest.approx([0.3, 0.3])
    assert gains_of(values, "ours", "theirs", "mean_absolute_error") == pytest.approx([0.1, 0.1])
    table = margins(values, "ours", ["theirs"])
    assert "| F | theirs | 0.600 | 0.900 | +50 %" in table
    assert "| MAE | theirs | 0.200 | 0.100 | +50 %" in table
    assert "0.900 (0.900 to 0.900)" in scores_table(values)


def test_the_front_holds_what_nothing_cheaper_beats() -> None:
    points = [("dear", 9.0, 0.8), ("best", 5.0, 0.9), ("cheap", 1.0, 0.5), ("bad", 2.0, 0.4)]
    assert [name for name, *_ in pareto(points)] == ["cheap", "best"]


# Pictures --------------------------------------------------------------------------------


def test_pairs_of_images_and_masks(tmp_path: Path) -> None:
    from skimage.io import imsave

    image = np.full((300, 400, 3), 200, np.uint8)
    image[100:200, 100:300] = 60  # a lesion is dark
    mask = np.zeros((300, 400), np.uint8)
    mask[100:200, 100:300] = 255
    imsave(tmp_path / "one.jpg", image)
    with pytest.raises(InputError, match="found none"):
        load_pictures(tmp_path)
    imsave(tmp_path / "one_segmentation.png", mask)
    (pictures,) = load_pictures(tmp_path).values()
    ((values, truth),) = pictures.views(2)
    assert max(values.shape) == 256
    assert truth.mean() == pytest.approx(1 / 6, abs=0.01)
    assert values[truth == 1].mean() > values[truth == 0].mean()
    imsave(tmp_path / "one_segmentation.png", mask[:-1])
    with pytest.raises(InputError, match="shape"):
        load_pictures(tmp_path)


# The whole -------------------------------------------------------------------------------


def test_the_suite_writes_a_page_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(tables, "VOLUME", (32, 32, 32))
    monkeypatch.setattr(tables, "SHAPE", (32, 48, 48))
    monkeypatch.setattr(tables, "SLICES", 1)
    monkeypatch.setattr(learned, "SHAPE", (32, 48, 48))
    monkeypatch.setattr(learned, "LESSONS", 2)
    for name, value in (("CLASSIFIER_STEPS", 2), ("SALGAN_STEPS", 2), ("SALGAN_WINDOW", 32)):
        monkeypatch.setattr(learned, name, {2: value, 3: value})
    monkeypatch.setattr(tables, "DEFAULT", dataclasses.replace(tables.DEFAULT, iterations=1))
    request = suite.Request(
        folder=tmp_path / "bench",
        tables=["table1", "figure5"],
        dims=[2, 3],
        split="validation",
        count=1,
        limit=1,
        structures=None,
        pictures=None,
        weights={2: "unet2d", 3: "vnet3d"},
        plain={},
        jobs=2,
        command="tomoseg benchmark table1 figure5",
    )
    first = suite.run(request, threading.Event(), lambda *_: None)
    folder = request.folder
    page = (folder / suite.PAGE).read_text()
    for text in ("## Table 1", "### 2-D, home", "### 3-D, home", "## Figure 5", "| P+U+B |"):
        assert text in page
    assert (folder / suite.FIGURE5).stat().st_size > 0
    assert json.loads((folder / suite.RESULTS).read_text()) == first
    assert markdown(first) == page
    monkeypatch.setattr(Data, "make", lambda *_: pytest.fail("computed again"))
    later = dataclasses.replace(request, tables=["table1"], command="tomoseg benchmark table1")
    again = suite.run(later, threading.Event(), lambda *_: None)
    assert again["figure5"] == first["figure5"]
    assert again["table1"] == first["table1"] | {"command": later.command}


def test_every_table_has_the_papers_rows_and_those_of_a_sceptic() -> None:
    networks = Networks(
        plain={2: "unet2d"}, fresh={2: "random:0", 3: "random:0"}, fresh_plain={3: "random:0"}
    )
    made = tasks(
        ["table1", "table2", "table3", "refine"], networks, [3], "test", {}, count=2, limit=None
    )
    rows = {table: [m.name for m in found[0].methods] for table, found in made.items()}
    for names in rows.values():
        assert {"P+U", "difference of Gaussians", "all zeros", "all ones"} <= set(names)
        assert len(set(names)) == len(names)
    assert set(rows["table1"]) > {"Itti", "LC", "SR", "Zhou 2018", "PickET 2025", "P+U+B"}
    assert set(rows["table2"]) > {"B", "U+B"}
    assert "P+B, rule majority" not in rows["table2"]  # there are no such weights of volumes
    assert [name for name in rows["table3"] if "classes" in name] == list(TABLE3)
    assert len({str(m.key) for m in made["refine"][0].methods}) == len(rows["refine"])
    data = {d.name for d, _ in made["refine"][0].tomograms}
    assert {"home, SNR 0.5", "home, SNR 1.5", "empty", "sparse_noisy"} < data


def test_the_sheet_of_refinements_draws_its_front(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    made = records("P+U", 0.5, 0.2) + records("P+U+B", 0.6, 0.1)
    made += records("difference of Gaussians", 0.4, 0.3)
    results = {"refine": {"command": "", "date": "", "facts": {}, "records": made}}
    assert "| P+U+B over P+U | 0.100" in markdown(results)
    assert "dearer than" not in markdown(results)
    for name, f in (("self-training, 64 steps", 0.7), ("majority", 0.3)):
        made += [record | {"seconds": 99.0} for record in records(name, f, 0.3)]
    page = markdown(results)
    assert "| self-training, 64 steps | 99.0 | +0.2000 | +0.1000 | 50 % |" in page
    assert "| majority | 99.0 | -0.2000 | +0.1000 | gains nothing |" in page
    suite.draw(tmp_path, results)
    assert (tmp_path / suite.PARETO).stat().st_size > 0


def test_table4_needs_its_pictures(tmp_path: Path) -> None:
    request = suite.Request(
        folder=tmp_path, tables=["table4"], dims=[2], split="test", count=1, limit=1,
        structures=None, pictures=None, weights={2: "unet2d"}, plain={}, jobs=1, command="",
    )  # fmt: skip
    with pytest.raises(RequestError, match="--pictures"):
        suite.run(request, threading.Event(), lambda *_: None)


def test_pictures_are_scored_as_slices_are() -> None:
    image, truth = toy().views(2)[0]
    scores = measured(of_baseline("bright", bright, 2), Pictures([(image, truth)]), 2)
    assert scores["maximum_f"] > 0.5
