"""MRC files as found in the wild and as made to be difficult."""

import contextlib
import logging
import math
import pickle
import threading
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest

from tomoseg.errors import InputError, OutputExistsError, RequestError, StorageError
from tomoseg.geometry import Box, Lattice, whole
from tomoseg.io.mrc import MrcWriter
from tomoseg.io.volume import MrcHeader, Volume, open_volume

IMOD_STAMP = 1146047817

# name: shape (z, y, x), dtype, voxel size (z, y, x) in angstrom, origin (z, y, x), nstart
WILD: dict[str, tuple[Any, ...]] = {
    # crystallographic map, columns along y, rows along x, unit cell finer than the file
    "3pqr-mode0.ccp4": (
        (59, 69, 100),
        "int8",
        (0.9155209, 0.9585318, 0.9585318),
        (13 * 0.9155209, -43 * 0.9585318, -98 * 0.9585318),
        (13, -43, -98),
    ),
    "EMD-3197.map": ((20, 20, 20), "float32", (11.4,) * 3, (0, 0, -22.8), (0, 0, -2)),
    "SerialEM_SERI_exthdr.mrc": ((2, 1024, 1024), "int16", (7.88,) * 3, (0, 0, 0), (0, 0, 0)),
    "big_head.mrc": ((100, 100, 100), "int16", (16.84,) * 3, (-2744.9194336, 0, 0), (0, 0, 0)),
    # stamp "MAE ", columns along y
    "h2o-elf-nstart-origin.mrc": (
        (40, 40, 40),
        "float32",
        (0.15,) * 3,
        (5.6, 3.4, 1.2),
        (5, 3, 4),
    ),
    "h2o-elf-nstart-skwtrn.ccp4": (
        (40, 40, 40),
        "float32",
        (0.15,) * 3,
        (0.75, 0.45, 0.6),
        (5, 3, 4),
    ),
    "new-head_int16.mrc": ((20, 30, 40), "int16", (4.0,) * 3, (-90, -964, -944), (0, 0, 0)),
    # big-endian under a little-endian stamp
    "swapped_byte_order.mrc": ((1, 2, 10), "float32", None, (0, 0, 0), (0, 0, 0)),
    "test_image_membrane.rec": (
        (16, 16, 16),
        "int16",
        (19.73333,) * 3,
        (700.5333252, -10648.6992188, -7995.9462891),
        (0, 0, 0),
    ),
    "tiny3.map": ((3, 3, 3), "int8", None, (0, 0, 0), (0, 0, 0)),
    "voxelsize_zero.mrc": ((37, 37, 37), "float32", None, (0, 0, 0), (0, 0, 0)),
}

# name: words of the message, words of the hint
REFUSED = {
    "EMD-3197.map.bz2": ("bzip2-compressed", "bunzip2 -k"),
    "emd_3197.map.gz": ("gzip-compressed", "gunzip -k"),
    "emd_3197.png.gz": ("gzip-compressed", "gunzip -k"),
    "header_only.mrc": ("only a header.*132096 bytes, found 1024", "again"),
    "test_data_corrupt_header.map": ("truncated.*34280108 bytes, found 1108", "again"),
    "zero_bytes.mrc": ("empty", "again"),
}


def write_mrc(path: Path, data: np.ndarray, **fields: Any) -> Path:
    """Write a file with mrcfile, then set header fields, unchecked."""
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(data)
        mrc.set_volume()
        mrc.voxel_size = 2.5
        for name, value in fields.items():
            mrc.header[name] = value
    return path


def stamp_imod(path: Path, flags: int) -> Path:
    with path.open("r+b") as file:
        file.seek(152)
        file.write(np.array([IMOD_STAMP, flags], "<i4").tobytes())
    return path


def read_all(volume: Volume) -> np.ndarray:
    with volume.reader() as reader:
        return reader.read(whole(volume.shape))


