"""The command line on tomograms and headers as they are found in the wild."""

import json

import mrcfile
import numpy as np
import pytest
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models.v05 import Image
from ome_zarr_models.v05.image_label import ImageLabel

from tomoseg.saliency.architecture import Architecture
from tomoseg.saliency.initialise import random_network
from tomoseg.saliency.weights import Card, save

NOT_ACCEPTED = {
    "EMD-3197.map.bz2": "bunzip2",
    "emd_3197.map.gz": "gunzip",
    "emd_3197.png.gz": "gunzip",
    "header_only.mrc": "only a header",
    "swapped_byte_order.mrc": "--voxel-size",
    "test_data_corrupt_header.map": "truncated",
    "tiny3.map": "--voxel-size",
    "voxelsize_zero.mrc": "--voxel-size",
    "zero_bytes.mrc": "empty",
}


def test_a_real_tomogram_end_to_end(tomoseg, shared_data, tmp_path):
    architecture = Architecture(base_channels=2, generator_channels=2)
    weights = tmp_path / "tiny.safetensors"
    save(weights, random_network(architecture, seed=0), Card("tiny", architecture))
    tomogram, output = shared_data / "real" / "emd_1155.mrc", tmp_path / "hiv.zarr"
    code, out, err = tomoseg(
        "segment", tomogram, "--out", output, "--scope", "none", "--weights", weights, "--json"
    )
    assert code == 0, err
    assert json.loads(out)["seam"] <= 1.05

    code, _, err = tomoseg("convert", output, tmp_path / "mask.mrc")
    assert code == 0, err
    with mrcfile.open(tomogram) as before, mrcfile.open(tmp_path / "mask.mrc") as after:
        assert after.data.shape == before.data.shape
        assert after.voxel_size == before.voxel_size
        assert after.header.origin == before.header.origin
        assert after.nstart == before.nstart
        assert set(np.unique(after.data)) <= {0, 1}

    import zarr

    assert Image.from_zarr(zarr.open_group(output, mode="r")).ome_attributes.version == "0.5"
    ImageLabel.from_zarr(zarr.open_group(output / "labels" / "mask", mode="r"))
    nodes = list(Reader(parse_url(output))())
    assert nodes[0].data[0].shape == (91, 281, 141)
    assert any(node.zarr.basename() == "mask" for node in nodes)


def test_every_odd_header_opens_or_is_one_clear_line(tomoseg, shared_data, tmp_path):
    for path in sorted((shared_data / "mrc_headers").iterdir()):
        output = tmp_path / "out.zarr"
        plan = ("--dry-run", "--resample", "never", "--json")  # some are maps of crystals
        code, out, err = tomoseg("segment", path, "--out", output, *plan)
        said = NOT_ACCEPTED.get(path.name)
        if said is None:
            assert code == 0, (path, err)
            assert json.loads(out)["voxel_size_angstrom_zyx"]
        else:
            assert code == 1, path
            assert len(err.splitlines()) == 1, err
            assert said in err, err
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["emd_1155.mrc", "microtubule_13pf.mrc"])
@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_there_and_back_again(tomoseg, shared_data, tmp_path, name, version):
    tomogram = shared_data / "real" / name
    for arguments in (
        (tomogram, tmp_path / "t.zarr", "--ome-version", version),
        (tmp_path / "t.zarr", tmp_path / "t.mrc"),
    ):
        code, _, err = tomoseg("convert", *arguments)
        assert code == 0, err
    with mrcfile.open(tomogram) as before, mrcfile.open(tmp_path / "t.mrc") as after:
        np.testing.assert_array_equal(after.data, before.data)
        assert after.header.mode == before.header.mode
        assert after.voxel_size == before.voxel_size
        assert after.nstart == before.nstart
