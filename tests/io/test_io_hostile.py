"""Inputs that were made to do harm: absurd sizes, ways out of the folder, code in data."""

import json
import os
import pickle
import re
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mrcfile
import numcodecs
import numpy as np
import pytest
import zarr

from tomoseg.errors import InputError, StorageError, printable
from tomoseg.geometry import whole
from tomoseg.io.convert import convert
from tomoseg.io.storage import library_errors, lock
from tomoseg.io.volume import MrcHeader, open_volume
from tomoseg.io.zarr_limits import MOST_CHUNK_BYTES, MOST_INNER_CHUNKS
from tomoseg.io.zarr_nodes import MOST_JSON_BYTES, MOST_JSON_DEPTH

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (5, 6, 7)
DATA = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype("i2")
Edit = Callable[[dict[str, Any]], object]


def make_array(path: Path, version: int, **options: Any) -> Path:
    zarr.create_array(path, data=DATA, zarr_format=version, **{"chunks": (4, 4, 4), **options})
    return path


def metadata_file(path: Path) -> Path:
    return next(path / name for name in ("zarr.json", ".zarray") if (path / name).exists())


def edit(path: Path, change: Edit) -> Path:
    content = json.loads(metadata_file(path).read_text())
    change(content)
    metadata_file(path).write_text(json.dumps(content))
    return path


def read_all(path: Path) -> np.ndarray:
    volume = open_volume(path)
    with volume.reader() as reader:
        return reader.read(whole(volume.shape))


@contextmanager
def little_memory(most: int = 100 << 20) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


# Sizes


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"nx": 10**5, "ny": 10**5, "nz": 10**5}, "truncated.*need 2000000000001024 bytes"),
        ({"nx": 2**24, "ny": 2**24, "nz": 2**24}, "truncated"),
        ({"nx": 2**31 - 1}, "damaged MRC header"),
        ({"nz": -5}, "damaged MRC header"),
        ({"nsymbt": -1}, "damaged MRC header.* -1 bytes of extended"),
        ({"nsymbt": -(2**31)}, "damaged MRC header"),
        ({"nsymbt": 2**31 - 1}, "only a header.*need 2147485091 bytes"),
    ],
)
def test_mrc_files_hold_what_their_headers_claim(
    tmp_path: Path, order: str, fields: dict[str, int], message: str
) -> None:
    with mrcfile.new(tmp_path / "a.mrc") as mrc:
        mrc.set_data(DATA.astype(f"{order}i2"))
        for name, value in fields.items():
            mrc.header[name] = value
    with little_memory(), pytest.raises(InputError, match=message):
        open_volume(tmp_path / "a.mrc")


def _grid(*shape: int) -> Edit:
    return lambda m: m["chunk_grid"]["configuration"].update(chunk_shape=list(shape))


def _sharding(key: str, value: Any) -> Edit:
    return lambda m: m["codecs"][0]["configuration"].update({key: value})


def _everything(n: int, ndim: int = 3) -> Edit:
    return lambda m: m.update(shape=[n] * ndim, chunks=[1] * ndim)


