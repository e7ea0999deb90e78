"""Rivals: published methods that find salient objects, behind one interface.

Each is a function of intensities alone (`Baseline`), of images and volumes by the same code;
tables take them by the names under which they are registered here.
"""

from tomoseg.evaluation.baselines.centre_surround import itti
from tomoseg.evaluation.baselines.clusters import picket
from tomoseg.evaluation.baselines.contrast import (
    all_ones,
    all_zeros,
    blur_and_otsu,
    difference_of_gaussians,
    luminance_contrast,
)
from tomoseg.evaluation.baselines.robust_pca import zhou
from tomoseg.evaluation.baselines.scale import Baseline
from tomoseg.evaluation.baselines.spectral import spectral_residual

__all__ = ["TRIVIAL", "UNSUPERVISED", "Baseline"]

UNSUPERVISED: dict[str, Baseline] = {
    "Itti": itti,
    "LC": luminance_contrast,
    "SR": spectral_residual,
    "Zhou 2018": zhou,
    "PickET 2025": picket,
    "difference of Gaussians": difference_of_gaussians,
    "blur + Otsu": blur_and_otsu,
}
"""Methods without training, in the order of tables."""

TRIVIAL: dict[str, Baseline] = {"all zeros": all_zeros, "all ones": all_ones}
"""Maps that look at nothing: a score that does not beat them says nothing."""
