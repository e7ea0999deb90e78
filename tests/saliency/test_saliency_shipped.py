"""The weights that come with tomoseg: what they are, and that they find things."""

from importlib import resources

import numpy as np
import pytest
from scipy import ndimage

from tomoseg.config import SegmentConfig
from tomoseg.errors import RequestError
from tomoseg.evaluation.cases import normalised
from tomoseg.metrics import score
from tomoseg.saliency.lanes import require_precision
from tomoseg.saliency.predict import Predictor
from tomoseg.saliency.weights import load, shipped
from tomoseg.simulate.sample import DatasetConfig, simulate

MOST_BYTES = 16 * 2**20


def tomogram(card, **settings):
    """Return intensities as the network sees them, and the truth."""
    config = DatasetConfig(
        **{"shape": (64, 96, 96), "look": "standard", "split": "test", "seed": 8, **settings}
    )
    sample = simulate(config, 0)
    return normalised(
        sample.tomogram, smoothed=card.smoothed, amplitude=card.amplitude
    ), sample.salient


def difference_of_gaussians(image):
    difference = ndimage.gaussian_filter(image, 1.5) - ndimage.gaussian_filter(image, 8.0)
    return np.clip(difference / np.percentile(difference, 99.9), 0, 1)


def test_two_networks_ship_and_the_default_is_one_of_them():
    assert shipped() == ["unet2d", "vnet3d"]
    assert SegmentConfig().weights == "vnet3d"


@pytest.mark.parametrize(("name", "dim"), [("vnet3d", 3), ("unet2d", 2)])
def test_their_cards_say_where_they_come_from(name, dim):
    _, card = load(name)
    assert (card.name, card.architecture.dim, card.trained) == (name, dim, True)
    assert card.voxel_size_angstrom == 10.0
    assert card.training["data"]["tomograms"] > 1
    assert card.training["recipe"]["steps"] > 0
    assert card.training["validation"]["maximum_f"] > 0
    assert "Licence" in card.notes
    size = (resources.files("tomoseg") / "weights" / f"{name}.safetensors").stat().st_size
    assert size <= MOST_BYTES


def test_volumes_are_found_better_than_by_their_size_alone():
    network, card = load("vnet3d")
    image, truth = tomogram(card, snr=(1.5,))
    found = Predictor(network).saliency(image[None])[0]
    ours, plain = score(found, truth), score(difference_of_gaussians(image), truth)
    assert ours.maximum_f > plain.maximum_f + 0.02
    assert ours.mean_absolute_error < plain.mean_absolute_error


def test_bfloat16_finds_the_same():
    try:
        require_precision("bfloat16", "cpu")
    except RequestError as error:
        pytest.skip(str(error))
    network, card = load("vnet3d")
    image, truth = tomogram(card, snr=(1.0,))
    exact, coarse = (
        Predictor(network, precision=precision).saliency(image[None])[0]
        for precision in ("float32", "bfloat16")
    )
    assert not np.array_equal(exact, coarse)
    assert np.abs(exact - coarse).mean() < 1 / 255
    fine, rough = score(exact, truth), score(coarse, truth)
    for name in ("maximum_f", "structure", "mean_absolute_error", "adaptive_e"):
        assert getattr(rough, name) == pytest.approx(getattr(fine, name), abs=0.002)


def test_slices_are_found_better_than_by_their_size_alone():
    network, card = load("unet2d")
    image, truth = tomogram(card, snr=(1.5,), shape=(96, 96, 96))
    found = Predictor(network).saliency(image[:, :, :])
    plain = np.stack([difference_of_gaussians(plane) for plane in image])
    assert score(found, truth).maximum_f > score(plain, truth).maximum_f


def test_ice_alone_holds_nothing():
    network, card = load("vnet3d")
    image, truth = tomogram(card, snr=(0.5,), empty=True)
    assert not truth.any()
    found = Predictor(network).saliency(image[None])[0]
    assert (found >= 128).mean() < 0.001
