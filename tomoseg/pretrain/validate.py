"""How good weights are on a fixed set of validation windows."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from tomoseg.metrics import Agreement
from tomoseg.pretrain.samples import Batch
from tomoseg.saliency.lanes import map_lanes
from tomoseg.saliency.usalnet import USalNet, deep_supervision_loss

HALF = 128
"""The lowest of the 256 levels that is at least 0.5."""


@dataclass(frozen=True)
class Scores:
    """Agreement of the saliency with the truth, over all windows at once.

    Parameters
    ----------
    maximum_f
        F-measure (beta squared 0.3) at its best threshold.
    half_f
        F-measure at threshold 0.5.
    mean_absolute_error
        Of the saliency in [0, 1].
    loss
        Mean over windows of the loss that is trained with.
    """

    maximum_f: float
    half_f: float
    mean_absolute_error: float
    loss: float


@torch.no_grad()
def validate(network: USalNet, windows: list[Batch], *, dice: float, lanes: int) -> Scores:
    """Score a network in eval mode.

    Parameters
    ----------
    network
        On any device.
    windows
        Batches of one window each.
    dice
        See `tomoseg.saliency.usalnet.deep_supervision_loss`.
    lanes
        Windows that are computed at once on a CPU.
    """
    results = map_lanes(lambda window: _score(network, window, dice), windows, lanes)
    agreement = results[0][0]
    for other, _ in results[1:]:
        agreement = agreement + other
    return Scores(
        maximum_f=agreement.maximum_f,
        half_f=float(agreement.f_curve()[HALF]),
        mean_absolute_error=agreement.mean_absolute_error,
        loss=math.fsum(loss for _, loss in results) / len(results),
    )


@torch.no_grad()
def _score(network: USalNet, window: Batch, dice: float) -> tuple[Agreement, float]:
    device = next(network.parameters()).device
    images, truths = (torch.from_numpy(array).to(device) for array in window)
    outputs = network(images)
    loss = deep_supervision_loss(outputs, truths, dice=dice)
    saliency = torch.sigmoid(outputs[-1]).cpu().numpy()
    return Agreement.of(np.rint(saliency * 255).astype(np.uint8), window.truths), float(loss)