def ramp(shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    return np.arange(math.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("name", WILD)
def test_header_in_the_wild_is_understood(shared_data: Path, name: str) -> None:
    shape, dtype, voxel_size, origin, nstart = WILD[name]
    volume = open_volume(shared_data / "mrc_headers" / name)
    assert volume.shape == shape
    assert volume.dtype == dtype
    assert volume.voxel_size_angstrom == pytest.approx(voxel_size)
    assert volume.origin_angstrom == pytest.approx(origin, abs=1e-5)
    assert volume.mrc is not None
    assert volume.mrc.nstart_zyx == nstart
    if voxel_size is None:
        assert "Å" in volume.voxel_size_note


@pytest.mark.parametrize("name", WILD)
def test_voxels_in_the_wild_are_what_mrcfile_reads(shared_data: Path, name: str) -> None:
    path = shared_data / "mrc_headers" / name
    with pytest.warns() if name.startswith(("swapped", "h2o")) else _nothing():
        reference = mrcfile.open(path, permissive=True)
    stored = (int(reference.header.maps), int(reference.header.mapr), int(reference.header.mapc))
    data = reference.data.reshape((-1, *reference.data.shape[-2:]))
    expected = data.transpose([stored.index(axis) for axis in (3, 2, 1)])
    np.testing.assert_array_equal(read_all(open_volume(path)), expected)


@pytest.mark.parametrize("name", REFUSED)
def test_file_that_is_no_volume_is_refused_with_a_way_on(shared_data: Path, name: str) -> None:
    message, hint = REFUSED[name]
    with pytest.raises(InputError, match=message) as caught:
        open_volume(shared_data / "mrc_headers" / name)
    assert hint in caught.value.hint


def test_every_header_in_the_wild_is_spoken_for(shared_data: Path) -> None:
    found = {path.name for path in (shared_data / "mrc_headers").iterdir()}
    assert found == {*WILD, *REFUSED}


@pytest.mark.parametrize("dtype", ["int8", "int16", "float32", "uint16", "float16"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (1, 9, 2), (4, 1, 1)])
def test_modes_byte_orders_and_odd_shapes(
    tmp_path: Path, dtype: str, order: str, shape: tuple[int, ...]
) -> None:
    data = ramp(shape, dtype).astype(np.dtype(dtype).newbyteorder(order))
    volume = open_volume(write_mrc(tmp_path / "a.mrc", data))
    result = read_all(volume)
    assert (volume.shape, volume.dtype) == (shape, dtype)
    assert result.dtype == np.dtype(dtype)
    assert result.dtype.isnative
    assert result.flags.c_contiguous
    assert result.flags.owndata
    np.testing.assert_array_equal(result, data)


def test_wrong_machine_stamp_is_seen_through(tmp_path: Path) -> None:
    data = ramp((3, 4, 5), "int16")
    path = write_mrc(tmp_path / "a.mrc", data.astype(">i2"))
    with path.open("r+b") as file:
        file.seek(212)
        file.write(b"\x44\x44\x00\x00")
    np.testing.assert_array_equal(read_all(open_volume(path)), data)


@pytest.mark.parametrize("mapped", [(1, 2, 3), (3, 2, 1), (2, 3, 1), (2, 1, 3), (3, 1, 2)])
def test_permuted_axes_are_read_box_by_box_as_zyx(
    tmp_path: Path, mapped: tuple[int, int, int]
) -> None:
    stored = ramp((4, 5, 6), "int16")
    mapc, mapr, maps = mapped
    path = write_mrc(
        tmp_path / "a.mrc", stored, mapc=mapc, mapr=mapr, maps=maps, nxstart=7, nystart=8, nzstart=9
    )
    expected = stored.transpose([(maps, mapr, mapc).index(axis) for axis in (3, 2, 1)])
    volume = open_volume(path)
    assert volume.shape == expected.shape
    assert volume.mrc is not None
    start_of_axis = dict(zip(mapped, (7, 8, 9), strict=True))
    assert volume.mrc.nstart_zyx == (start_of_axis[3], start_of_axis[2], start_of_axis[1])
    with volume.reader() as reader:
        for box in Lattice(volume.shape, 3):
            np.testing.assert_array_equal(reader.read(box), expected[box.slices])


@pytest.mark.parametrize("data_offset", [0, 1, 80, 5000])
def test_extended_header_is_skipped(tmp_path: Path, data_offset: int) -> None:
    data = ramp((3, 4, 5), "int16")
    path = tmp_path / "a.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(data)
        mrc.set_extended_header(np.ones(data_offset, "V1"))
    np.testing.assert_array_equal(read_all(open_volume(path)), data)


@pytest.mark.parametrize(
    ("flags", "header", "dtype"),
    [
        (0, {}, "uint8"),  # IMOD, flag not set: unsigned
        (1, {}, "int8"),
        (5, {}, "int8"),
        (None, {"dmin": 0, "dmax": 127}, "int8"),  # no stamp: MRC2014 says signed
        (None, {"dmin": -3, "dmax": 200}, "int8"),
        (None, {"dmin": 0, "dmax": 255}, "uint8"),  # only unsigned bytes get there
    ],
)
def test_sign_of_bytes(
    tmp_path: Path, flags: int | None, header: dict[str, float], dtype: str
) -> None:
    data = np.array([[[-128, -1, 0, 1, 127]]], "int8")
    path = write_mrc(tmp_path / "a.mrc", data, **header)
    if flags is not None:
        stamp_imod(path, flags)
    volume = open_volume(path)
    assert volume.dtype == dtype
    np.testing.assert_array_equal(read_all(volume), data.view(dtype))


@pytest.mark.parametrize(
    ("mode", "words", "hint"),
    [
        (3, "Fourier", "real-space"),
        (4, "Fourier", "real-space"),
        (16, "RGB", "one channel"),
        (101, "4-bit", "newstack -mode 0"),
    ],
)
def test_modes_that_are_no_density_are_refused(
    tmp_path: Path, mode: int, words: str, hint: str
) -> None:
    path = write_mrc(tmp_path / "a.mrc", ramp((2, 3, 4)), mode=mode)
    with pytest.raises(InputError, match=f"{words}.*mode {mode}") as caught:
        open_volume(path)
    assert hint in caught.value.hint


def test_four_bit_flag_of_imod_is_refused(tmp_path: Path) -> None:
    path = stamp_imod(write_mrc(tmp_path / "a.mrc", ramp((2, 3, 4), "int8")), 16)
    with pytest.raises(InputError, match="4-bit"):
        open_volume(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"nx": -5},
        {"nz": 0},
        {"mode": 77},
        {"nsymbt": -1},
        {"nx": 100_000, "ny": 100_000, "nz": 100_000},
        {"nx": 2**31 - 1, "ny": 2**31 - 1, "nz": 2**31 - 1},
        {"nsymbt": 2**31 - 1},
    ],
)
def test_absurd_headers_are_refused_before_anything_is_allocated(
    tmp_path: Path, fields: dict[str, int]
) -> None:
    path = write_mrc(tmp_path / "a.mrc", ramp((2, 3, 4)), **fields)
    with pytest.raises(InputError, match=r"damaged|need .* bytes, found"):
        open_volume(path)


