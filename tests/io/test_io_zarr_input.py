"""Zarr folders as inputs: OME-Zarr of both versions, plain arrays, and hostile ones."""

import json
import pickle
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr

from tomoseg.errors import InputError, RequestError
from tomoseg.geometry import Lattice, whole
from tomoseg.io.volume import Volume, find_inputs, open_volume

SHAPE = (5, 6, 7)


def ramp(shape: tuple[int, ...] = SHAPE, dtype: str = "int16") -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def axes(*names: str, unit: str | None = "angstrom") -> list[dict[str, str]]:
    return [{"name": n, **({"unit": unit} if unit and n in "zyx" else {})} for n in names]


def ome_zarr(
    path: Path,
    data: np.ndarray,
    version: str = "0.5",
    transformations: list[dict[str, Any]] | None = None,
    **image: Any,
) -> Path:
    """Write an OME-Zarr of one level with zarr itself, not with the code under test."""
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    group.create_array("0", data=data, chunks=(4,) * data.ndim)
    steps = transformations or [{"type": "scale", "scale": [1.0] * (data.ndim - 3) + [3, 4, 5]}]
    multiscales = [
        {
            "axes": axes(*"tczyx"[-data.ndim :]),
            "datasets": [{"path": "0", "coordinateTransformations": steps}],
            **image,
        }
    ]
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    else:
        group.attrs["multiscales"] = multiscales
    return path


def read_all(volume: Volume) -> np.ndarray:
    with volume.reader() as reader:
        return reader.read(whole(volume.shape))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("leading", [(), (1,), (1, 1)])
def test_ome_zarr_is_read(tmp_path: Path, version: str, leading: tuple[int, ...]) -> None:
    data = ramp((*leading, *SHAPE))
    volume = open_volume(ome_zarr(tmp_path / "a.zarr", data, version))
    assert (volume.format, volume.array, volume.shape) == ("zarr", "0", SHAPE)
    assert volume.voxel_size_angstrom == (3.0, 4.0, 5.0)
    assert volume.voxel_size_note == "OME-Zarr metadata"
    assert pickle.loads(pickle.dumps(volume)) == volume
    with volume.reader() as reader:
        for box in Lattice(SHAPE, 3):
            piece = reader.read(box)
            assert piece.flags.c_contiguous
            np.testing.assert_array_equal(piece, data.reshape(SHAPE)[box.slices])


@pytest.mark.parametrize(
    ("unit", "scale", "expected"),
    [
        ("angstrom", [3, 4, 5], (3.0, 4.0, 5.0)),
        ("nanometer", [1, 1, 1.3], (10.0, 10.0, 13.0)),
        ("micrometer", [0.001, 0.001, 0.001], (10.0, 10.0, 10.0)),
        (None, [3, 4, 5], None),
        ("furlong", [3, 4, 5], None),
        ("angstrom", [1, 1, 1], None),
        ("angstrom", [0, 4, 5], None),
    ],
)
def test_units(tmp_path: Path, unit: str | None, scale: list[float], expected: Any) -> None:
    steps = [{"type": "scale", "scale": scale}]
    path = ome_zarr(
        tmp_path / "a.zarr", ramp(), transformations=steps, axes=axes("z", "y", "x", unit=unit)
    )
    assert open_volume(path).voxel_size_angstrom == expected


def test_transformations_of_dataset_and_image_are_chained(tmp_path: Path) -> None:
    path = ome_zarr(
        tmp_path / "a.zarr",
        ramp(),
        transformations=[
            {"type": "scale", "scale": [3, 4, 5]},
            {"type": "translation", "translation": [10, 20, 30]},
        ],
        coordinateTransformations=[
            {"type": "scale", "scale": [2, 2, 2]},
            {"type": "translation", "translation": [1, 1, 1]},
        ],
    )
    volume = open_volume(path)
    assert volume.voxel_size_angstrom == (6.0, 8.0, 10.0)
    assert volume.origin_angstrom == (21.0, 41.0, 61.0)


