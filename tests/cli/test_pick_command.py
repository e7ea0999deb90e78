"""``tomoseg pick`` as a user sees it."""

import csv
import json
import os
import signal

import mrcfile
import numpy as np
import pytest
import starfile
import zarr
from test_commands import RANDOM, write_mrc

from tomoseg.io.omezarr import update_attributes
from tomoseg.particles import objects


def write_mask(path, *voxels, voxel_size=10.0):
    """Write a mask of single voxels."""
    values = np.zeros((20, 30, 40), np.int8)
    for voxel in voxels:
        values[voxel] = 1
    with mrcfile.new(path) as file:
        file.set_data(values)
        file.set_volume()
        file.voxel_size = voxel_size
    return path


def test_a_segmented_tomogram_is_picked_under_its_own_name(tomoseg, tmp_path):
    tomogram, mask = write_mrc(tmp_path / "TS_7.mrc"), tmp_path / "mask.zarr"
    code, _, err = tomoseg("segment", tomogram, "--out", mask, "--threshold", 0.14, *RANDOM)
    assert code == 0, err
    out, labels = tmp_path / "p.csv", tmp_path / "labels.zarr"
    code, printed, err = tomoseg(
        "pick", mask, "--out", out, "--labels", labels, "--json", "--min-volume", 30_000
    )
    assert code == 0, err
    assert json.loads(printed)["tomograms"][0]["name"] == "TS_7"
    table = np.genfromtxt(out, delimiter=",", names=True, dtype=None, encoding="utf-8", ndmin=1)
    numbers = zarr.open_array(labels / "0")[:]
    assert json.loads(printed)["particles"] == len(table) == numbers.max() > 0
    assert set(table["tomogram"]) == {"TS_7"}
    saliency, inside = (zarr.open_array(mask / name)[:] for name in ("0", "labels/mask/0"))
    assert (numbers > 0).sum() == table["voxels"].sum() <= inside.sum()
    for row in table[:3]:
        at = np.argwhere(numbers == row["particle"])
        np.testing.assert_allclose([row[axis] for axis in "zyx"], at.mean(0), atol=1e-5)
        mean = saliency[tuple(at.T)].mean() / 255
        assert row["score"] == pytest.approx(mean, rel=1e-5)
        assert row["z_angstrom"] == pytest.approx(33 + 13.5 * row["z"], abs=1e-3)  # the origin
    assert not list(tmp_path.glob(".*picking"))


def test_a_mask_that_is_not_complete_is_refused_with_what_finishes_it(tomoseg, tmp_path):
    tomogram, mask = write_mrc(tmp_path / "t.mrc"), tmp_path / "mask.zarr"
    tomoseg("segment", tomogram, "--out", mask, *RANDOM)
    update_attributes(mask, {"complete": False})
    code, _, err = tomoseg("pick", mask, "--out", tmp_path / "p.star")
    assert code == 3
    assert f"tomoseg segment {tomogram}" in err
    assert not (tmp_path / "p.star").exists()


def test_several_tomograms_in_one_star_file(tomoseg, tmp_path):
    write_mask(tmp_path / "TS_1.mrc", (3, 4, 5), (10, 20, 30))
    write_mask(tmp_path / "TS_2.mrc", (6, 7, 8))
    out, project = tmp_path / "all.star", tmp_path / "project"
    arguments = ["--out", out, "--copick", project, "--object", "ribosome"]
    code, printed, err = tomoseg("pick", tmp_path / "*.mrc", *arguments)
    assert code == 0, err
    assert "3 particles in 2 tomograms" in printed
    table = starfile.read(out)
    assert sorted(table["rlnTomoName"]) == ["TS_1", "TS_1", "TS_2"]
    last = table[table["rlnTomoName"] == "TS_2"][[f"rlnCoordinate{a}" for a in "XYZ"]]
    np.testing.assert_array_equal(last.to_numpy(), [[8, 7, 6]])
    assert "rlnAutopickFigureOfMerit" not in table  # a mask alone has no score
    picks = sorted(project.glob("ExperimentRuns/*/Picks/tomoseg_0_ribosome.json"))
    assert [path.parts[-3] for path in picks] == ["TS_1", "TS_2"]
    assert "score" not in json.loads(picks[1].read_text())["points"][0]