@pytest.mark.parametrize("content", [b"x", b"Hello, tomogram. " * 100, bytes(4096)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mrc"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not an MRC file"):
        open_volume(path)


def test_file_cut_by_one_byte_is_truncated(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "a.mrc", ramp((3, 4, 5)))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"truncated.*1264 bytes, found 1263"):
        open_volume(path)


def test_file_longer_than_its_header_is_read_and_noted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = ramp((3, 4, 5))
    path = write_mrc(tmp_path / "a.mrc", data)
    with path.open("ab") as file:
        file.write(bytes(100))
    with caplog.at_level(logging.WARNING):
        volume = open_volume(path)
    assert "longer than its header says" in caplog.text
    np.testing.assert_array_equal(read_all(volume), data)


@pytest.mark.parametrize(
    ("cella", "fields", "expected", "note"),
    [
        ((25, 16, 9), {}, (3.0, 4.0, 5.0), "MRC header"),  # anisotropic: three values
        ((5, 4, 3), {}, None, "1.0 Å"),
        ((-5, 4, 3), {}, None, "-1 Å"),
        ((0, 0, 0), {}, None, "0 Å"),
        ((math.nan, 40, 30), {}, None, "0 Å"),
        ((math.inf, 40, 30), {}, None, "0 Å"),
        ((5e-9, 4e-9, 3e-9), {}, None, "1e-09 Å"),  # metres
        ((50, 40, 30), {"mx": 0, "my": 0, "mz": 0}, (10.0,) * 3, "MRC header"),
        ((50, 40, 3), {"ispg": 0, "mz": 1}, (10.0,) * 3, "image stack"),
        ((50, 40, 0), {"ispg": 0}, (10.0,) * 3, "image stack"),
        ((50, 40, 3), {"ispg": 0}, (10.0,) * 3, "image stack"),  # z 1.0 beside x 10
        ((50, 40, 60), {"ispg": 0}, (20.0, 10.0, 10.0), "MRC header"),
    ],
)
def test_voxel_size_is_believed_or_not(
    tmp_path: Path, cella: tuple[float, ...], fields: dict[str, int], expected: Any, note: str
) -> None:
    path = write_mrc(tmp_path / "a.mrc", ramp((3, 4, 5)), cella=cella, **fields)
    volume = open_volume(path)
    assert volume.voxel_size_angstrom == expected
    assert note in volume.voxel_size_note


