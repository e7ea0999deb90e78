"""From windows to saliency: what a model is to its callers, and the plain network as one.

Knows how windows are grouped into fixed batches; knows no tiling and no thresholds.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tomoseg.saliency.usalnet import USalNet

Windows = NDArray[np.float32]


class SaliencyModel(Protocol):
    """Anything that turns windows into saliency; safe to call from several lanes at once."""

    def saliency(self, windows: Windows) -> Windows:
        """Return the saliency of each voxel.

        Parameters
        ----------
        windows
            ``(N, z, y, x)`` float32 array (``(N, y, x)`` for a 2-D network), intensities
            in robust standard deviations of the whole volume, salient objects bright.

        Returns
        -------
        ndarray
            Of the shape of `windows`, float32, in [0, 1]. A window's values do not depend
            on the other windows, nor on how many there are.
        """


class Predictor:
    """The network as it was loaded (scope ``none``, the paper's P+U).

    Parameters
    ----------
    network
        In eval mode; not copied unless it moves to another device.
    batch
        Windows per forward pass. Always so many: the last batch is filled with zeros, so
        that bits do not depend on how windows are grouped. On a CPU, 1 is best.
    device
        ``cpu``, ``cuda`` or ``cuda:N``.
    """

    def __init__(self, network: USalNet, *, batch: int = 1, device: str = "cpu") -> None:
        raise NotImplementedError

    def saliency(self, windows: Windows) -> Windows:
        """Return the saliency of each voxel; see `SaliencyModel`."""
        raise NotImplementedError
