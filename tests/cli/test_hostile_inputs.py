"""Damaged and hostile inputs through the command line: one line, exit code 1, nothing left."""

import json
import os
import stat

import mrcfile
import numpy as np
import pytest
import zarr

DATA = np.arange(64**3).reshape(64, 64, 64).astype("i2")
FAST = ["--weights", "random:0", "--voxel-size", "10", "--halo", "0", "--core", "64"]
FAST += ["--shard", "64"]


def hostile_mrc(folder, **fields):
    path = folder / "a.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(DATA)
        for name, value in fields.items():
            mrc.header[name] = value
    return path


def hostile_zarr(folder, **changes):
    path = folder / "a.zarr"
    zarr.create_array(path, data=DATA, chunks=(64, 64, 64), zarr_format=2)
    metadata = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps({**metadata, **changes}))
    return path


def link_out(folder):
    path = hostile_zarr(folder)
    (path / ".zarray").unlink()
    (path / ".zarray").symlink_to("/dev/zero")
    return path


def escape(folder):
    group = zarr.open_group(folder / "a.zarr", mode="w")
    group.attrs["ome"] = {"multiscales": [{"datasets": [{"path": "../secret\x1b[2J"}]}]}
    return folder / "a.zarr"


HOSTILE = {
    "voxels": lambda folder: hostile_mrc(folder, nx=10**5, ny=10**5, nz=10**5),
    "extended header": lambda folder: hostile_mrc(folder, nsymbt=-1),
    "chunk": lambda folder: hostile_zarr(folder, chunks=[10**4] * 3),
    "pickle": lambda folder: hostile_zarr(folder, filters=[{"id": "pickle"}]),
    "object": lambda folder: hostile_zarr(folder, dtype="|O"),
    "axis": lambda folder: hostile_zarr(folder, shape=[10**30] * 3),
    "link": link_out,
    "path": escape,
}


@pytest.mark.parametrize("command", ["segment", "convert"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_inputs_end_with_one_line_and_code_1(tomoseg, tmp_path, name, command):
    path = HOSTILE[name](tmp_path)
    out = tmp_path / "out.zarr"
    arguments = {
        "segment": ["segment", path, "--out", out, *FAST, "--dry-run"],
        "convert": ["convert", path, out],
    }[command]
    code, _, said = tomoseg(*arguments)
    assert code == 1
    (line,) = said.splitlines()
    assert line.startswith("Error: ")
    assert line.isprintable()
    assert "internal error" not in line
    assert list(tmp_path.iterdir()) == [path]


def test_a_volume_is_planned_however_many_voxels_it_claims(tomoseg, tmp_path):
    path = hostile_zarr(tmp_path, shape=[10**5] * 3)
    code, text, _ = tomoseg("segment", path, "--out", tmp_path / "out.zarr", *FAST, "--dry-run")
    assert code == 0
    assert str(10**5) in text


def test_nothing_that_is_written_can_be_written_by_all(tomoseg, tmp_path):
    path = hostile_zarr(tmp_path)
    before = os.umask(0)
    try:
        for command in (
            ["segment", path, "--out", tmp_path / "out" / "mask.zarr", *FAST],
            ["convert", path, tmp_path / "out" / "a.mrc"],
        ):
            assert tomoseg(*command)[0] == 0
            os.umask(0)
    finally:
        os.umask(before)
    found = {p: stat.S_IMODE(p.lstat().st_mode) for p in (tmp_path / "out").rglob("*")}
    names = {p.name for p in found}
    assert {"a.mrc", "mask.zarr", "journal", "lock"} <= names
    assert {p: oct(mode) for p, mode in found.items() if mode & 0o002} == {}