@pytest.mark.parametrize(
    "steps",
    [
        [{"type": "affine"}],
        [{"type": "scale"}],
        [{"type": "scale", "scale": ["a", 1, 1]}],
        [{"type": "scale", "scale": [5]}],
        [{"type": "scale", "scale": None}],
        ["scale"],
    ],
)
def test_transformations_that_make_no_sense_leave_no_voxel_size(
    tmp_path: Path, steps: list[Any]
) -> None:
    volume = open_volume(ome_zarr(tmp_path / "a.zarr", ramp(), transformations=steps))
    assert volume.voxel_size_angstrom is None
    assert "cannot be read" in volume.voxel_size_note


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["uint8", ">i2", "<f4", "float64", "bool", "uint32"])
def test_plain_arrays(tmp_path: Path, zarr_format: Any, dtype: str) -> None:
    data = (ramp() % 2).astype(dtype)
    zarr.create_array(tmp_path / "a.zarr", data=data, chunks=(2, 3, 4), zarr_format=zarr_format)
    volume = open_volume(tmp_path / "a.zarr")
    assert (volume.array, volume.voxel_size_angstrom) == ("", None)
    result = read_all(volume)
    assert result.dtype.isnative
    assert volume.dtype == result.dtype.name == ("uint8" if dtype == "bool" else data.dtype.name)
    np.testing.assert_array_equal(result, data)


def test_group_with_one_array_needs_no_choice_and_with_two_lists_them(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("flat", data=np.zeros((3, 3)))
    group.create_array("sub/tomogram", data=ramp())
    assert open_volume(tmp_path / "a.zarr").array == "sub/tomogram"
    group.create_array("other", data=ramp())
    with pytest.raises(InputError, match="2 images") as caught:
        open_volume(tmp_path / "a.zarr")
    assert caught.value.hint == "Choose one: --array other | sub/tomogram"
    assert open_volume(tmp_path / "a.zarr", array="other").array == "other"
    with pytest.raises(InputError, match="no array nowhere") as caught:
        open_volume(tmp_path / "a.zarr", array="nowhere")
    assert "other" in caught.value.hint


def test_array_may_name_an_image_or_a_level(tmp_path: Path) -> None:
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    ome_zarr(tmp_path / "a.zarr" / "tomo", ramp())
    root.create_array("other", data=ramp())
    for array in ("tomo", "tomo/0"):
        volume = open_volume(tmp_path / "a.zarr", array=array)
        assert (volume.array, volume.voxel_size_angstrom) == ("tomo/0", (3.0, 4.0, 5.0))


def test_several_time_points_are_refused(tmp_path: Path) -> None:
    path = ome_zarr(tmp_path / "a.zarr", ramp((2, *SHAPE)))
    with pytest.raises(InputError, match=r"shape \(2, 5, 6, 7\)") as caught:
        open_volume(path)
    assert "--array" in caught.value.hint


def test_axes_in_another_order_are_refused(tmp_path: Path) -> None:
    path = ome_zarr(tmp_path / "a.zarr", ramp(), axes=axes("x", "y", "z"))
    with pytest.raises(InputError, match="found x, y, z"):
        open_volume(path)


@pytest.mark.parametrize("escape", ["../secret", "../../secret", "0/../../secret", "/etc", "", "."])
def test_dataset_paths_that_leave_the_group_are_refused(tmp_path: Path, escape: str) -> None:
    zarr.create_array(tmp_path / "secret", data=ramp())
    path = ome_zarr(tmp_path / "a.zarr", ramp(), datasets=[{"path": escape}])
    with pytest.raises(InputError):
        open_volume(path)
    with pytest.raises(InputError, match=r"leads out|has no array|no Zarr array"):
        open_volume(path, array=escape or "..")


@pytest.mark.parametrize("datasets", [[], [{}], None, 5, [7]])
def test_datasets_that_are_none(tmp_path: Path, datasets: Any) -> None:
    with pytest.raises(InputError, match="no dataset"):
        open_volume(ome_zarr(tmp_path / "a.zarr", ramp(), datasets=datasets))


def test_pickled_objects_are_never_unpickled(tmp_path: Path) -> None:
    """A filter of numcodecs runs code from the chunk; the array is refused unread."""
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=ramp(), zarr_format=2, filters=[numcodecs.Delta("<i2")])
    assert read_all(open_volume(path)).sum() == ramp().sum()
    metadata = json.loads((path / ".zarray").read_text())
    metadata["filters"] = [{"id": "pickle", "protocol": 5}]
    (path / ".zarray").write_text(json.dumps(metadata))
    with pytest.raises(InputError, match="codec 'pickle'"):
        open_volume(path)


