"""Many tomograms: which are meant, what each is told, what becomes of each."""

import csv
import json
import shutil

import numpy as np
import pytest
from outputs import write_mrc
from phantom import phantom
from tomoseg_cli.batch import Item, find_items, name_of, output_paths, read_table

from tomoseg.errors import InputError, RequestError
from tomoseg.saliency.architecture import Architecture
from tomoseg.saliency.initialise import random_network
from tomoseg.saliency.weights import Card, save


def test_outputs_are_called_after_their_inputs():
    x, y = Item("a/x.mrc"), Item("y.rec", out="other.zarr")
    assert [str(out) for _, out in output_paths([x], "m.zarr")] == ["m.zarr"]
    assert [str(out) for _, out in output_paths([x, y], "out")] == ["out/x.zarr", "out/other.zarr"]
    copick = "p/ExperimentRuns/TS_1/VoxelSpacing10.000/wbp.zarr"
    assert name_of(copick) == "TS_1_10.000_wbp"


@pytest.mark.parametrize(("inputs", "out"), [(["x", "y"], "m.zarr"), (["a/x", "b/x"], "m")])
def test_outputs_that_would_meet_are_refused(inputs, out):
    with pytest.raises(RequestError, match="--out"):
        output_paths([Item(path) for path in inputs], out)


def test_a_table_says_what_each_is_told(tmp_path):
    table = tmp_path / "batch.csv"
    table.write_text(
        "\ufeffpath,out,voxel_size,contrast,array,roi\n"
        "a.mrc,,13.48,light,,lamella.mrc\n"
        f"{tmp_path}/b.zarr,second.zarr,, ,sub/0,\n"
        "https://host/c.zarr,,,,,\n"
    )
    assert read_table(table) == [
        Item(
            f"{tmp_path}/a.mrc",
            roi=f"{tmp_path}/lamella.mrc",
            changes={"voxel_size_angstrom": 13.48, "contrast": "light"},
        ),
        Item(f"{tmp_path}/b.zarr", "second.zarr", "sub/0"),
        Item("https://host/c.zarr"),
    ]
    assert len(find_items((str(table), str(table)))) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "got none"),
        ("file\na.mrc\n", "expected the columns path, out"),
        ("path,size\na,1\n", "got path, size"),
        ("path\n", "a row for each tomogram"),
        ("path,out\na\n", "line 2: expected as many cells"),
        ("path\na,b\n", "line 2: expected as many cells"),
        ("path,out\n,b.zarr\n", "line 2: expected a path"),
        ("path,out\na,b.mrc\n", "expected out to be NAME.zarr, got b.mrc"),
        ("path,voxel_size\nb,1\na,ten\n", "line 3: expected voxel_size .* got ten"),
        ("path,voxel_size\na,nan\n", "got nan"),
        ("path,contrast\na,bright\n", "dark or light or auto, got bright"),
        (b"path\n\xff\n", "CSV in UTF-8"),
    ],
)
def test_a_wrong_table_is_refused_by_line_and_column(tmp_path, text, said):
    table = tmp_path / "batch.csv"
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=said):
        read_table(table)


def test_a_copick_project_gives_its_tomograms(tmp_path):
    spacing = tmp_path / "ExperimentRuns" / "TS_1" / "VoxelSpacing10.000"
    for name in ("wbp.zarr", "wbp_gabor_features.zarr"):
        (spacing / name).mkdir(parents=True)
    (tmp_path / "ExperimentRuns" / "TS_1" / "Picks").mkdir()
    assert [item.path for item in find_items((str(tmp_path),))] == [str(spacing / "wbp.zarr")]


def test_one_good_one_broken_and_one_finished(tomoseg, tmp_path):
    """Each has its own outcome, the good ones are not held up, and again changes nothing."""
    architecture = Architecture(base_channels=2, generator_channels=2)
    weights = tmp_path / "tiny.safetensors"
    save(weights, random_network(architecture, seed=0), Card("tiny", architecture))
    folder, out = tmp_path / "tomograms", tmp_path / "masks"
    folder.mkdir()
    for name in ("finished", "good"):
        write_mrc(folder / f"{name}.mrc", phantom((16, 40, 40), seed=0).density)
    (folder / "broken.mrc").write_bytes(b"no tomogram")
    settings = ("--weights", weights, "--halo", "0", "--core", "64", "--shard", "64")
    settings += ("--resample", "never")
    code, _, err = tomoseg("segment", folder / "finished.mrc", "--out", out, *settings)
    assert code == 0, err
    before = (out / "finished.zarr" / "zarr.json").read_bytes()

    table = tmp_path / "summary.csv"
    command = ("segment", folder, "--out", out, "--table", table, "--json", *settings)
    for good in ("done", "done before"):
        code, printed, err = tomoseg(*command)
        assert code == 3
        with table.open(newline="") as file:
            rows = {row["input"].rpartition("/")[2]: row for row in csv.DictReader(file)}
        assert {name: row["status"] for name, row in rows.items()} == {
            "broken.mrc": "failed",
            "finished.mrc": "done before",
            "good.mrc": good,
        }
        assert "broken.mrc" in rows["broken.mrc"]["error"]
        assert json.loads(printed)["failed"] == 1
        assert "broken.mrc" in err
    assert (out / "finished.zarr" / "zarr.json").read_bytes() == before

    shutil.rmtree(out / "good.zarr")
    table.write_text("path,voxel_size,contrast\ntomograms/good.mrc,20,light\n")
    code, _, err = tomoseg("segment", table, "--out", out, *settings)
    assert code == 0, err
    attributes = json.loads((out / "good.zarr" / "zarr.json").read_text())["attributes"]
    assert attributes["tomoseg"]["config"]["contrast"] == "light"
    assert attributes["tomoseg"]["voxel_size_source"] == "--voxel-size"
    assert np.allclose(attributes["tomoseg"]["fingerprint"]["input"]["voxel_size_angstrom"], 20)