def test_origin_wins_over_nstart(tmp_path: Path) -> None:
    start = {"nxstart": 2, "nystart": 0, "nzstart": -4}
    path = write_mrc(tmp_path / "a.mrc", ramp((3, 4, 5)), **start)
    assert open_volume(path).origin_angstrom == (-10.0, 0.0, 5.0)
    path = write_mrc(tmp_path / "b.mrc", ramp((3, 4, 5)), origin=(1, 2, 3), **start)
    assert open_volume(path).origin_angstrom == (3.0, 2.0, 1.0)


def test_volume_is_pickled_small_and_reads_the_same(tmp_path: Path) -> None:
    data = ramp((30, 40, 50))
    volume = open_volume(write_mrc(tmp_path / "a.mrc", data))
    packed = pickle.dumps(volume)
    assert len(packed) < 2000
    assert pickle.loads(packed) == volume
    np.testing.assert_array_equal(read_all(pickle.loads(packed)), data)


def test_header_survives_json(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "a.mrc", ramp((3, 4, 5)), origin=(0.1, 0.2, 0.3), nxstart=3)
    header = open_volume(stamp_imod(path, 13)).mrc
    assert header is not None
    assert MrcHeader.from_dict(header.to_dict()) == header
    with pytest.raises(InputError, match="cannot be read"):
        MrcHeader.from_dict({**header.to_dict(), "nstart_zyx": [1, 2]})
    with pytest.raises(InputError, match="cannot be read"):
        MrcHeader.from_dict({})


def test_threads_share_a_reader(tmp_path: Path) -> None:
    data = ramp((40, 40, 40), "int16")
    volume = open_volume(write_mrc(tmp_path / "a.mrc", data))
    wrong: list[Box] = []
    with volume.reader() as reader:

        def work(offset: int) -> None:
            for box in list(Lattice(volume.shape, 7))[offset::4]:
                if not np.array_equal(reader.read(box), data[box.slices]):
                    wrong.append(box)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_boxes_that_leave_the_volume_are_no_read(tmp_path: Path) -> None:
    volume = open_volume(write_mrc(tmp_path / "a.mrc", ramp((3, 4, 5))))
    with volume.reader() as reader:
        assert reader.read(Box((1, 1, 1), (1, 4, 5))).shape == (0, 3, 4)
        for box in (Box((0, 0, 0), (4, 4, 5)), Box((-1, 0, 0), (3, 4, 5))):
            with pytest.raises(ValueError, match="within"):
                reader.read(box)


