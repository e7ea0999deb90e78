import json
import subprocess
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from outputs import make_output
from phantom import phantom
from tomoseg_cli.running import parse_bytes

from tomoseg.config import RefineConfig
from tomoseg.saliency.architecture import Architecture
from tomoseg.saliency.initialise import random_network
from tomoseg.saliency.weights import Card, save

QUICK = ["--halo", "0", "--core", "64", "--shard", "64"]
RANDOM = ["--weights", "random:0", *QUICK]


def write_mrc(path, shape=(20, 70, 66), voxel_size=13.5, seed=0):
    with mrcfile.new(path) as file:
        file.set_data(phantom(shape, seed=seed).density)
        file.set_volume()
        file.voxel_size = voxel_size
        file.header.origin = (11.0, -22.0, 33.0)
        file.nstart = (1, 2, 3)
    return path


@pytest.fixture
def tomogram(tmp_path):
    return write_mrc(tmp_path / "tomogram.mrc")


def test_help_is_quick_because_it_loads_nothing_heavy():
    code = (
        "import sys, runpy; sys.argv = ['tomoseg', '--help']\n"
        "try: runpy.run_module('tomoseg_cli.main', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'dask', 'distributed', 'zarr', 'numpy') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.splitlines()[-1] == "[]"


def test_dask_shows_a_user_no_traceback_of_a_lost_scheduler():
    code = (
        "import logging; from tomoseg_cli.console import configure_logging\n"
        "configure_logging(quiet=False, verbose=False)\n"
        "import distributed; logging.getLogger('distributed.client').error('a traceback')"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize(
    "command",
    [
        *("segment", "status", "report", "view", "pick", "convert", "evaluate", "benchmark"),
        *("simulate", "pretrain", "doctor"),
    ],
)
def test_every_command_has_help(tomoseg, command):
    code, out, _ = tomoseg(command, "--help")
    assert code == 0
    assert "--json" in out


def test_a_mask_comes_back_as_mrc_over_the_tomogram(tomoseg, tomogram, tmp_path):
    code, out, err = tomoseg("segment", tomogram, "--out", tmp_path / "mask.zarr", *RANDOM)
    assert code == 0, err
    assert "seam measure" in out
    assert "untrained, random weights" in err
    code, _, err = tomoseg("convert", tmp_path / "mask.zarr", tmp_path / "mask.mrc")
    assert code == 0, err
    with mrcfile.open(tomogram) as before, mrcfile.open(tmp_path / "mask.mrc") as after:
        assert after.header.mode == 0
        assert after.data.shape == before.data.shape
        assert after.voxel_size == before.voxel_size
        assert after.header.origin == before.header.origin
        assert after.nstart == before.nstart
        assert set(np.unique(after.data)) <= {0, 1}


def test_json_is_one_object_on_stdout(tomoseg, tomogram, tmp_path):
    output = tmp_path / "mask.zarr"
    _, out, _ = tomoseg("segment", tomogram, "--out", output, "--json", *RANDOM)
    assert json.loads(out)["shards"] == 4
    _, out, _ = tomoseg("status", output, "--verify", "--json")
    assert json.loads(out)["complete"] is True
    _, out, _ = tomoseg("status", tmp_path, "--json")
    assert json.loads(out)["error"]["exit_code"] == 1


def test_a_dry_run_prints_the_plan_and_writes_nothing(tomoseg, tomogram, tmp_path):
    output = tmp_path / "mask.zarr"
    code, out, _ = tomoseg("segment", tomogram, "--out", output, "--dry-run", "--json", *RANDOM)
    plan = json.loads(out)
    assert code == 0
    assert plan["shape_zyx"] == [20, 70, 66]
    assert plan["shards"] == plan["blocks"] == 4
    assert plan["worker_bytes"] > 10**8
    assert not output.exists()


def test_many_inputs_of_which_one_fails(tomoseg, tmp_path):
    folder = tmp_path / "tomograms"
    folder.mkdir()
    write_mrc(folder / "a.mrc")
    write_mrc(folder / "c.mrc", seed=1)
    (folder / "b.mrc").write_bytes(b"")
    out = tmp_path / "masks"
    code, printed, err = tomoseg("segment", folder, "--out", out, "--json", *RANDOM)
    result = json.loads(printed)
    assert code == 3
    assert result["failed"] == 1
    assert [Path(r["output"]).name for r in result["results"] if "output" in r] == [
        "a.zarr",
        "c.zarr",
    ]
    assert "b.mrc" in err
    code, _, _ = tomoseg("segment", folder / "b.mrc", tmp_path / "b.mrc", "--out", out)
    assert code == 1


def test_settings_come_from_flags_then_environment_then_file(
    tomoseg, tomogram, tmp_path, monkeypatch
):
    settings = tmp_path / "settings.toml"
    settings.write_text('[segment]\nthreshold = 0.25\nseed = 4\ncontrast = "light"\n')
    monkeypatch.setenv("TOMOSEG_SEGMENT_SEED", "5")
    arguments = ["--out", tmp_path / "o.zarr", "--config", settings, "--contrast", "dark"]
    code, _, err = tomoseg("segment", tomogram, *arguments, *RANDOM)
    assert code == 0, err
    attributes = json.loads((tmp_path / "o.zarr" / "zarr.json").read_text())["attributes"]
    config = attributes["tomoseg"]["config"]
    assert (config["threshold"], config["seed"], config["contrast"]) == (0.25, 5, "dark")


def test_an_unknown_key_of_the_file_is_named(tomoseg, tomogram, tmp_path):
    settings = tmp_path / "settings.toml"
    settings.write_text("[segment]\nthreshhold = 0.25\n")
    code, _, err = tomoseg("segment", tomogram, "--out", "o.zarr", "--config", settings)
    assert code == 2
    assert "threshhold" in err
    settings.write_text("[segment\n")
    code, _, err = tomoseg("segment", tomogram, "--out", "o.zarr", "--config", settings)
    assert code == 2
    assert "TOML" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--halo", "12"], "multiple of 8"),
        (["--shard", "100"], "multiple of the core of 128"),
        (["--threshold", "2"], "between 0 and 1"),
        (["--weights", "nowhere.safetensors"], "nowhere"),
        (["--weights", "random:x"], "random"),
        (["--device", "cuda:17"], "device"),
        (["--memory", "much"], "16GB"),
        (["--memory", "1MB"], "--memory"),
        (["--scheduler", "tcp://10.1.2.3:8786"], "--insecure"),
        (["--scheduler-file", "nowhere.json"], "nowhere.json"),
        (["--scope", "everything"], "everything"),
        (["--contrast", "grey"], "grey"),
        (["--voxel-size", "-3"], "above 0"),
        (["--output-grid", "mine"], "mine"),
        (["--resample", "always"], "always"),
    ],
)
def test_what_cannot_be_met_is_refused_and_leaves_nothing(
    tomoseg, tomogram, tmp_path, arguments, said
):
    output = tmp_path / "mask.zarr"
    code, out, err = tomoseg("segment", tomogram, "--out", output, *arguments)
    assert code == 2
    assert said in err
    assert not out
    assert not output.exists()