@pytest.mark.parametrize("dtype", ["complex64", "<U4", "|O", "<M8[s]"])
def test_what_is_no_number_is_refused(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=ramp(), zarr_format=2)
    metadata = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps({**metadata, "dtype": dtype, "fill_value": None}))
    with pytest.raises(InputError):
        open_volume(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("zarr.json", "{"),
        ("zarr.json", "[]"),
        ("zarr.json", '{"zarr_format": 3, "node_type": "array"}'),
        ("zarr.json", '{"zarr_format": 3, "node_type": "group"}'),
        (".zarray", '{"zarr_format": 2, "shape": [3, 3, 3]}'),
        (".zgroup", '{"zarr_format": 2}'),
    ],
)
def test_damaged_metadata(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError):
        open_volume(tmp_path)


def test_unknown_codec_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=ramp())
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["codecs"][-1] = {"name": "nobody-has-this", "configuration": {}}
    (path / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(InputError, match="nobody-has-this"):
        open_volume(path)


def test_damaged_chunk_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=ramp(), chunks=SHAPE)
    (path / "c" / "0" / "0" / "0").write_bytes(b"torn")
    with pytest.raises(InputError, match="cannot be decoded"):
        read_all(open_volume(path))


def test_huge_array_is_described_without_reading_it(tmp_path: Path) -> None:
    huge = (10**7, 10**6, 10**6)
    zarr.create_array(tmp_path / "a.zarr", shape=huge, chunks=(64,) * 3, dtype="u1", fill_value=7)
    volume = open_volume(tmp_path / "a.zarr")
    assert volume.shape == huge
    with volume.reader() as reader:
        assert (reader.read(whole((2, 2, 2))) == 7).all()


def test_large_chunks_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=(1600,) * 3, chunks=(1600,) * 3, dtype="u1")
    open_volume(tmp_path / "a.zarr")
    assert "4.1 GB" in caplog.text


def test_stamp_follows_the_metadata_and_a_changed_array_is_noticed(tmp_path: Path) -> None:
    path = ome_zarr(tmp_path / "a.zarr", ramp())
    volume = open_volume(path)
    stamp = volume.stamp()
    ome_zarr(path, ramp((9, 9, 9)))
    assert volume.stamp() != stamp
    with pytest.raises(InputError, match="has changed"):
        volume.reader()


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_volume(tmp_path / "missing.mrc")
    with pytest.raises(InputError, match="without Zarr metadata"):
        open_volume(tmp_path)
    with pytest.raises(InputError, match="URL"):
        open_volume("ftp://host/tomo.zarr")
    (tmp_path / "a.mrc").write_bytes(b"")
    with pytest.raises(RequestError, match="--array 0"):
        open_volume(tmp_path / "a.mrc", array="0")


def test_find_inputs_expands_files_patterns_and_folders(tmp_path: Path) -> None:
    for name in ("b.mrc", "a.rec", "c.MAP", "notes.txt", ".hidden.mrc"):
        (tmp_path / name).touch()
    zarr.create_array(tmp_path / "d.zarr", data=ramp())
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "e.mrc").touch()
    folder = str(tmp_path)
    names = ["a.rec", "b.mrc", "c.MAP", "d.zarr"]
    assert find_inputs([folder]) == [f"{folder}/{name}" for name in names]
    assert find_inputs([f"{folder}/*.mrc"]) == [f"{folder}/b.mrc"]
    assert find_inputs([f"{folder}/**/*.mrc"]) == [f"{folder}/b.mrc", f"{folder}/deep/e.mrc"]
    assert find_inputs([f"{folder}/d.zarr"]) == [f"{folder}/d.zarr"]
    assert find_inputs([f"{folder}/c.MAP", folder])[:2] == [f"{folder}/c.MAP", f"{folder}/a.rec"]
    assert len(find_inputs([folder, folder])) == 4
    for nothing in (f"{folder}/*.em", f"{folder}/missing.mrc"):
        with pytest.raises(InputError):
            find_inputs([nothing])
    (tmp_path / "odd[1].mrc").touch()
    assert find_inputs([f"{folder}/odd[1].mrc"]) == [f"{folder}/odd[1].mrc"]
