"""Files against a truth: what blocks give is what arrays in memory give."""

import json

import mrcfile
import numpy as np
import pytest
import zarr
from skimage.io import imsave

from tomoseg.errors import InputError
from tomoseg.evaluation import evaluate as module
from tomoseg.evaluation.evaluate import evaluate
from tomoseg.metrics import score


def pair(shape, seed=0):
    """Return a saliency 0-255 and a truth that agree somewhat."""
    random = np.random.default_rng(seed)
    truth = np.zeros(shape, np.uint8)
    truth[tuple(slice(n // 3, 1 + 2 * n // 3) for n in shape)] = 1
    noise = random.integers(0, 160, shape)
    return (noise + 95 * truth).astype(np.uint8), truth


def write_mrc(path, values, voxel_size=10.0):
    with mrcfile.new(path) as file:
        file.set_data(values)
        file.set_volume()
        file.voxel_size = voxel_size
    return str(path)


def write_zarr(path, values):
    zarr.create_array(path, data=values, chunks=(16,) * values.ndim)
    return str(path)


@pytest.mark.parametrize("edge", [256, 7])
@pytest.mark.parametrize("shape", [(20, 31, 18), (1, 9, 40)])
def test_blocks_give_what_memory_gives(tmp_path, monkeypatch, edge, shape):
    monkeypatch.setattr(module, "EDGE", edge)
    saliency, truth = pair(shape)
    found = write_zarr(tmp_path / "found.zarr", saliency)
    expected = score(saliency, truth).to_dict()
    for path in (
        write_zarr(tmp_path / "truth.zarr", truth),
        write_mrc(tmp_path / "truth.mrc", truth.astype(np.int8)),
    ):
        assert evaluate(found, path).to_dict() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("value", [0, 1])
def test_truths_that_are_empty_or_full(tmp_path, monkeypatch, value):
    monkeypatch.setattr(module, "EDGE", 8)
    saliency, _ = pair((10, 12, 14))
    truth = np.full(saliency.shape, value, np.uint8)
    scores = evaluate(write_zarr(tmp_path / "a", saliency), write_zarr(tmp_path / "b", truth))
    assert scores == score(saliency, truth)


def test_masks_and_shares_are_told_from_levels(tmp_path):
    saliency, truth = pair((12, 14, 16))
    mask = (saliency >= 128).astype(np.uint8)
    paths = [
        write_zarr(tmp_path / "truth.zarr", truth),
        write_zarr(tmp_path / "mask.zarr", mask),
        write_mrc(tmp_path / "mask.mrc", mask.astype(np.int8)),
        write_zarr(tmp_path / "share.zarr", saliency / np.float32(255)),
    ]
    as_mask = score(mask * np.uint8(255), truth)
    assert evaluate(paths[1], paths[0]) == as_mask
    assert evaluate(paths[2], paths[0]) == as_mask
    assert evaluate(paths[3], paths[0]) == score(saliency, truth)


def test_images(tmp_path):
    saliency, truth = pair((30, 40))
    for name in ("found.png", "found.tif"):
        imsave(tmp_path / name, saliency, check_contrast=False)
        imsave(tmp_path / "truth.png", truth * 255, check_contrast=False)
        scores = evaluate(str(tmp_path / name), str(tmp_path / "truth.png"))
        assert scores.to_dict() == pytest.approx(score(saliency, truth).to_dict(), abs=1e-12)


def test_what_does_not_fit_is_refused(tmp_path, tomoseg):
    saliency, truth = pair((12, 14, 16))
    found, right = write_mrc(tmp_path / "a.mrc", saliency.astype(np.int16)), tmp_path / "truth.mrc"
    write_mrc(right, truth.astype(np.int8))
    cases = {
        "one shape": write_mrc(tmp_path / "cut.mrc", truth[1:].astype(np.int8)),
        "one voxel size": write_mrc(tmp_path / "finer.mrc", truth.astype(np.int8), 5.0),
    }
    for message, path in cases.items():
        with pytest.raises(InputError, match=message):
            evaluate(found, path)
    for values, message in (
        (-saliency.astype(np.int16), "negative"),
        (saliency * np.float32(2), "0, 1"),
    ):
        wrong = write_mrc(tmp_path / f"{message[0]}.mrc", values)
        with pytest.raises(InputError, match=message):
            evaluate(wrong, str(right))
    code, _, err = tomoseg("evaluate", found, tmp_path / "nothing.mrc")
    assert code == 1
    assert "does not exist" in err


def test_the_command_prints_scores(tmp_path, tomoseg):
    saliency, truth = pair((12, 14, 16))
    paths = write_zarr(tmp_path / "a.zarr", saliency), write_zarr(tmp_path / "b.zarr", truth)
    code, out, _ = tomoseg("evaluate", *paths, "--json")
    assert code == 0
    assert json.loads(out) == pytest.approx(score(saliency, truth).to_dict())
    code, out, _ = tomoseg("evaluate", *paths)
    assert "maximum f" in out
