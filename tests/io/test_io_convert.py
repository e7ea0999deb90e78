"""There and back: voxels byte for byte, header fields as they were."""

import tracemalloc
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import tifffile
import zarr

from tomoseg.errors import InputError, OutputExistsError, RequestError
from tomoseg.io.convert import convert
from tomoseg.io.layout import Layout
from tomoseg.io.omezarr import ArrayStore, create
from tomoseg.io.volume import open_volume

REAL = [
    "emd_1155.mrc",
    "emd_1155_virions_approximate.mrc",
    "microtubule_13pf.mrc",
    "microtubule_13pf_wall_mask.mrc",
]
STANDARD_AXES = [
    "EMD-3197.map",
    "SerialEM_SERI_exthdr.mrc",
    "big_head.mrc",
    "new-head_int16.mrc",
    "test_image_membrane.rec",
    "tiny3.map",
    "voxelsize_zero.mrc",
]


def header_fields(path: Path) -> dict[str, Any]:
    with mrcfile.open(path, permissive=True) as mrc:
        return {
            "voxel_size": mrc.voxel_size.item(),
            "nstart": mrc.nstart.item(),
            "origin": mrc.header.origin.item(),
            "cellb": mrc.header.cellb.item(),
            "mode": int(mrc.header.mode),
            "ispg": int(mrc.header.ispg),
            "labels": [bytes(label) for label in mrc.header.label[: int(mrc.header.nlabl)]],
            "data": mrc.data.tobytes(),
        }


def there_and_back(source: Path, folder: Path, **options: Any) -> Path:
    convert(source, folder / "there.zarr", shard=64, **options)
    convert(folder / "there.zarr", folder / "back.mrc")
    return folder / "back.mrc"


@pytest.mark.parametrize("version", ["0.5", "0.4"])
@pytest.mark.parametrize("name", REAL)
def test_real_tomograms_come_back_unchanged(
    shared_data: Path, tmp_path: Path, name: str, version: str
) -> None:
    source = shared_data / "real" / name
    back = there_and_back(source, tmp_path, version=version)
    assert header_fields(back) == header_fields(source)
    assert mrcfile.validate(back)
    assert {entry.name for entry in tmp_path.iterdir()} == {"there.zarr", "back.mrc"}


@pytest.mark.parametrize("name", STANDARD_AXES)
def test_odd_headers_come_back_unchanged(shared_data: Path, tmp_path: Path, name: str) -> None:
    source = shared_data / "mrc_headers" / name
    assert header_fields(there_and_back(source, tmp_path)) == header_fields(source)


@pytest.mark.parametrize("name", ["3pqr-mode0.ccp4", "h2o-elf-nstart-origin.mrc"])
@pytest.mark.filterwarnings("ignore:Unrecognised machine stamp")
def test_permuted_axes_come_back_in_standard_order(
    shared_data: Path, tmp_path: Path, name: str
) -> None:
    source = shared_data / "mrc_headers" / name
    back = there_and_back(source, tmp_path)
    before, after = open_volume(source), open_volume(back)
    assert before.mrc is not None
    assert (after.mrc, after.shape, after.origin_angstrom) == (
        before.mrc,
        before.shape,
        before.origin_angstrom,
    )
    with mrcfile.open(back) as mrc, mrcfile.open(source, permissive=True) as reference:
        assert mrc.voxel_size.item() == reference.voxel_size.item()
        assert mrc.nstart.item() == before.mrc.nstart_zyx[::-1]
        np.testing.assert_array_equal(mrc.data, reference.data.transpose(0, 2, 1))


@pytest.mark.parametrize("flags", [0, 4])
def test_unsigned_bytes_of_imod_come_back_as_such(tmp_path: Path, flags: int) -> None:
    data = np.arange(256, dtype="uint8").reshape(4, 8, 8)
    with mrcfile.new(tmp_path / "a.mrc") as mrc:
        mrc.set_data(data.view("int8"))
    with (tmp_path / "a.mrc").open("r+b") as file:
        file.seek(152)
        file.write(np.array([1146047817, flags], "<i4").tobytes())
    back = open_volume(there_and_back(tmp_path / "a.mrc", tmp_path))
    assert back.dtype == "uint8"
    assert back.mrc is not None
    assert back.mrc.imod_flags == flags
    assert (tmp_path / "back.mrc").read_bytes()[1024:] == data.tobytes()


