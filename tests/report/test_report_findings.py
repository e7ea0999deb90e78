"""Warnings: each from the number that it is about, none where all is well."""

import dataclasses

import numpy as np
import pytest

from tomoseg.blockwise.contrast import Decision
from tomoseg.report.findings import Facts, Sampled, find_warnings, sample_quality

GOOD = Sampled(1000, 0.0, 0.0, 0.001, 0.001, Decision("dark", True, -0.5))
FINE = Facts((10.0,) * 3, None, 1.0, 0.05, True, "dark", GOOD, 3, 100)


def sampled(**changes) -> dict[str, Sampled]:
    return {"sampled": dataclasses.replace(GOOD, **changes)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trained": False}, "random"),
        ({"salient_fraction": 0.0001}, "Nearly nothing"),
        ({"salient_fraction": 0.7}, "Nearly everything"),
        ({"contrast": "light"}, "wrong way round"),
        ({"seam": 1.06}, "seam measure is 1.060"),
        ({"voxel_size": (0.9, 0.9, 0.9)}, "unusual: 0.9 x 0.9 x 0.9"),
        ({"voxel_size": (10.0, 10.0, 12.0)}, "not cubes"),
        ({"voxel_size": (4.0,) * 3, "model_voxel_size": (10.0,) * 3}, "2.5 times off"),
        ({"cut": 30}, "30 of 100 objects touch the border"),
        (sampled(not_finite=0.02), "2 % of the tomogram's voxels are not finite"),
        (sampled(empty=0.4), "40 % of the tomogram are empty"),
        (sampled(darkest=0.05), "5 % of its voxels have the smallest value"),
        (sampled(lightest=0.05), "the largest value"),
    ],
)
def test_each_number_has_its_warning(changes, said):
    (text,) = find_warnings(dataclasses.replace(FINE, **changes))
    assert said in text


def test_no_warning_where_all_is_well_or_nothing_is_known():
    assert find_warnings(FINE) == []
    unknown = dataclasses.replace(FINE, sampled=None, cut=None, seam=None)
    assert find_warnings(unknown) == []
    doubtful = sampled(contrast=Decision("light", True, 0.05, weak=True))
    assert find_warnings(dataclasses.replace(FINE, **doubtful)) == []


def test_the_quality_of_a_sample():
    values = np.array([np.nan] * 10 + [7.0] * 45 + [0.0] * 9 + [1.0, 2.0] * 14 + [3.0] * 8)
    found = sample_quality([values[:50], values[50:]], padding=7.0)
    assert found.voxels == 100
    assert found.not_finite == pytest.approx(0.1)
    assert found.empty == pytest.approx(0.5)
    assert (found.darkest, found.lightest) == (pytest.approx(0.2), pytest.approx(8 / 45))
    assert sample_quality([np.ones(4)], None).darkest == 0  # constant: empty, not saturated
