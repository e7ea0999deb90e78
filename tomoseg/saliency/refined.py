"""A refined network: applies to any window, travels to other processes, rests in a file.

Knows what refinement left behind, not how it came about.
"""

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from tomoseg.config import Precision
from tomoseg.errors import InputError, RequestError
from tomoseg.saliency.architecture import Architecture
from tomoseg.saliency.layers import pointwise
from tomoseg.saliency.predict import Windows, in_batches, to_device
from tomoseg.saliency.usalnet import USalNet
from tomoseg.saliency.weights import network_from, read_tensors, state_of, write_tensors

_KEY = "tomoseg_refined"
_WEIGHT, _BIAS = "response.weight", "response.bias"


class Refined:
    """A network refined on a sample of windows; a `SaliencyModel`, picklable.

    Its statistics are frozen: what it says of a window depends on that window alone.

    Parameters
    ----------
    network
        Refined, in eval mode.
    weight, bias
        ``(classes, base_channels)`` and ``(classes,)``: the response map's 1x1 convolution
        with its frozen normalisation folded in.
    salient
        Salient labels, ascending; with none, saliency is 0 everywhere.
    report
        What `refine` did; plain JSON values.
    batch, device, precision
        As for `tomoseg.saliency.predict.Predictor`.

    Attributes
    ----------
    report
        ``iterations`` (done), ``stop`` (``min_labels``, ``converged``, ``iterations``,
        ``collapsed`` or ``not_finite``), ``loss`` (the last; None where there is none),
        ``labels`` (left in the sample), ``salient_labels``, ``salient_fraction`` (of the
        sample's voxels).
    """

    def __init__(
        self,
        network: USalNet,
        weight: Tensor,
        bias: Tensor,
        salient: list[int],
        report: dict[str, Any],
        *,
        batch: int = 1,
        device: str = "cpu",
        precision: Precision = "float32",
    ) -> None:
        self.network = to_device(network.requires_grad_(False), device)
        self.weight, self.bias = weight.detach().to(device), bias.detach().to(device)
        self.salient, self.report = salient, report
        self.batch, self.device, self.precision = batch, device, precision

    def saliency(self, windows: Windows) -> Windows:
        """Return the saliency of each voxel; see `SaliencyModel` and `salient_mass`."""
        if not self.salient:
            self.network.architecture.check_window(windows.shape[1:])
            return torch.zeros(windows.shape).numpy()
        return in_batches(
            self._saliency,
            windows,
            architecture=self.network.architecture,
            batch=self.batch,
            device=self.device,
            precision=self.precision,
        )

    def _saliency(self, x: Tensor) -> Tensor:
        return self.network.read(
            x, lambda part: salient_mass(pointwise(part, self.weight, self.bias), self.salient)
        )

    def to_file(self, path: Path) -> None:
        """Write as safetensors, without the device and the batch."""
        tensors = state_of(self.network)
        tensors[_WEIGHT], tensors[_BIAS] = self.weight.cpu(), self.bias.cpu()
        values = {
            "architecture": self.network.architecture.to_dict(),
            "salient": self.salient,
            "report": self.report,
        }
        write_tensors(path, tensors, {_KEY: values})

    @classmethod
    def from_file(
        cls,
        path: Path,
        *,
        batch: int = 1,
        device: str = "cpu",
        precision: Precision = "float32",
    ) -> Self:
        """Read what `to_file` wrote; the bits of `saliency` stay the same.

        Raises
        ------
        InputError
            Where the file is something else or damaged.
        """
        tensors, values = read_tensors(path, _KEY)
        try:
            architecture = Architecture.from_dict(values["architecture"])
            weight, bias = tensors.pop(_WEIGHT), tensors.pop(_BIAS)
            salient, report = list(values["salient"]), dict(values["report"])
        except (KeyError, TypeError, ValueError, RequestError) as error:
            raise InputError(f"refined weights {path}: not understood ({error}).") from error
        if weight.shape != (len(bias), architecture.base_channels):
            raise InputError(f"refined weights {path}: response of shape {tuple(weight.shape)}.")
        network = network_from(architecture, tensors, path)
        return cls(
            network,
            weight,
            bias,
            salient,
            report,
            batch=batch,
            device=device,
            precision=precision,
        )


def salient_mass(response: Tensor, salient: list[int]) -> Tensor:
    """Return the softmax mass of the salient labels, as ``(N, 1, *spatial)``.

    Held to 1, which a sum of rounded parts can exceed by a step.
    """
    return torch.softmax(response, dim=1)[:, salient].sum(dim=1, keepdim=True).clamp_(max=1)
