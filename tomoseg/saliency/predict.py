"""From windows to saliency: what a model is to its callers, and the plain network as one.

Knows how windows are grouped into fixed batches; knows no tiling and no thresholds.
"""

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tomoseg.config import Looks, Precision
from tomoseg.errors import InputError, RequestError
from tomoseg.intensity import CLIP
from tomoseg.saliency.architecture import Architecture
from tomoseg.saliency.lanes import lane_setup
from tomoseg.saliency.usalnet import USalNet

Windows = NDArray[np.float32]

View = tuple[tuple[int, ...], float]
"""Axes that a window is flipped along, and a factor on its intensities."""


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

        Raises
        ------
        RequestError
            Where an edge is no multiple of 16, or a batch does not fit in memory.
        InputError
            Where a value is not finite.
        """


class Predictor:
    """The network as it was loaded (scope ``none``, the paper's P+U).

    Parameters
    ----------
    network
        In eval mode; copied where it moves to another device.
    batch
        Windows per forward pass. Always so many: the last batch is filled with zeros, so
        that bits do not depend on how windows are grouped. On a CPU, 1 is best.
    device
        ``cpu``, ``cuda`` or ``cuda:N``.
    precision
        See `tomoseg.config.SegmentConfig`.
    """

    def __init__(
        self,
        network: USalNet,
        *,
        batch: int = 1,
        device: str = "cpu",
        precision: Precision = "float32",
    ) -> None:
        self.network = to_device(network, device)
        self.batch, self.device, self.precision = batch, device, precision

    def saliency(self, windows: Windows) -> Windows:
        """Return the saliency of each voxel; see `SaliencyModel`."""
        return in_batches(
            lambda x: torch.sigmoid_(self.network.logits(x)),
            windows,
            architecture=self.network.architecture,
            batch=self.batch,
            device=self.device,
            precision=self.precision,
        )


class Views:
    """The mean of a model's saliency over views of a window.

    Parameters
    ----------
    model
        Gets every view of a window, one after the other.
    views
        See `View`.
    log_odds
        Whether the mean is that of log odds, which is no less sure than the views are; that of
        saliency is, and where one of them errs it finds faint objects.
    """

    def __init__(
        self, model: SaliencyModel, views: Sequence[View], *, log_odds: bool = False
    ) -> None:
        self._model, self._views, self._log_odds = model, views, log_odds

    def saliency(self, windows: Windows) -> Windows:
        """Return the mean saliency of each voxel; see `SaliencyModel`."""
        total = np.zeros(windows.shape, np.float32)
        for flips, amplitude in self._views:
            axes = tuple(1 + axis for axis in flips)
            turned = np.ascontiguousarray(np.flip(windows, axes))
            if amplitude != 1:
                turned = np.clip(turned * np.float32(amplitude), -CLIP, CLIP)
            seen = self._model.saliency(turned)
            total += np.flip(_log_odds(seen) if self._log_odds else seen, axes)
        mean: Windows = total / np.float32(len(self._views))
        if not self._log_odds:
            return mean
        saliency: Windows = np.reciprocal(1 + np.exp(-mean))
        return saliency


def _log_odds(saliency: Windows) -> Windows:
    """Return the logarithm of p / (1 - p), of no more than a million to one."""
    held = np.clip(saliency, np.float32(1e-6), np.float32(1 - 1e-6))
    odds: Windows = np.log(held / (1 - held))
    return odds


def looking(model: SaliencyModel, looks: Looks, dim: int) -> SaliencyModel:
    """Return a model whose log odds are the mean over looks at a window, as it is and flipped.

    Parameters
    ----------
    model
        Returned as it is for one look.
    looks
        Two are the window and its flip along all axes.
    dim
        Axes of a window.
    """
    if looks == "1":
        return model
    flips = [axes for n in range(dim + 1) for axes in itertools.combinations(range(dim), n)]
    chosen = flips if looks == "all" else [flips[0], flips[-1]]
    return Views(model, [(axes, 1.0) for axes in chosen], log_odds=True)


def to_device(network: USalNet, device: str) -> USalNet:
    """Return the network on `device`: itself where it is there, else a copy."""
    lane_setup()
    here = next(network.parameters()).device
    return network if here == torch.device(device) else copy.deepcopy(network).to(device)


@torch.no_grad()
def in_batches(
    function: Callable[[Tensor], Tensor],
    windows: Windows,
    *,
    architecture: Architecture,
    batch: int,
    device: str,
    precision: Precision = "float32",
) -> Windows:
    """Apply `function` to windows in batches of one fixed shape.

    Parameters
    ----------
    function
        Maps ``(batch, 1, *spatial)`` to the same shape, without mixing windows.
    windows
        ``(N, *spatial)`` float32.
    architecture
        Says which windows the network takes.
    batch, device, precision
        See `Predictor`; what `function` gets has the precision, what it returns is float32.

    Returns
    -------
    ndarray
        ``(N, *spatial)`` float32.
    """
    lane_setup()
    architecture.check_window(windows.shape[1:])
    require_finite(windows)
    out = np.empty(windows.shape, np.float32)
    for start in range(0, len(windows), batch):
        chunk = windows[start : start + batch]
        padded = np.zeros((batch, 1, *windows.shape[1:]), np.float32)
        padded[: len(chunk), 0] = chunk
        with refuse_when_memory_ends(padded.shape):
            result = function(torch.from_numpy(padded).to(device, getattr(torch, precision)))
        out[start : start + batch] = result[: len(chunk), 0].cpu().numpy()
    return out


def require_finite(windows: Windows) -> None:
    """Refuse NaN and infinity, which would spread to a whole window."""
    if not np.isfinite(windows).all():
        raise InputError("intensities: expected finite values, got NaN or infinity.")


@contextmanager
def refuse_when_memory_ends(shape: tuple[int, ...]) -> Iterator[None]:
    """Turn running out of memory into a request that cannot be met.

    A smaller batch would go on silently and change bits; that is the user's decision.
    """
    try:
        yield
    except (torch.cuda.OutOfMemoryError, MemoryError, RuntimeError) as error:
        cpu_ran_out = "can't allocate memory" in str(error)
        if type(error) is RuntimeError and not cpu_ran_out:
            raise
        raise RequestError(
            f"memory: expected room for a batch of shape {shape}, but the device has none left.",
            "Ask for a smaller batch, fewer lanes or a device with more memory.",
        ) from error