@pytest.fixture
def labelled(monkeypatch):
    """Names of the tomograms whose shards were labelled."""
    names, original = [], objects.label_shard

    def note(job, number):
        names.append(job.target.name)
        return original(job, number)

    monkeypatch.setattr(objects, "label_shard", note)
    return names


def test_a_mask_that_fails_holds_up_no_other_and_is_added_later(tomoseg, tmp_path, labelled):
    for number in (1, 3):
        write_mask(tmp_path / f"TS_{number}.mrc", (3, 4, number), (10, 20, 30))
    (tmp_path / "TS_2.mrc").write_bytes(b"no mask")
    out, table = tmp_path / "all.star", tmp_path / "outcome.csv"
    command = ("pick", tmp_path / "*.mrc", "--out", out, "--table", table)
    code, printed, err = tomoseg(*command, "--json")
    assert code == 3
    result = json.loads(printed)
    assert [t["name"] for t in result["tomograms"]] == ["TS_1", "TS_3"]
    assert [one["input"] for one in result["failed"]] == [str(tmp_path / "TS_2.mrc")]
    assert (result["particles"], result["not_begun"]) == (4, 0)
    assert "TS_2.mrc" in err
    assert sorted(starfile.read(out)["rlnTomoName"]) == ["TS_1"] * 2 + ["TS_3"] * 2
    with table.open(newline="") as file:
        rows = {row["tomogram"]: row for row in csv.DictReader(file)}
    assert (rows["TS_1"]["status"], rows["TS_1"]["particles"]) == ("done", "2")
    assert "TS_2.mrc" in rows[str(tmp_path / "TS_2.mrc")]["error"]

    (tmp_path / "TS_2.mrc").unlink()
    write_mask(tmp_path / "TS_2.mrc", (1, 1, 1))
    code, printed, err = tomoseg(*command)
    assert (code, len(starfile.read(out))) == (2, 4)
    code, printed, err = tomoseg(*command, "--overwrite")
    assert code == 0, err
    assert "5 particles in 3 tomograms" in printed
    assert sorted(starfile.read(out)["rlnTomoName"])[2] == "TS_2"
    assert labelled == ["TS_1", "TS_3", "TS_2"]
    assert not list(tmp_path.glob(".*picking"))


def test_a_stopped_command_writes_nothing_and_goes_on(tomoseg, tmp_path, monkeypatch, labelled):
    for number in (1, 2, 3):
        write_mask(tmp_path / f"TS_{number}.mrc", (3, 4, number))
    out = tmp_path / "all.star"
    with monkeypatch.context() as patch:
        note = objects.label_shard
        patch.setattr(
            objects,
            "label_shard",
            lambda job, number: (
                note(job, number),
                job.target.name == "TS_2" and os.kill(os.getpid(), signal.SIGINT),
            ),
        )
        code, printed, _ = tomoseg("pick", tmp_path / "*.mrc", "--out", out, "--json")
    assert code == 3
    assert json.loads(printed)["not_begun"] == 1
    assert not out.exists()
    code, _, err = tomoseg("pick", tmp_path / "*.mrc", "--out", out)
    assert code == 0, err
    assert len(starfile.read(out)) == 3
    assert labelled.count("TS_1") == labelled.count("TS_2") == labelled.count("TS_3") == 1


def test_an_interrupt_at_the_very_end_changes_nothing(tomoseg, tmp_path, monkeypatch):
    mask, out = write_mask(tmp_path / "m.mrc", (3, 4, 5)), tmp_path / "p.star"
    original = objects.label_shard
    monkeypatch.setattr(
        objects,
        "label_shard",
        lambda job, number: (original(job, number), os.kill(os.getpid(), signal.SIGINT)),
    )
    code, _, err = tomoseg("pick", mask, "--out", out)
    assert code == 0, err
    assert len(starfile.read(out)) == 1


def test_a_tomogram_that_relion_does_not_know_is_refused_before_it_is_picked(
    tomoseg, tmp_path, labelled
):
    for number in (1, 2):
        write_mask(tmp_path / f"TS_{number}.mrc", (3, 4, number))
    star = tmp_path / "tomograms.star"
    names = [f"rlnTomo{name}" for name in ("Name", "SizeX", "SizeY", "SizeZ")]
    head = "".join(f"_{name}\n" for name in (*names, "rlnTomoTiltSeriesPixelSize"))
    star.write_text(f"data_global\nloop_\n{head}TS_2 160 120 80 2.5\n")
    out = tmp_path / "all.star"
    code, _, err = tomoseg("pick", tmp_path / "*.mrc", "--out", out, "--tomograms", star)
    assert code == 3
    assert "expected a tomogram TS_1, got TS_2" in err
    assert labelled == ["TS_2"]
    assert list(starfile.read(out)["rlnCoordinateX"]) == [8]