def test_signed_bytes_of_imod_keep_their_flag(tmp_path: Path) -> None:
    data = np.arange(-128, 128, dtype="int8").reshape(4, 8, 8)
    with mrcfile.new(tmp_path / "a.mrc") as mrc:
        mrc.set_data(data)
    with (tmp_path / "a.mrc").open("r+b") as file:
        file.seek(152)
        file.write(np.array([1146047817, 1], "<i4").tobytes())
    back = open_volume(there_and_back(tmp_path / "a.mrc", tmp_path))
    assert back.dtype == "int8"
    assert back.mrc is not None
    assert back.mrc.imod_flags == 1


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_pyramid_is_built_and_progress_told(tmp_path: Path, version: Any) -> None:
    data = np.random.default_rng(0).normal(size=(3, 70, 130)).astype("float32")
    with mrcfile.new(tmp_path / "a.mrc") as mrc:
        mrc.set_data(data)
        mrc.voxel_size = 7.5
    told: list[tuple[int, int]] = []
    result = convert(
        tmp_path / "a.mrc",
        tmp_path / "b.zarr",
        version=version,
        shard=64,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(n, len(told)) for n in range(1, len(told) + 1)]
    assert result["voxel_size_angstrom"] == [7.5] * 3
    group = zarr.open_group(tmp_path / "b.zarr", mode="r")
    assert [group[str(n)].shape for n in range(3)] == [(3, 70, 130), (2, 35, 65), (1, 18, 33)]
    assert group["2"][0, 0, 0] == pytest.approx(
        data[:, :4, :4].mean(axis=(1, 2))[[0, 1, 2]] @ [1 / 4, 1 / 4, 1 / 2], abs=1e-6
    )
    with pytest.raises(KeyError):
        group["3"]


def segmented(path: Path, source: Path) -> np.ndarray:
    """An output as ``tomoseg segment`` makes it."""
    volume = open_volume(source)
    layout = Layout(
        path=str(path),
        shape=volume.shape,
        voxel_size_angstrom=volume.voxel_size_angstrom,
        origin_angstrom=volume.origin_angstrom,
        shard=64,
    )
    assert volume.mrc is not None
    create(layout, {"complete": True, "mrc": volume.mrc.to_dict()})
    saliency = np.random.default_rng(0).integers(0, 256, volume.shape).astype("uint8")
    for box in layout.shards(0):
        ArrayStore(layout, "image", 0).write_shard(box, saliency[box.slices])
        mask = (saliency[box.slices] > 127).astype("uint8")
        ArrayStore(layout, "mask", 0).write_shard(box, mask)
    return saliency


@pytest.mark.parametrize("name", ["big_head.mrc", "EMD-3197.map", "new-head_int16.mrc"])
def test_mask_lies_over_the_tomogram(shared_data: Path, tmp_path: Path, name: str) -> None:
    source = shared_data / "mrc_headers" / name
    saliency = segmented(tmp_path / "mask.zarr", source)
    convert(tmp_path / "mask.zarr", tmp_path / "mask.mrc")
    with mrcfile.open(tmp_path / "mask.mrc") as mask, mrcfile.open(source) as tomogram:
        assert mask.header.mode == 0
        assert mask.data.dtype == np.int8
        np.testing.assert_array_equal(mask.data, saliency > 127)
        assert mask.voxel_size.item() == tomogram.voxel_size.item()
        assert mask.header.origin.item() == tomogram.header.origin.item()
        assert mask.nstart.item() == tomogram.nstart.item()
        assert mask.get_labels()[:-1] == tomogram.get_labels()
        assert "mask" in mask.get_labels()[-1]
    assert mrcfile.validate(tmp_path / "mask.mrc")


