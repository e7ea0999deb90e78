import mrcfile
import numpy as np
import pytest
from phantom import phantom

from tomoseg.blockwise.contrast import decide
from tomoseg.blockwise.statistics import measure, sample_bricks


def decided(values, request="auto"):
    bricks = sample_bricks(values.shape, lambda box: values[box.slices], seed=0)
    return decide(request, bricks, measure(bricks, "test"))


@pytest.mark.parametrize(
    ("name", "contrast"), [("emd_1155", "dark"), ("microtubule_13pf", "light")]
)
@pytest.mark.parametrize("inverted", [False, True])
def test_real_tomograms(shared_data, name, contrast, inverted):
    with mrcfile.open(shared_data / "real" / f"{name}.mrc") as file:
        values = file.data.astype(np.float32)
    found = decided(-values if inverted else values)
    other = {"dark": "light", "light": "dark"}[contrast]
    assert found.contrast == (other if inverted else contrast)
    assert found.automatic
    assert not found.weak
    assert abs(found.skewness) > 0.5


@pytest.mark.parametrize("snr", [1.0, 0.1, 0.03])
@pytest.mark.parametrize("sign", [1, -1])
def test_objects_in_noise_gold_and_padding(snr, sign):
    values = sign * phantom((96, 96, 96), seed=2, snr=snr).density
    spread = values.std()
    values[40:44, 50:54, 60:64] -= sign * 100 * spread  # gold is on the objects' side
    values[:, :, :40] = 9 * spread  # padding, on one side or the other
    found = decided(values)
    assert found.contrast == ("dark" if sign == 1 else "light")
    assert not found.weak


def test_noise_shows_nothing_and_is_taken_for_dark():
    for shape in ((20, 30, 40), (128, 128, 128)):
        found = decided(np.random.default_rng(0).normal(size=shape).astype(np.float32))
        assert found.contrast == "dark"
        assert found.weak
    assert decided(np.full((20, 20, 20), 3.0, np.float32)).weak


def test_what_is_asked_for_is_not_looked_at():
    found = decided(phantom((40, 40, 40), seed=0).density, "light")
    assert (found.contrast, found.automatic, found.skewness) == ("light", False, None)