@pytest.mark.parametrize(
    ("version", "change", "message"),
    [
        (2, lambda m: m.update(chunks=[4000] * 3), f"at most {MOST_CHUNK_BYTES} bytes"),
        (2, lambda m: m.update(chunks=[2**62] * 3), "at most"),
        (2, lambda m: m.update(chunks=[2**64, 1, 1]), "damaged metadata"),
        (2, lambda m: m.update(chunks=[0, 4, 4]), "damaged metadata"),
        (2, lambda m: m.update(chunks=[4, 4]), "chunks of 3 axes"),
        (2, _everything(2**24 + 1), "at most 16777216 on an axis"),
        (2, _everything(10**300), "damaged metadata"),
        (2, _everything(1, ndim=33), "up to 32 integers"),
        (2, lambda m: m.update(shape=[True, 6, 7]), "damaged metadata"),
        (2, lambda m: m.update(dtype="|V8000000000", fill_value=None), "expected integers"),
        (2, lambda m: m.update(dtype="|S8000000000", fill_value=None), "expected integers"),
        (2, lambda m: m.update(dtype=[["a", "<i2"]]), "expected integers"),
        (2, lambda m: m.update(filters=[{"id": "zlib"}] * 17), "up to 16 codecs"),
        (
            2,
            lambda m: m.update(
                filters=[{"id": "astype", "encode_dtype": "<i2", "decode_dtype": "|S1000000"}]
            ),
            "codec astype of numbers",
        ),
        (2, lambda m: m.update(compressor={"id": ["zlib"]}), "not read"),
        (3, _grid(4000, 4000, 4000), f"at most {MOST_CHUNK_BYTES} bytes"),
        (3, _grid(10**5, 10**5, 10**5), f"at most {MOST_CHUNK_BYTES} bytes"),
        (3, lambda m: m.update(chunk_grid={"name": "other"}), "damaged metadata"),
        (3, lambda m: m.update(data_type="null_terminated_bytes"), "expected integers"),
        (
            3,
            lambda m: m.update(data_type={"name": "raw_bytes", "configuration": {"n": 10**10}}),
            "expected integers",
        ),
        (3, lambda m: m.update(codecs=m["codecs"] * 10), "up to 16 codecs"),
    ],
)
def test_what_arrays_claim_is_refused_before_it_is_made(
    tmp_path: Path, version: int, change: Edit, message: str
) -> None:
    path = edit(make_array(tmp_path / "a.zarr", version), change)
    with little_memory(), pytest.raises(InputError, match=message):
        open_volume(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_grid(4 * 10**5, 4 * 10**5, 4 * 10**5), f"at most {MOST_INNER_CHUNKS} chunks in a shard"),
        (_sharding("chunk_shape", [10**4] * 3), f"at most {MOST_CHUNK_BYTES} bytes"),
        (_sharding("chunk_shape", [0, 1, 1]), "damaged metadata"),
        (_sharding("chunk_shape", [2, 2]), "shards of 3 axes"),
        (_sharding("chunk_shape", None), "damaged metadata"),
        (_sharding("index_codecs", [{"name": "gzip"}]), "codec 'gzip'"),
        (_sharding("codecs", [{"name": "numcodecs.pickle"}]), "codec 'numcodecs.pickle'"),
    ],
)
def test_shards_are_judged_by_what_is_in_them(tmp_path: Path, change: Edit, message: str) -> None:
    path = edit(make_array(tmp_path / "a.zarr", 3, chunks=(2, 2, 2), shards=(4, 4, 4)), change)
    with little_memory(), pytest.raises(InputError, match=message):
        open_volume(path)


def test_a_shard_may_be_larger_than_a_chunk_may_be(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(
        path, shape=(5000,) * 3, dtype="f4", chunks=(250,) * 3, shards=(5000,) * 3, fill_value=3
    )
    volume = open_volume(path)
    with volume.reader() as reader:
        assert (reader.read(whole((2, 2, 2))) == 3).all()


@pytest.mark.parametrize("name", ["zarr.json", ".zattrs"])
def test_metadata_are_short_and_shallow(tmp_path: Path, name: str) -> None:
    path = make_array(tmp_path / "a.zarr", 3 if name == "zarr.json" else 2)
    content = json.loads((path / name).read_text()) if name == "zarr.json" else {}
    nested: Any = 1
    for _ in range(MOST_JSON_DEPTH):
        nested = {"a": nested}
    for attributes, message in (({"attributes": nested}, "nested"), ({}, None)):
        (path / name).write_text(json.dumps({**content, **attributes}))
        if message:
            with pytest.raises(InputError, match=message):
                open_volume(path)
    np.testing.assert_array_equal(read_all(path), DATA)
    os.truncate(path / name, MOST_JSON_BYTES + 1)
    with little_memory(), pytest.raises(InputError, match="bytes; expected at most"):
        open_volume(path)


@pytest.mark.parametrize("version", [2, 3])
def test_a_chunk_is_no_longer_than_its_voxels_need(tmp_path: Path, version: int) -> None:
    path = make_array(tmp_path / "a.zarr", version, compressors=None)
    os.truncate(path / ("0.0.0" if version == 2 else "c/0/0/0"), 1 << 33)
    with little_memory(), pytest.raises(InputError, match="has 8589934592 bytes"):
        read_all(path)


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 2**62), (2**62, 10), (10, 2**64 - 11), (2**63, 2**63), (0, 10**6)]
)
def test_the_index_of_a_shard_stays_within_its_file(
    tmp_path: Path, offset: int, length: int
) -> None:
    path = make_array(tmp_path / "a.zarr", 3, chunks=(2, 2, 2), shards=(4, 4, 4))
    remove_checksum = _sharding(
        "index_codecs", [{"name": "bytes", "configuration": {"endian": "little"}}]
    )
    edit(path, remove_checksum)
    index = np.array([(offset, length)] * 8, "<u8")
    (path / "c/0/0/0").write_bytes(bytes(1000) + index.tobytes())
    volume = open_volume(path)
    with volume.reader() as reader, little_memory(), pytest.raises(InputError):
        reader.read(whole((1, 1, 1)))


# Ways out


def make_image(path: Path) -> Path:
    """An OME-Zarr in a group of a group, with chunks in folders."""
    group = zarr.open_group(path, mode="w")
    group.create_array("tomo/0", data=DATA, chunks=(4, 4, 4))
    group["tomo"].attrs["ome"] = {"multiscales": [{"datasets": [{"path": "0"}]}]}
    return path