def test_an_output_is_no_tomogram(tomoseg, tomogram, tmp_path):
    """Its saliency would be segmented without a word."""
    output, again = make_output(tomogram, np.zeros((20, 70, 66), np.uint8)), tmp_path / "o.zarr"
    for path, options in (
        (output, ()),
        (output, ("--array", "labels/mask/0")),
        (output / "labels" / "mask" / "0", ()),
    ):
        code, _, err = tomoseg("segment", path, "--out", again, *options, *RANDOM)
        assert code == 1
        assert f"expected a tomogram, found what tomoseg made of {tomogram}" in err
        assert not again.exists()


@pytest.mark.parametrize("voxel_size", [0, 1])
def test_a_header_without_a_voxel_size_is_asked_about(tomoseg, tmp_path, voxel_size):
    tomogram = write_mrc(tmp_path / "t.mrc", voxel_size=voxel_size)
    code, _, err = tomoseg("segment", tomogram, "--out", tmp_path / "o.zarr", *RANDOM)
    assert code == 1
    assert "--voxel-size" in err
    code, _, err = tomoseg(
        "segment", tomogram, "--out", tmp_path / "o.zarr", "--voxel-size", "13.5", *RANDOM
    )
    assert code == 0, err


@pytest.fixture
def weights(tmp_path):
    """Weights that say to be trained at 10 angstrom."""
    architecture = Architecture(base_channels=2, generator_channels=2)
    path = tmp_path / "tiny.safetensors"
    card = Card("tiny", architecture, voxel_size_angstrom=10.0)
    save(path, random_network(architecture, seed=0), card)
    return path


