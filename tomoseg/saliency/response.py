"""The response map of Algorithm 1: the classes of each voxel, made part by part.

Features in; labels, losses and gradients out. Knows neither the network that made the
features nor how labels become targets.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tomoseg.saliency.supervoxels import Labels

EPSILON = 1e-5
"""Added to the variance of a class, as batch normalisation does."""

PART = 2**19
"""Values of the map that are there at once on a CPU: they stay in its caches."""

PART_ON_GPU = 2**26


class Moments(NamedTuple):
    """Mean ``(channels,)`` and covariance ``(channels, channels)`` of features, float64."""

    mean: Tensor
    covariance: Tensor


def moments(maps: Iterable[Tensor]) -> Moments:
    """Return the moments of features over all voxels of some windows, summed in their order.

    Parameters
    ----------
    maps
        ``(1, channels, *spatial)`` each.
    """
    count, first, second = 0, torch.zeros(()), torch.zeros(())
    for features in maps:
        rows = _rows(features)
        for part in _slices(rows, rows.shape[1]):
            exact = rows[part].double()
            first, second = first + exact.sum(dim=0), second + exact.T @ exact
        count += len(rows)
    mean = first / count
    return Moments(mean, second / count - torch.outer(mean, mean))


class Response(nn.Module):
    """A 1x1 convolution of features to classes, and their normalisation.

    That normalisation is mandatory (Kanezaki 2018): it keeps every class alive. The map is
    linear in the features, so its statistics follow from their moments, and its gradients
    from sums over parts of it: it need not be there as a whole.

    Parameters
    ----------
    channels, classes
        Of the features, and of the map.
    seed
        Of the weights.
    """

    def __init__(self, channels: int, classes: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        weight = torch.empty(classes, channels)
        self.weight = nn.Parameter(weight.normal_(0, (1 / channels) ** 0.5, generator=generator))
        self.scale = nn.Parameter(torch.ones(classes))
        self.shift = nn.Parameter(torch.zeros(classes))

    @torch.no_grad()
    def folded(self, seen: Moments) -> tuple[Tensor, Tensor]:
        """Return weight and bias, float32, with the statistics of what is `seen` folded in."""
        gain = self.scale / self._deviation(seen)
        weight = gain[:, None] * self.weight.double()
        return weight.float(), (self.shift - weight @ seen.mean).float()

    @torch.no_grad()
    def labels(self, features: Tensor, seen: Moments) -> NDArray[np.uint16]:
        """Return the strongest class of each voxel.

        Parameters
        ----------
        features
            ``(1, channels, *spatial)``.
        seen
            Whose statistics normalise the map.

        Returns
        -------
        ndarray
            ``(*spatial)``; of equal ones the first.
        """
        parts = [response.argmax(dim=1) for *_, response in self._parts(_rows(features), seen)]
        found = torch.cat(parts).view(features.shape[2:])
        return found.cpu().numpy().astype(np.uint16)

    @torch.no_grad()
    def descend(
        self, features: Tensor, seen: Moments, target: Labels, *, smooth: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Set the gradients of the parameters, and return the loss and that of the features.

        The loss is the mean cross-entropy against the target. The gradients are written out:
        torch's own have no deterministic form for volumes on a GPU, and would hold the map
        several times over.

        Parameters
        ----------
        features
            ``(1, channels, *spatial)``.
        seen
            Their moments.
        target
            ``(*spatial)``, a class for each voxel.
        smooth
            Weight of `continuity`, which joins the loss; with it the map is there as a whole.

        Returns
        -------
        loss, gradient
            A scalar, and a tensor of the features' shape.
        """
        rows = _rows(features)
        chosen = torch.from_numpy(target).to(rows.device, torch.int64).view(-1, 1)
        gradient = torch.empty_like(rows)
        deviation = self._deviation(seen)
        gain = (self.scale / deviation).float()
        loss = rows.new_zeros((), dtype=torch.float64)
        summed = loss.new_zeros(len(gain))  # sums of the map's gradient, and of it times features
        products = loss.new_zeros(self.weight.shape)
        for part, centred, response in self._parts(rows, seen, whole=bool(smooth)):
            slope = torch.log_softmax(response, dim=1)
            loss -= slope.gather(1, chosen[part]).sum() / len(rows)
            slope.exp_()
            slope.scatter_(1, chosen[part], slope.gather(1, chosen[part]) - 1).div_(len(rows))
            if smooth:
                rough, more = continuity(response.T.reshape(1, -1, *features.shape[2:]))
                loss += smooth * rough
                slope += smooth * more.flatten(2)[0].T
            summed += slope.sum(dim=0)
            products += slope.T @ centred
            torch.mm(slope * gain, self.weight, out=gradient[part])
        # the normalisation's own share: its mean and variance move with the features
        weight = self.weight.double()
        along = (products * weight).sum(dim=1) / deviation
        self.shift.grad, self.scale.grad = summed.float(), along.float()
        spread = weight @ seen.covariance
        moved = products - (along / deviation)[:, None] * spread
        self.weight.grad = (gain[:, None] * moved).float()
        common = (gain * summed / len(rows)) @ weight
        turned = weight.T @ ((gain * along / deviation / len(rows))[:, None] * weight)
        gradient -= (rows - seen.mean.float()) @ turned.float() + common.float()
        shape = (1, *features.shape[2:], features.shape[1])
        return loss, gradient.view(shape).movedim(-1, 1)

    def _deviation(self, seen: Moments) -> Tensor:
        """Return the standard deviation of each class, float64."""
        weight = self.weight.double()
        variance = ((weight @ seen.covariance) * weight).sum(dim=1).clamp(min=0)
        return torch.sqrt(variance + EPSILON)

    def _parts(
        self, rows: Tensor, seen: Moments, *, whole: bool = False
    ) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield the map's parts in order: which voxels, their features less the mean, their map.

        The latter two are ``(voxels, channels)`` and ``(voxels, classes)``.
        """
        gain = (self.scale / self._deviation(seen)).float()
        weight, mean = gain[:, None] * self.weight, seen.mean.float()
        parts = [slice(len(rows))] if whole else _slices(rows, len(gain))
        for part in parts:
            centred = rows[part] - mean
            yield part, centred, torch.addmm(self.shift, centred, weight.T)


def continuity(response: Tensor) -> tuple[Tensor, Tensor]:
    """Return the continuity loss of a response map and its gradient.

    The loss is the sum over axes of the mean \\|difference\\| between neighbours along the
    axis, of all classes (Kim, Kanezaki and Tanaka, TIP 2020).

    Parameters
    ----------
    response
        ``(1, classes, *spatial)``, no edge below 2.

    Returns
    -------
    loss, gradient
        A scalar, and a tensor of the response's shape.
    """
    loss, gradient = response.new_zeros(()), torch.zeros_like(response)
    for axis in range(2, response.dim()):
        difference = response.diff(dim=axis)
        loss += difference.abs().mean()
        slope = difference.sign() / difference.numel()
        edge = response.shape[axis]
        gradient.narrow(axis, 1, edge - 1).add_(slope)
        gradient.narrow(axis, 0, edge - 1).sub_(slope)
    return loss, gradient


def _rows(features: Tensor) -> Tensor:
    """Return ``(1, channels, *spatial)`` features as ``(voxels, channels)``."""
    return features.detach().movedim(1, -1).reshape(-1, features.shape[1])


def _slices(rows: Tensor, values: int) -> list[slice]:
    """Return the parts of voxels that are made at once, of so many values each."""
    step = max(1, (PART if rows.device.type == "cpu" else PART_ON_GPU) // values)
    return [slice(start, start + step) for start in range(0, len(rows), step)]