def test_limits_are_changed_without_beginning_again(tomoseg, tmp_path, labelled, monkeypatch):
    """What was measured is kept until the file is there."""
    mask, out = write_mask(tmp_path / "m.mrc", (3, 4, 5), (3, 4, 6), (10, 20, 30)), tmp_path / "d"
    out.write_text("no folder")
    code, _, err = tomoseg("pick", mask, "--copick", out)
    assert code == 3, err
    out.unlink()
    code, printed, err = tomoseg("pick", mask, "--copick", out, "--min-volume", 2000)
    assert code == 0, err
    assert printed.startswith("m: 1 particles")
    assert labelled == ["m"]


def test_nothing_is_overwritten_unasked(tomoseg, tmp_path):
    mask, out = write_mask(tmp_path / "m.mrc", (1, 1, 1)), tmp_path / "p.star"
    out.write_text("mine")
    code, _, err = tomoseg("pick", mask, "--out", out)
    assert (code, out.read_text()) == (2, "mine")
    assert "--overwrite" in err
    code, _, err = tomoseg("pick", mask, "--out", out, "--overwrite")
    assert code == 0, err
    assert len(starfile.read(out)) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "--copick PROJECT"),
        (["--out", "particles"], 2, "FORMAT:PATH"),
        (["--out", "p.star", "--split", "distance"], 2, "--diameter"),
        (["--out", "p.star", "--diameter", "-3"], 2, "above 0"),
        (["--out", "p.star", "--shard", "100"], 2, "multiple of 64"),
        (["--out", "p.star", "--min-score", "0.5"], 2, "saliency"),
        (["--out", "p.star", "--binning", "0"], 2, "--binning"),
        (["--copick", "project", "--object", "a_b"], 2, "underscores"),
        (["--out", "p.star", "--tomograms", "none.star"], 1, "none.star"),
        (["--out", "p.star", "--memory", "1MB"], 2, "--memory"),
        (["--out", "p.star", "--array", "x"], 2, "--array"),
    ],
)
def test_requests_that_cannot_be_met(tomoseg, tmp_path, monkeypatch, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    mask = write_mask(tmp_path / "m.mrc", (1, 1, 1))
    found, _, err = tomoseg("pick", mask, *arguments)
    assert found == code
    assert said in err
    assert [path.name for path in tmp_path.iterdir()] == ["m.mrc"]


def test_masks_that_are_none(tomoseg, tmp_path):
    out = tmp_path / "p.star"
    code, _, err = tomoseg("pick", write_mask(tmp_path / "a.mrc", voxel_size=0), "--out", out)
    assert code == 1
    assert "--voxel-size" in err
    code, _, err = tomoseg("pick", write_mrc(tmp_path / "b.mrc"), "--out", out)
    assert code == 1
    assert "mask of whole numbers" in err
    with mrcfile.new(tmp_path / "c.mrc") as file:
        file.set_data(np.full((5, 6, 7), -3, np.int8))
        file.set_volume()
        file.voxel_size = 10.0
    code, _, err = tomoseg("pick", tmp_path / "c.mrc", "--out", out)
    assert code == 1
    assert "negative values" in err


def test_a_mask_goes_into_a_copick_project(tomoseg, tmp_path):
    mask, project = write_mask(tmp_path / "TS_1.mrc", (3, 4, 5)), tmp_path / "project"
    code, _, err = tomoseg("convert", mask, "--copick", project, "--object", "membrane")
    assert code == 0, err
    config = json.loads((project / "copick_config.json").read_text())
    assert config["pickable_objects"][0]["is_particle"] is False
    path = project / "ExperimentRuns/TS_1/Segmentations/10.000_tomoseg_0_membrane.zarr"
    attributes = json.loads((path / ".zattrs").read_text())
    assert attributes["multiscales"][0]["version"] == "0.4"
    values = zarr.open_array(path / "0")[:]
    assert values.sum() == values[3, 4, 5] == 1
    code, _, err = tomoseg("convert", mask)
    assert code == 2
    assert "--copick" in err