@pytest.mark.parametrize(
    "name",
    ["zarr.json", "tomo", "tomo/zarr.json", "tomo/0", "tomo/0/zarr.json", "tomo/0/c/0/0/0"],
)
def test_links_that_leave_the_hierarchy_are_not_followed(tmp_path: Path, name: str) -> None:
    secret = make_image(tmp_path / "secret") / name
    path = make_image(tmp_path / "a.zarr")
    (path / name).rename(tmp_path / "aside")
    for target in (secret, os.path.relpath(secret, (path / name).parent), "/dev/zero"):
        (path / name).symlink_to(target)
        with pytest.raises(InputError, match=r"leads out of|no Zarr|no image|no array"):
            read_all(path)
        (path / name).unlink()


def test_links_within_the_hierarchy_and_to_it_are_followed(tmp_path: Path) -> None:
    path = make_image(tmp_path / "a.zarr")
    (path / "tomo/0").rename(path / "tomo/level")
    (path / "tomo/0").symlink_to("level")
    (tmp_path / "link.zarr").symlink_to(path)
    np.testing.assert_array_equal(read_all(tmp_path / "link.zarr"), DATA)


@pytest.mark.parametrize("name", ["zarr.json", "tomo/0/zarr.json", "tomo/0/c/0/0/0"])
def test_pipes_and_links_to_themselves_are_no_files(tmp_path: Path, name: str) -> None:
    path = make_image(tmp_path / "a.zarr")
    (path / name).unlink()
    os.mkfifo(path / name)
    with pytest.raises(InputError, match="no regular file"):
        read_all(path)
    (path / name).unlink()
    (path / name).symlink_to(path / name)
    with pytest.raises(InputError, match="link to itself"):
        read_all(path)


@pytest.mark.parametrize(
    "escape",
    ["../secret", "0/../../secret", "/etc", "..", "0\0", "\ud800", "a\\..\\b", "\x1b[2J"],
)
def test_paths_in_metadata_stay_within_the_hierarchy(tmp_path: Path, escape: str) -> None:
    make_array(tmp_path / "secret", 3)
    path = make_image(tmp_path / "a.zarr")
    ome = {"multiscales": [{"datasets": [{"path": escape}]}]}
    edit(path / "tomo", lambda m: m["attributes"].update(ome=ome))
    with pytest.raises(InputError, match="leads out of the hierarchy") as caught:
        open_volume(path)
    assert str(caught.value).isprintable()


def test_messages_show_no_escapes_and_no_novels() -> None:
    assert printable("a\x1b]0;b\x07\n\ud800é") == "a\\x1b]0;b\\x07\\n\\ud800é"
    assert len(printable(["x" * 10**6])) < 300


# Code in data


class Bomb:
    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self._marker,)


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "|O", "filters": [{"id": "pickle"}]},
        {"dtype": "|O", "filters": None, "compressor": {"id": "pickle"}},
        {"dtype": "<i2", "filters": [{"id": "pickle", "protocol": 5}]},
        {"dtype": "<i2", "filters": None, "compressor": {"id": "pickle"}},
        {"dtype": "<i2", "filters": [{"id": "astype", "encode_dtype": "i2", "decode_dtype": "O"}]},
        {"dtype": "|O", "filters": [{"id": "vlen-bytes"}]},
        {"dtype": "|O", "filters": [{"id": "json2"}]},
    ],
)
def test_nothing_is_unpickled(tmp_path: Path, change: dict[str, Any]) -> None:
    path = make_array(tmp_path / "a.zarr", 2, compressors=None)
    edit(path, lambda m: m.update(fill_value=None, **change))
    for chunk in path.glob("*.*.*"):
        chunk.write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    with pytest.raises(InputError, match=r"codec|expected integers"):
        read_all(path)
    assert not (tmp_path / "exploded").exists()
    pickle.loads(pickle.dumps(Bomb(tmp_path / "exploded")))
    assert (tmp_path / "exploded").exists(), "the bomb is none, and the test shows nothing"


def test_codecs_of_version_3_are_known_ones(tmp_path: Path) -> None:
    path = make_array(
        tmp_path / "a.zarr",
        3,
        compressors=[zarr.codecs.numcodecs.Zlib(), zarr.codecs.Crc32cCodec()],
    )
    np.testing.assert_array_equal(read_all(path), DATA)
    for name in ("vlen-bytes", "vlen-utf8", "numcodecs.pickle", 7, None):
        edit(path, lambda m, name=name: m["codecs"][-1].update(name=name))
        with pytest.raises(InputError, match="is not read"):
            open_volume(path)


# Damage