def test_saliency_is_widened_for_mrc(shared_data: Path, tmp_path: Path) -> None:
    saliency = segmented(tmp_path / "mask.zarr", shared_data / "mrc_headers" / "big_head.mrc")
    result = convert(tmp_path / "mask.zarr", tmp_path / "saliency.mrc", array="saliency")
    assert result["dtype"] == "uint16"
    np.testing.assert_array_equal(mrcfile.read(tmp_path / "saliency.mrc"), saliency)
    for array in ("mask", "labels/mask", "labels/mask/0"):
        convert(tmp_path / "mask.zarr", tmp_path / "m.mrc", array=array, overwrite=True)
        assert mrcfile.read(tmp_path / "m.mrc").dtype == np.int8


def test_coarse_level_gets_a_header_of_its_own(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "real" / "emd_1155.mrc"
    convert(source, tmp_path / "a.zarr")
    convert(tmp_path / "a.zarr", tmp_path / "coarse.mrc", array="1")
    with mrcfile.open(tmp_path / "coarse.mrc") as mrc:
        assert mrc.data.shape == (46, 141, 71)
        assert mrc.voxel_size.item() == pytest.approx((32.8, 32.8, 32.8))
        assert mrc.header.origin.item() == pytest.approx((8.2, 8.2, 8.2))


def test_given_voxel_size_wins_both_ways(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "mrc_headers" / "voxelsize_zero.mrc"
    convert(source, tmp_path / "a.zarr", voxel_size_angstrom=13.48)
    assert open_volume(tmp_path / "a.zarr").voxel_size_angstrom == (13.48,) * 3
    convert(tmp_path / "a.zarr", tmp_path / "b.mrc")
    assert open_volume(tmp_path / "b.mrc").voxel_size_angstrom == (13.48,) * 3
    with pytest.raises(RequestError, match="above 0"):
        convert(source, tmp_path / "c.zarr", voxel_size_angstrom=-1)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([-5, 300], "int32"), "int16"),
        (np.array([0, 60000], "uint32"), "uint16"),
        (np.array([0, 60000], "int64"), "uint16"),
        (np.array([-1, 60000], "int32"), None),
        (np.array([0, 255], "uint8"), "uint16"),
        (np.array([True, False]), "uint16"),
        (np.array([0.5, -2.5], "float64"), "float32"),
        (np.array([0.5, -2.5], "float16"), "float16"),
    ],
)
def test_plain_zarr_to_mrc_by_dtype(tmp_path: Path, values: np.ndarray, dtype: str | None) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=values.reshape(1, 2, 1))
    if dtype is None:
        with pytest.raises(InputError, match="from -1 to 60000") as caught:
            convert(tmp_path / "a.zarr", tmp_path / "a.mrc")
        assert "float32" in caught.value.hint
        assert not (tmp_path / "a.mrc").exists()
        return
    result = convert(tmp_path / "a.zarr", tmp_path / "a.mrc")
    assert result["dtype"] == dtype
    assert result["voxel_size_angstrom"] is None
    np.testing.assert_array_equal(mrcfile.read(tmp_path / "a.mrc").ravel(), values)


def test_zarr_to_zarr_changes_the_version(tmp_path: Path) -> None:
    data = np.arange(3 * 4 * 5, dtype="uint16").reshape(3, 4, 5)
    zarr.create_array(tmp_path / "a.zarr", data=data)
    convert(tmp_path / "a.zarr", tmp_path / "b.zarr", version="0.4")
    convert(tmp_path / "b.zarr", tmp_path / "c.zarr", version="0.5")
    np.testing.assert_array_equal(zarr.open_group(tmp_path / "c.zarr", mode="r")["0"][:], data)


