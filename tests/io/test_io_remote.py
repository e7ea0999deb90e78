"""Zarr over http and s3: by range, within limits, with errors that a user can act on."""

import pickle
import sys

import numpy as np
import pytest
import zarr
from file_server import serve

from tomoseg.errors import InputError, StorageError
from tomoseg.geometry import Box, whole
from tomoseg.io import remote
from tomoseg.io.volume import find_inputs, open_volume

SHAPE = (64, 64, 64)
DATA = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)  # does not compress
PART = Box((0, 0, 0), (16, 16, 20))
"""Of two chunks."""


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(remote, "PAUSES", (0.0, 0.0))


def write_image(path, version="0.5"):
    """Write an OME-Zarr image with Zarr itself: 0.5 in one shard, 0.4 in plain chunks."""
    sharded = version == "0.5"
    group = zarr.open_group(path, mode="w", zarr_format=3 if sharded else 2)
    group.create_array("s 0", data=DATA, chunks=(16,) * 3, shards=SHAPE if sharded else None)
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [1.2, 1.2, 1.2]}]
    multiscales = [
        {"axes": axes, "datasets": [{"path": "s 0", "coordinateTransformations": scale}]}
    ]
    group.attrs.update(
        {"ome": {"multiscales": multiscales}} if sharded else {"multiscales": multiscales}
    )


@pytest.fixture
def served(tmp_path):
    write_image(tmp_path / "a.zarr")
    with serve(tmp_path) as server:
        yield server


def read(url, box=None):
    volume = open_volume(url)
    with volume.reader() as reader:
        return reader.read(box or whole(volume.shape))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_remote_image_is_what_a_local_one_is(tmp_path, version):
    write_image(tmp_path / "b.zarr", version)
    with serve(tmp_path) as served:
        volume, local = open_volume(f"{served.url}/b.zarr/"), open_volume(tmp_path / "b.zarr")
        assert volume.path == f"{served.url}/b.zarr"
        assert (volume.shape, volume.dtype, volume.array) == (SHAPE, "uint8", "s 0")
        assert volume.voxel_size_angstrom == local.voxel_size_angstrom == (12.0, 12.0, 12.0)
        assert volume.chunk == local.chunk
        assert pickle.loads(pickle.dumps(volume)) == volume
        with volume.reader() as reader:
            np.testing.assert_array_equal(reader.read(whole(SHAPE)), DATA)
    assert find_inputs(["s3://bucket/a.zarr"]) == ["s3://bucket/a.zarr"]


def test_of_a_shard_only_the_chunks_in_question_are_read(served):
    np.testing.assert_array_equal(read(f"{served.url}/a.zarr", PART), DATA[PART.slices])
    chunks = [(asked, size) for path, asked, size in served.requests if "/c/" in path]
    assert len(chunks) == 3  # the index, and two chunks
    assert sum(size for _, size in chunks) < 0.1 * DATA.nbytes
    assert all(asked for asked, _ in chunks)


def test_its_identity_is_its_metadata(served, tmp_path):
    volume = open_volume(f"{served.url}/a.zarr")
    before = volume.stamp()
    assert before == volume.stamp()
    metadata = tmp_path / "a.zarr" / "s 0" / "zarr.json"
    metadata.write_text(metadata.read_text() + " ")
    assert volume.stamp() != before
    metadata.unlink()
    with pytest.raises(InputError, match="no longer there"):
        volume.stamp()


def test_a_chunk_that_is_not_there_is_empty_and_one_that_is_refused_is_an_error(served):
    served.answer = lambda path: 404 if "/c/" in path else None
    assert read(f"{served.url}/a.zarr").sum() == 0
    served.answer = lambda path: 403 if "/c/" in path else None
    with pytest.raises(InputError, match="answered 403"):
        read(f"{served.url}/a.zarr")


