"""OME-Zarr as written: valid for others, whole after crashes, honest about refusals."""

import errno
import json
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import ome_zarr_models.v04
import ome_zarr_models.v05
import pytest
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

from tomoseg.errors import InputError, OutputExistsError, RequestError, StorageError
from tomoseg.geometry import Box, Lattice, whole
from tomoseg.io.layout import Layout
from tomoseg.io.omezarr import ArrayStore, create, read_attributes, update_attributes
from tomoseg.io.pyramid import build_level_shard
from tomoseg.io.volume import open_volume

VERSIONS = ["0.4", "0.5"]
SHAPES = [(1, 1, 1), (5, 130, 9), (64, 64, 64), (65, 1, 40), (20, 33, 100)]


def layout_at(path: Path, **values: Any) -> Layout:
    defaults: dict[str, Any] = {
        "shape": (70, 40, 33),
        "voxel_size_angstrom": (10.0, 10.0, 10.0),
        "chunk": 16,
        "shard": 32,
    }
    return Layout(path=str(path), **{**defaults, **values})


def noise(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(1, 100, shape).astype(dtype)


def fill(layout: Layout) -> np.ndarray:
    """Create, and write every level of every kind; return the image."""
    create(layout, {"complete": False})
    image = noise(layout.shape, layout.dtype)
    for kind in layout.kinds():
        data = image if kind == "image" else (image > 50).astype("uint8")
        for box in layout.shards(0):
            ArrayStore(layout, kind, 0).write_shard(box, data[box.slices])
        for level in range(1, layout.levels):
            for box in layout.shards(level):
                build_level_shard(layout, kind, level, box)
    return image


@pytest.mark.parametrize(
    ("shape", "levels"),
    [((1, 1, 1), 1), ((64, 64, 64), 1), ((65, 1, 1), 2), ((129, 64, 64), 3), ((1000, 9, 4096), 7)],
)
def test_levels_halve_until_a_chunk_holds_an_axis(shape: tuple[int, ...], levels: int) -> None:
    layout = Layout(path="x", shape=shape, voxel_size_angstrom=None)
    assert layout.levels == levels
    assert max(layout.level_shape(levels - 1)) <= 64
    assert levels == 1 or max(layout.level_shape(levels - 2)) > 64
    for level in range(1, levels):
        halves = tuple(-(-n // 2) for n in layout.level_shape(level - 1))
        assert layout.level_shape(level) == halves


def test_scale_and_translation_keep_voxel_centres() -> None:
    layout = Layout(
        path="x", shape=(1, 3, 256), voxel_size_angstrom=(4, 5, 6), origin_angstrom=(7, 8, 9)
    )
    assert layout.level_scale(0) == (4, 5, 6)
    assert layout.level_translation(0) == (7, 8, 9)
    # A slab of one voxel stays one voxel thick, and where it was.
    assert layout.level_scale(2) == (4, 20, 24)
    # Voxel 0 of level 2 is the mean of voxels 0 to 3, whose centres are 0 to 3 voxels on.
    assert layout.level_translation(2) == (7, 8 + 1.5 * 5, 9 + 1.5 * 6)


def test_layout_refuses_what_cannot_be(tmp_path: Path) -> None:
    for values in (
        {"shape": (0, 1, 1)},
        {"shape": (4, 4)},
        {"dtype": "int64"},
        {"shard": 24},
        {"version": "0.6"},
    ):
        with pytest.raises(RequestError, match="expected"):
            layout_at(tmp_path, **values)
    layout = layout_at(tmp_path, label=False)
    assert pickle.loads(pickle.dumps(layout)) == layout
    with pytest.raises(ValueError, match="no mask"):
        layout.array_path("mask", 0)
    with pytest.raises(ValueError, match="level"):
        layout.level_shape(layout.levels)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_written_is_read_back(tmp_path: Path, version: Any, shape: tuple[int, ...]) -> None:
    layout = layout_at(tmp_path / "a.zarr", shape=shape, version=version)
    image = fill(layout)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    np.testing.assert_array_equal(group["0"][:], image)
    np.testing.assert_array_equal(group["labels/mask/0"][:], image > 50)
    store = ArrayStore(layout, "image", 0)
    for box in Lattice(shape, 23):
        np.testing.assert_array_equal(store.read(box), image[box.slices])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("voxel_size", [(10.0, 11.0, 12.0), None])
def test_metadata_are_valid_by_ome_zarr_models(
    tmp_path: Path, version: Any, voxel_size: Any
) -> None:
    layout = layout_at(
        tmp_path / "a.zarr",
        version=version,
        voxel_size_angstrom=voxel_size,
        origin_angstrom=(1.5, -2.0, 3.0),
    )
    fill(layout)
    models = ome_zarr_models.v05 if version == "0.5" else ome_zarr_models.v04
    image = models.Image.from_zarr(zarr.open_group(tmp_path / "a.zarr", mode="r"))
    attributes = image.attributes.ome if version == "0.5" else image.attributes
    multiscale = attributes.multiscales[0]
    assert [d.path for d in multiscale.datasets] == [str(n) for n in range(layout.levels)]
    assert [axis.unit for axis in multiscale.axes] == ["angstrom" if voxel_size else None] * 3
    scale, translation = multiscale.datasets[1].coordinateTransformations
    assert tuple(scale.scale) == layout.level_scale(1)
    assert tuple(translation.translation) == layout.level_translation(1)
    assert image.labels is not None
    label = models.ImageLabel.from_zarr(
        zarr.open_group(tmp_path / "a.zarr" / "labels" / "mask", mode="r")
    )
    attributes = label.attributes.ome if version == "0.5" else label.attributes
    assert attributes.image_label.source.image == "../../"
    assert len(attributes.multiscales[0].datasets) == layout.levels


@pytest.mark.parametrize("version", VERSIONS)
def test_ome_zarr_py_opens_image_and_labels(tmp_path: Path, version: Any) -> None:
    layout = layout_at(tmp_path / "a.zarr", version=version)
    image = fill(layout)
    location = parse_url(tmp_path / "a.zarr")
    assert location is not None
    nodes = {Path(str(node.zarr.subpath())).name: node for node in Reader(location)()}
    root = next(iter(nodes.values()))
    assert len(root.data) == layout.levels
    np.testing.assert_array_equal(np.asarray(root.data[0]), image)
    np.testing.assert_array_equal(np.asarray(nodes["mask"].data[0]), image > 50)


@pytest.mark.parametrize("version", VERSIONS)
def test_our_own_reader_reads_it(tmp_path: Path, version: Any) -> None:
    layout = layout_at(
        tmp_path / "a.zarr", version=version, origin_angstrom=(1.0, 2.0, 3.0), dtype="float32"
    )
    image = fill(layout)
    for array, voxel_size in ((None, 10.0), ("labels/mask", 10.0), ("1", 20.0)):
        volume = open_volume(tmp_path / "a.zarr", array=array)
        assert volume.voxel_size_angstrom == (voxel_size,) * 3
    volume = open_volume(tmp_path / "a.zarr")
    assert volume.origin_angstrom == (1.0, 2.0, 3.0)
    with volume.reader() as reader:
        np.testing.assert_array_equal(reader.read(whole(volume.shape)), image)


@pytest.mark.parametrize("version", VERSIONS)
def test_own_folder_makes_no_reader_warn(tmp_path: Path, version: Any) -> None:
    create(layout_at(tmp_path / "a.zarr", version=version), {}, folder="journal")
    (tmp_path / "a.zarr" / "journal" / "1.jsonl").write_text("{}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        members = dict(zarr.open_group(tmp_path / "a.zarr", mode="r").members())
    assert {"0", "labels"} <= set(members)


@pytest.mark.parametrize("version", VERSIONS)
def test_attributes_are_merged_and_metadata_kept(tmp_path: Path, version: Any) -> None:
    path = tmp_path / "a.zarr"
    create(layout_at(path, version=version), {"complete": False, "kept": [1, {"a": None}]})
    before = dict(zarr.open_group(path, mode="r").attrs)
    file = "zarr.json" if version == "0.5" else ".zattrs"
    (path / f"{file}.0123.partial").write_text("{")  # a process was killed before its rename
    update_attributes(path, {"complete": True, "seam": 1.01})
    assert read_attributes(path) == {"complete": True, "kept": [1, {"a": None}], "seam": 1.01}
    after = dict(zarr.open_group(path, mode="r").attrs)
    assert {**before, "tomoseg": None} == {**after, "tomoseg": None}
    assert not list(path.glob("*.partial"))
    assert read_attributes(path / "labels") is None
    assert read_attributes(tmp_path) is None
    with pytest.raises(InputError):
        update_attributes(tmp_path, {})
    with pytest.raises(ValueError, match="JSON"):
        update_attributes(path, {"seam": float("nan")})
    assert read_attributes(path) == {"complete": True, "kept": [1, {"a": None}], "seam": 1.01}


def test_create_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "a.zarr"
    layout = layout_at(path)
    with monkeypatch.context() as patch:
        patch.setattr("tomoseg.io.omezarr._label_metadata", _no_space)
        with pytest.raises(StorageError, match="No space left"):
            create(layout, {})
    assert list(path.parent.iterdir()) == []
    path.mkdir()
    create(layout, {})
    with pytest.raises(OutputExistsError):
        create(layout, {})


@pytest.mark.parametrize("version", VERSIONS)
def test_each_shard_owns_its_files(tmp_path: Path, version: Any) -> None:
    layout = layout_at(tmp_path / "a.zarr", version=version)
    fill(layout)
    for kind in layout.kinds():
        for level in range(layout.levels):
            store = ArrayStore(layout, kind, level)
            owned = [file for box in layout.shards(level) for file in store.files(box)]
            assert len(set(owned)) == len(owned)
            folder = tmp_path / "a.zarr" / layout.array_path(kind, level)
            metadata = {".zarray", ".zattrs", "zarr.json"}
            found = {
                file for file in folder.rglob("*") if file.is_file() and file.name not in metadata
            }
            assert found <= set(owned)
            if kind == "image":
                assert found == set(owned)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("keep", [0, 10, -10])
def test_torn_shard_is_named_and_then_written_over(tmp_path: Path, version: Any, keep: int) -> None:
    """Also one that is cut at the volume's faces, which zarr reads before it writes."""
    layout = layout_at(tmp_path / "a.zarr", version=version)
    image = fill(layout)
    boxes = layout.shards(0)
    store = ArrayStore(layout, "image", 0)
    for box in (boxes.cell(0), boxes.cell(len(boxes) - 1)):
        file = store.files(box)[0]
        file.write_bytes(file.read_bytes()[:keep])
        with pytest.raises(StorageError, match="damaged"):
            store.digest(box)
        file.with_name(f"{file.name}.0123abcd.partial").write_bytes(b"left by a kill")
        store.write_shard(box, image[box.slices])
        assert list(file.parent.glob("*.partial")) == []
    np.testing.assert_array_equal(store.read(whole(layout.shape)), image)


@pytest.mark.parametrize("version", VERSIONS)
def test_partials_of_other_shards_are_left_alone(tmp_path: Path, version: Any) -> None:
    layout = layout_at(tmp_path / "a.zarr", shape=(16, 16, 16 * 12), shard=16, version=version)
    create(layout, {})
    store = ArrayStore(layout, "image", 0)
    eleventh = store.files(layout.shards(0).cell(11))[0]
    eleventh.parent.mkdir(parents=True)
    other = eleventh.with_name(f"{eleventh.name}.0123abcd.partial")
    other.write_bytes(b"another worker is at it")
    store.write_shard(layout.shards(0).cell(1), noise((16, 16, 16)))
    assert other.exists()


@pytest.mark.parametrize("version", VERSIONS)
def test_zeros_replace_what_was_there_and_have_no_file(tmp_path: Path, version: Any) -> None:
    layout = layout_at(tmp_path / "a.zarr", version=version)
    fill(layout)
    store = ArrayStore(layout, "image", 0)
    box = layout.shards(0).cell(1)
    store.write_shard(box, np.zeros(box.shape, "uint8"))
    assert not any(file.exists() for file in store.files(box))
    assert not store.read(box).any()


def test_zeros_within_a_shard_are_compressed_not_looked_for(tmp_path: Path) -> None:
    layout = layout_at(tmp_path / "x.zarr", shape=(32, 32, 32))
    create(layout, {})
    store, box = ArrayStore(layout, "image", 0), whole(layout.shape)
    data = np.zeros(layout.shape, np.uint8)
    data[0, 0, 0] = 1
    store.write_shard(box, data)
    (file,) = store.files(box)
    checksum, chunks = 4, 8
    index = np.frombuffer(file.read_bytes()[:-checksum][-16 * chunks :], "<u8").reshape(chunks, 2)
    assert (index[:, 1] < file.stat().st_size).all()  # what is not there has the largest number
    np.testing.assert_array_equal(store.read(box), data)


def test_digest_is_of_the_decoded_voxels(tmp_path: Path) -> None:
    import hashlib

    digests = []
    for version in VERSIONS:
        layout = layout_at(tmp_path / version, version=version)  # type: ignore[arg-type]
        image = fill(layout)
        box = layout.shards(0).cell(2)
        digests.append(ArrayStore(layout, "image", 0).digest(box))
        assert digests[-1] == hashlib.sha256(image[box.slices].tobytes()).hexdigest()
    assert digests[0] == digests[1]


def test_a_shard_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    layout = layout_at(tmp_path / "a.zarr")
    create(layout, {})
    store = ArrayStore(layout, "image", 0)
    with pytest.raises(ValueError, match="whole shard"):
        store.write_shard(Box((0, 0, 0), (16, 32, 32)), noise((16, 32, 32)))
    with pytest.raises(ValueError, match="expected"):
        store.write_shard(layout.shards(0).cell(0), noise((32, 32, 16)))
    with pytest.raises(ValueError, match="expected"):
        store.write_shard(layout.shards(0).cell(0), noise((32, 32, 32), "float32"))


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "what is done is kept"),
        (errno.EACCES, "permissions"),
        (errno.EIO, "run the same command again"),
    ],
)
def test_refusals_of_the_file_system_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, hint: str
) -> None:
    layout = layout_at(tmp_path / "a.zarr")
    create(layout, {})
    store = ArrayStore(layout, "image", 0)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("zarr.storage._local._put", refuse)
    box = layout.shards(0).cell(0)
    with pytest.raises(StorageError, match=os.strerror(number)) as caught:
        store.write_shard(box, noise(box.shape))
    assert hint in caught.value.hint
    assert caught.value.errno == number


def test_store_refuses_another_array(tmp_path: Path) -> None:
    layout = layout_at(tmp_path / "a.zarr")
    with pytest.raises(StorageError):
        ArrayStore(layout, "image", 0)
    create(layout, {})
    with pytest.raises(StorageError, match="expected"):
        ArrayStore(layout_at(tmp_path / "a.zarr", shape=(70, 40, 34)), "image", 0)


def test_shards_and_their_names_are_as_the_format_wants(tmp_path: Path) -> None:
    create(layout_at(tmp_path / "5.zarr"), {})
    metadata = json.loads((tmp_path / "5.zarr" / "0" / "zarr.json").read_text())
    assert metadata["dimension_names"] == ["z", "y", "x"]
    assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [32] * 3
    assert metadata["codecs"][0]["name"] == "sharding_indexed"
    assert metadata["codecs"][0]["configuration"]["chunk_shape"] == [16] * 3
    create(layout_at(tmp_path / "4.zarr", version="0.4"), {})
    metadata = json.loads((tmp_path / "4.zarr" / "0" / ".zarray").read_text())
    assert metadata["dimension_separator"] == "/"
    assert metadata["chunks"] == [16] * 3
    assert metadata["compressor"]["id"] == "zstd"


def _no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
