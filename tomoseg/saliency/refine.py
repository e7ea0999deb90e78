"""Refinement by backpropagation on the tomogram itself (PUB-SalNet, Algorithm 1)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tomoseg.config import RefineConfig
from tomoseg.saliency.predict import Windows
from tomoseg.saliency.usalnet import USalNet


class Refined:
    """A network refined on a sample of windows; a `SaliencyModel`, picklable.

    Attributes
    ----------
    report
        ``iterations`` (done), ``labels`` (left), ``stop`` (``min_labels``, ``converged``,
        ``iterations``, ``collapsed`` or ``not_finite``), ``salient_labels``,
        ``salient_fraction`` (of the sample's voxels); plain JSON values.
    """

    report: dict[str, Any]

    def saliency(self, windows: Windows) -> Windows:
        """Return the saliency of each voxel; see `SaliencyModel`."""
        raise NotImplementedError

    def to_file(self, path: Path) -> None:
        """Write as safetensors."""
        raise NotImplementedError

    @classmethod
    def from_file(cls, path: Path, *, batch: int = 1, device: str = "cpu") -> Self:
        """Read what `to_file` wrote."""
        raise NotImplementedError


def refine(
    network: USalNet,
    windows: Sequence[NDArray[np.float32]],
    config: RefineConfig,
    *,
    seed: int,
    lanes: int = 1,
    batch: int = 1,
    device: str = "cpu",
) -> Refined:
    """Refine a copy of `network` on unlabelled windows; both scopes are this function.

    Parameters
    ----------
    network
        Starting weights; left as it is.
    windows
        One window (scope ``block``) or a sample of the volume (scope ``volume``), each
        ``(z, y, x)`` float32 of one shape, normalised as `SaliencyModel.saliency` says.
    config
        See `RefineConfig`; its `scope` and `sample_blocks` are the caller's business.
    seed
        Of the head's initial weights, from (run seed, block index).
    lanes
        Threads for what can be done window by window; the bits do not depend on it.
    batch, device
        As for `tomoseg.saliency.predict.Predictor`.
    """
    raise NotImplementedError