def test_a_mask_lies_over_its_tomogram_although_the_network_saw_other_voxels(
    tomoseg, tomogram, weights, tmp_path, caplog
):
    arguments = ["segment", tomogram, "--weights", weights, *QUICK, "--contrast", "auto"]
    code, _, err = tomoseg(*arguments, "--out", tmp_path / "mask.zarr")
    assert code == 0, err
    assert "13.5 x 13.5 x 13.5 A (MRC header; z, y, x) are resampled to 10 A" in caplog.text
    assert "contrast: dark (automatic, skewness -" in caplog.text
    tomoseg("convert", tmp_path / "mask.zarr", tmp_path / "mask.mrc")
    with mrcfile.open(tomogram) as before, mrcfile.open(tmp_path / "mask.mrc") as after:
        assert after.data.shape == before.data.shape
        assert after.voxel_size == before.voxel_size
        assert after.header.origin == before.header.origin
    code, _, err = tomoseg(*arguments, "--out", tmp_path / "fine.zarr", "--output-grid", "model")
    assert code == 0, err
    tomoseg("convert", tmp_path / "fine.zarr", tmp_path / "fine.mrc")
    with mrcfile.open(tmp_path / "fine.mrc") as fine:
        assert fine.data.shape == (27, 95, 90)
        assert fine.voxel_size.x == 10
        assert fine.header.origin.x == 11 - 1.75  # the corners coincide, not the centres


def test_a_dry_run_tells_the_grids_and_the_contrast(tomoseg, tomogram, weights, tmp_path):
    arguments = ["--weights", weights, *QUICK, "--dry-run", "--json"]
    _, out, _ = tomoseg("segment", tomogram, "--out", tmp_path / "m.zarr", *arguments)
    plan = json.loads(out)
    assert plan["resampled"] is True
    assert plan["model_voxel_size_angstrom"] == 10
    assert plan["network_shape_zyx"] == [27, 95, 90]
    assert plan["output_shape_zyx"] == [20, 70, 66]
    assert plan["contrast"] == "dark (as asked)"


@pytest.mark.parametrize(
    ("flags", "lessons"),
    [
        (["--scope", "none"], (None, None)),
        (["--scope", "volume"], (12, 2)),
        (["--scope", "volume", "--iterations", 3], (3, 2)),
        (["--scope", "block", "--preset", "thorough"], (24, 4)),
    ],
)
def test_a_dry_run_tells_how_much_is_taught(tomoseg, tomogram, weights, tmp_path, flags, lessons):
    arguments = ["--weights", weights, *QUICK, "--dry-run", "--json", *flags]
    _, out, _ = tomoseg("segment", tomogram, "--out", tmp_path / "m.zarr", *arguments)
    plan = json.loads(out)
    assert (plan.get("iterations"), plan.get("windows_per_step")) == lessons


@pytest.mark.parametrize("voxel_size", ["0.9", "95"])
def test_an_absurd_voxel_size_is_refused(tomoseg, tomogram, weights, tmp_path, voxel_size):
    arguments = ["--weights", weights, "--voxel-size", voxel_size]
    code, _, err = tomoseg("segment", tomogram, "--out", tmp_path / "m.zarr", *arguments)
    assert code == 1
    assert "probably wrong" in err


def test_by_default_the_network_is_refined_on_the_tomogram(
    tomoseg, tomogram, weights, tmp_path, monkeypatch
):
    monkeypatch.delenv("TOMOSEG_SEGMENT_SCOPE")
    flags = ["--weights", weights, "--resample", "never", *QUICK, "--json"]
    results = {}
    for name, more in (("refined", []), ("plain", ["--scope", "none"])):
        code, out, err = tomoseg("segment", tomogram, "--out", tmp_path / name, *flags, *more)
        assert code == 0, err
        results[name] = json.loads(out)
    assert results["plain"]["refinement"] == {}
    assert results["refined"]["refinement"]["stop"] in ("iterations", "ice")
    assert results["refined"]["refinement"]["iterations"] in (
        RefineConfig().lessons().iterations,
        0,
    )


@pytest.mark.parametrize(
    ("text", "size"), [("16GB", 16 * 10**9), ("2 GiB", 2**31), ("1500", 1500), (None, None)]
)
def test_sizes(text, size):
    assert parse_bytes(text) == size


def test_doctor_compares_bits(tomoseg):
    code, out, err = tomoseg("doctor", "--json")
    assert code == 0, err
    report = json.loads(out)
    assert report["self_test"] == "passed"
    assert report["versions"]["torch"] != "missing"