@pytest.mark.parametrize(
    "codec", [numcodecs.GZip(), numcodecs.Zlib(), numcodecs.BZ2(), numcodecs.Zstd(), None]
)
def test_a_damaged_chunk_is_the_inputs_fault_and_nothing_to_resume(
    tmp_path: Path, codec: Any
) -> None:
    """gzip and bz2 raise OSError, as a failing disk does."""
    path = make_array(tmp_path / "a.zarr", 2, compressors=codec)
    chunk = path / "0.0.0"
    chunk.write_bytes(bytes(reversed(chunk.read_bytes()))[:-1])
    with pytest.raises(InputError, match="cannot be decoded"):
        read_all(path)


def test_what_the_operating_system_refuses_stays_its_error() -> None:
    with pytest.raises(FileNotFoundError), library_errors(InputError, "reading", ""):
        Path("/nowhere").stat()
    with (
        pytest.raises(InputError, match="reading: MemoryError"),
        library_errors(InputError, "reading", ""),
    ):
        raise MemoryError


# Headers kept in attributes


def keep_header(path: Path, **changes: Any) -> Path:
    header = {**MrcHeader(shape_zyx=SHAPE).to_dict(), **changes}
    return edit(path, lambda m: m.update(attributes={"tomoseg": {"mrc": header}}))


@pytest.mark.parametrize(
    "changes",
    [
        {"ispg": 2**31},
        {"mode": float("inf")},
        {"nstart_zyx": [0, 0, -(2**31) - 1]},
        {"mxyz_zyx": [10**400, 1, 1]},
        {"origin_zyx": [1e39, 0, 0]},
        {"cella_zyx": [float("nan"), 0, 0]},
        {"cell_angles": [10**400, 0, 0]},
        {"imod_flags": 2**40},
        {"labels": 7},
    ],
)
def test_a_kept_header_holds_what_a_header_can(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = keep_header(make_array(tmp_path / "a.zarr", 3), **changes)
    with pytest.raises(InputError, match="MRC header kept in the metadata"):
        open_volume(path)


def test_labels_are_text_and_no_paths(tmp_path: Path) -> None:
    labels = [f"../../label{number}" + "x" * 200 for number in range(30)]
    path = keep_header(make_array(tmp_path / "in" / "a.zarr", 3), labels=labels)
    (tmp_path / "out").mkdir()
    convert(path, tmp_path / "out" / "a.mrc")
    convert(tmp_path / "out" / "a.mrc", tmp_path / "out" / "b.zarr")
    header = open_volume(tmp_path / "out" / "b.zarr").mrc
    assert header is not None
    assert list(header.labels) == [label[:80] for label in labels[:10]]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.mrc", "b.zarr"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]


def test_an_mrc_file_that_no_disk_holds_is_not_begun(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, shape=(10**7, 10**6, 10**6), chunks=(64,) * 3, dtype="i2")
    with pytest.raises(StorageError, match="No space left"):
        convert(path, tmp_path / "a.mrc")
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_a_translation_beyond_all_space_is_none(tmp_path: Path) -> None:
    path = make_image(tmp_path / "a.zarr")
    steps = [
        {"type": "scale", "scale": [8, 8, 8]},
        {"type": "translation", "translation": [1e300, float("nan"), 5]},
    ]
    image = {
        "axes": [{"name": n, "unit": "angstrom"} for n in "zyx"],
        "datasets": [{"path": "0", "coordinateTransformations": steps}],
    }
    edit(path / "tomo", lambda m: m["attributes"].update(ome={"multiscales": [image]}))
    volume = open_volume(path)
    assert (volume.voxel_size_angstrom, volume.origin_angstrom) == ((8, 8, 8), (0, 0, 5))
    steps[1]["translation"] = [10**400, 0, 0]
    edit(path / "tomo", lambda m: m["attributes"].update(ome={"multiscales": [image]}))
    assert "cannot be read" in open_volume(path).voxel_size_note


# Modes


def test_a_lock_cannot_be_written_by_all_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with lock(tmp_path, tmp_path / "folder"):
            mode = (tmp_path / "folder" / "lock").stat().st_mode
    finally:
        os.umask(before)
    assert stat.S_IMODE(mode) == 0o664


# All of it


def test_nothing_but_errors_of_ours_comes_out_of_mutated_inputs() -> None:
    """The benchmark in short: its own process, with a limited address space."""
    result = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "fuzz_inputs.py", "--count", "200", "--seed", "5"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "200 cases, seed 5: 0 failures" in result.stdout
    header, *rows = result.stdout.splitlines()[:10]
    assert header.split()[:2] == ["input", "InputError"]
    counts = [[int(n) for n in re.findall(r"\b\d+\b", row[16:])] for row in rows]
    refused, read = sum(c[0] for c in counts), sum(c[-1] for c in counts)
    assert min(refused, read) > 40, "mutations that all are refused, or none, show little"