def test_destination_is_replaced_only_when_told_and_only_when_finished(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=np.ones((3, 4, 5), "float32"))
    destination = tmp_path / "b.zarr"
    convert(tmp_path / "a.zarr", destination)
    with pytest.raises(OutputExistsError):
        convert(tmp_path / "a.zarr", destination)

    def fail(done: int, total: int) -> None:
        raise KeyboardInterrupt

    zarr.create_array(tmp_path / "a.zarr", data=np.full((3, 4, 5), 2.0), overwrite=True)
    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path / "a.zarr", destination, overwrite=True, progress=fail)
    assert (zarr.open_group(destination, mode="r")["0"][:] == 1).all()
    convert(tmp_path / "a.zarr", destination, overwrite=True)
    assert (zarr.open_group(destination, mode="r")["0"][:] == 2).all()
    assert {entry.name for entry in tmp_path.iterdir()} == {"a.zarr", "b.zarr"}


def test_folders_that_are_not_zarr_and_the_source_itself_are_never_replaced(
    tmp_path: Path,
) -> None:
    source = tmp_path / "a.zarr"
    zarr.create_array(source, data=np.ones((3, 4, 5), "float32"))
    (tmp_path / "home.zarr").mkdir()
    (tmp_path / "home.zarr" / "thesis.tex").touch()
    with pytest.raises(RequestError, match="not a Zarr hierarchy"):
        convert(source, tmp_path / "home.zarr", overwrite=True)
    (tmp_path / "link.zarr").symlink_to(source)
    for destination in (source, source / "b.zarr", tmp_path / "link.zarr"):
        with pytest.raises(RequestError, match="source"):
            convert(source, destination, overwrite=True)
    with pytest.raises(RequestError, match=r"ends in .zarr"):
        convert(source, tmp_path / "b.png")


def test_memory_is_bounded_by_a_shard(tmp_path: Path) -> None:
    shape = (64, 512, 512)
    with mrcfile.new_mmap(tmp_path / "a.mrc", shape=shape, mrc_mode=2) as mrc:
        mrc.data[:, ::7, ::5] = 1
    tracemalloc.start()
    convert(tmp_path / "a.mrc", tmp_path / "b.zarr", shard=64)
    convert(tmp_path / "b.zarr", tmp_path / "c.mrc")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.9 * np.prod(shape) * 4
    assert (tmp_path / "c.mrc").read_bytes()[1024:] == (tmp_path / "a.mrc").read_bytes()[1024:]


def mask_alone(path: Path, mask: np.ndarray) -> Path:
    """Write what ``segment`` leaves, as far as conversion looks."""
    layout = Layout(
        path=str(path),
        shape=mask.shape,
        voxel_size_angstrom=(10.0, 10.0, 10.0),
        shard=64,
    )
    create(layout, {"version": "1"})
    store = ArrayStore(layout, "mask", 0)
    for box in layout.shards(0):
        store.write_shard(box, mask[box.slices])
    return path


def test_a_mask_becomes_a_stack_of_planes(tmp_path: Path) -> None:
    mask = (np.random.default_rng(0).random((5, 70, 40)) > 0.7).astype(np.uint8)
    source = mask_alone(tmp_path / "mask.zarr", mask)
    result = convert(source, tmp_path / "out" / "mask.tif")
    assert result["dtype"] == "uint8"
    with tifffile.TiffFile(tmp_path / "out" / "mask.tif") as file:
        np.testing.assert_array_equal(file.asarray(), mask)
        assert file.series[0].axes == "ZYX"
        assert 'PhysicalSizeX="10.0" PhysicalSizeXUnit="Å"' in str(file.ome_metadata)
    with pytest.raises(OutputExistsError):
        convert(source, tmp_path / "out" / "mask.tif")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mask.tif"]


def test_levels_of_a_mask_are_masks(tmp_path: Path) -> None:
    """A particle of one voxel does not fade out of the coarser levels."""
    mask = np.zeros((70, 70, 70), np.uint8)
    mask[33, 20, 69] = 1
    source = mask_alone(tmp_path / "mask.zarr", mask)
    convert(source, tmp_path / "out.zarr", array="mask", version="0.4")
    coarse = zarr.open_array(tmp_path / "out.zarr" / "1")[:]
    assert coarse.sum() == coarse[16, 10, 34] == 1