def test_file_cut_or_changed_under_a_run_is_noticed(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "a.mrc", ramp((30, 40, 50)))
    volume = open_volume(path)
    stamp = volume.stamp()
    assert stamp["bytes"] == path.stat().st_size
    with volume.reader() as reader:
        with path.open("r+b") as file:
            file.truncate(20_000)
        with pytest.raises(StorageError, match="was cut"):
            reader.read(whole(volume.shape))
    assert volume.stamp() != stamp
    write_mrc(path, ramp((3, 4, 5)))
    with pytest.raises(InputError, match="has changed"):
        volume.reader()
    path.unlink()
    with pytest.raises(InputError, match="no longer there"):
        volume.stamp()


@pytest.mark.parametrize("dtype", ["int8", "int16", "float32", "uint16", "float16"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 17, 9), (1, 30, 2)])
def test_writer_makes_a_valid_file(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    data = (ramp(shape, "float32") % 10).astype(dtype)
    path = tmp_path / "a.mrc"
    with MrcWriter(
        path,
        shape=shape,
        dtype=dtype,
        voxel_size_angstrom=(3.0, 2.0, 1.5),
        origin_angstrom=(1.0, 2.0, 3.0),
        label="made here",
    ) as writer:
        for box in reversed(list(Lattice(shape, 4))):
            writer.write(box, data[box.slices])
        assert not path.exists()
    assert mrcfile.validate(path)
    with mrcfile.open(path) as mrc:
        np.testing.assert_array_equal(mrc.data.reshape(shape), data)
        assert mrc.data.dtype == np.dtype(dtype)
        assert mrc.voxel_size.item() == (1.5, 2.0, 3.0)
        assert mrc.header.origin.item() == (3.0, 2.0, 1.0)
        assert mrc.get_labels() == ["made here"]
        values = data.astype("float64")
        assert mrc.header.dmin == values.min()
        assert mrc.header.dmax == values.max()
        assert mrc.header.dmean == pytest.approx(values.mean(), rel=1e-6)
        assert mrc.header.rms == pytest.approx(values.std(), rel=1e-6)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mrc"]


def test_writer_leaves_nothing_half_done(tmp_path: Path) -> None:
    path = tmp_path / "a.mrc"
    arguments: dict[str, Any] = {"shape": (4, 4, 4), "dtype": "int8", "voxel_size_angstrom": None}
    writer = MrcWriter(path, **arguments)
    writer.write(whole((4, 4, 4)), np.zeros((4, 4, 4), "int8"))
    writer.__exit__(RuntimeError, RuntimeError(), None)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StorageError, match="expected 64 voxels, 8"):  # noqa: SIM117
        with MrcWriter(path, **arguments) as writer:
            writer.write(Box((0, 0, 0), (2, 2, 2)), np.zeros((2, 2, 2), "int8"))
    assert list(tmp_path.iterdir()) == []


def test_writer_refuses_what_is_there_and_replaces_when_told(tmp_path: Path) -> None:
    path = tmp_path / "a.mrc"
    path.write_text("precious")
    arguments: dict[str, Any] = {"shape": (1, 1, 1), "dtype": "int8", "voxel_size_angstrom": None}
    with pytest.raises(OutputExistsError):
        MrcWriter(path, **arguments)
    with MrcWriter(path, **arguments, overwrite=True) as writer:
        assert path.read_text() == "precious"
        writer.write(whole((1, 1, 1)), np.ones((1, 1, 1), "int8"))
    assert mrcfile.read(path).item() == 1


def test_writer_refuses_dtypes_without_a_mode(tmp_path: Path) -> None:
    for dtype in ("uint8", "int32", "float64"):
        with pytest.raises(RequestError, match=f"no mode for {dtype}"):
            MrcWriter(tmp_path / "a.mrc", shape=(1, 1, 1), dtype=dtype, voxel_size_angstrom=None)


def test_writer_says_when_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(StorageError, match="No space left") as caught:
        MrcWriter(tmp_path / "a.mrc", shape=(9, 9, 9), dtype="int8", voxel_size_angstrom=None)
    assert "Free some space" in caught.value.hint
    assert caught.value.errno == 28
    assert list(tmp_path.iterdir()) == []


def _nothing() -> contextlib.AbstractContextManager[None]:

    return contextlib.nullcontext()