def test_metadata_that_are_refused_are_not_there(served, tmp_path):
    """Stores that may not be listed answer 403 for what they lack: zarr.json, of version 2."""
    write_image(tmp_path / "b.zarr", "0.4")
    served.answer = lambda path: 403 if path.endswith("zarr.json") else None
    np.testing.assert_array_equal(read(f"{served.url}/b.zarr"), DATA)
    served.answer = lambda path: 403
    with pytest.raises(InputError, match="or it may not be read"):
        open_volume(f"{served.url}/a.zarr")


def test_a_server_that_is_busy_is_asked_again_thrice_in_all(served):
    times = []

    def busy(path, often):
        times.append(path)
        return 503 if len(times) <= often else None

    served.answer = lambda path: busy(path, 2)
    assert open_volume(f"{served.url}/a.zarr").shape == SHAPE
    times.clear()
    served.answer = lambda path: busy(path, 1000)
    with pytest.raises(StorageError, match="answered 503"):
        open_volume(f"{served.url}/a.zarr")
    assert len(times) == 3


def test_a_server_without_parts_serves_plain_chunks_alone(served, tmp_path):
    served.ranges = False
    write_image(tmp_path / "b.zarr", "0.4")
    np.testing.assert_array_equal(read(f"{served.url}/b.zarr"), DATA)
    np.testing.assert_array_equal(read(f"{served.url}/a.zarr"), DATA)  # a whole shard at once
    with pytest.raises(InputError, match="no parts of files"):
        read(f"{served.url}/a.zarr", PART)


def test_an_answer_without_end_is_cut_off(served):
    served.answer = lambda path: 0 if path.endswith("a.zarr/zarr.json") else None
    with pytest.raises(InputError, match="sends more than 8388608 bytes of metadata"):
        open_volume(f"{served.url}/a.zarr")
    served.answer = lambda path: 0 if "/c/" in path else None
    with pytest.raises(InputError, match=r"sends more than \d+ bytes of a chunk"):
        read(f"{served.url}/a.zarr")
    with pytest.raises(InputError, match="no parts of files"):
        read(f"{served.url}/a.zarr", PART)


def test_a_torn_shard_is_an_error(served, tmp_path):
    (shard,) = (p for p in (tmp_path / "a.zarr" / "s 0" / "c").rglob("*") if p.is_file())
    index = shard.read_bytes()[-(16 * 64 + 4) :]
    shard.write_bytes(index)  # which speaks of chunks that are gone
    with pytest.raises(InputError):
        read(f"{served.url}/a.zarr")


def test_without_a_network_the_error_says_what_to_check(tmp_path):
    with serve(tmp_path) as server:
        url = server.url
    with pytest.raises(StorageError, match="Check the address and the network"):
        open_volume(f"{url}/a.zarr")


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    remote._filesystem.cache_clear()
    with pytest.raises(InputError, match=r"pip install 'tomoseg\[remote\]'"):
        open_volume("https://127.0.0.1:1/a.zarr")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/a.zarr", "http, https, s3"),
        ("file:///a.zarr", "http, https, s3"),
        ("https://", "http, https, s3"),
        ("https://me:secret@host/a.zarr", "a plain URL"),
        ("https://host/a.zarr?X-Amz-Signature=secret", "a plain URL"),
    ],
)
def test_urls_that_are_not_read(url, said):
    with pytest.raises(InputError, match=said) as raised:
        open_volume(url)
    assert "secret" not in str(raised.value)


def test_s3_is_read_without_credentials_and_by_range(served, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", served.url)
    remote._filesystem.cache_clear()
    try:
        np.testing.assert_array_equal(read("s3://a.zarr", PART), DATA[PART.slices])
        assert sum(asked is not None for _, asked, _ in served.requests) == 3
        served.answer = lambda path: 403 if "/c/" in path else None
        with pytest.raises(InputError, match="the store refuses it"):
            read("s3://a.zarr")
    finally:
        remote._filesystem.cache_clear()
