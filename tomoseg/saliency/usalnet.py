"""U-SalNet: an encoder that halves the window four times, a decoder that attends.

One implementation for images and volumes. Knows how the paper's decoder is wired
("GGLLL+C"); how its parts compute is in `layers`, `attention` and `backbone`.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from tomoseg.saliency.architecture import LEVELS, Architecture
from tomoseg.saliency.attention import GlobalAttention, LocalAttention
from tomoseg.saliency.backbone import Encoder
from tomoseg.saliency.layers import (
    ConvNorm,
    Join,
    Pointwise,
    Rolling,
    Up,
    gathered,
    in_slabs,
    single,
    slabs,
)

SIDE_LOSS_WEIGHTS = (0.5, 0.5, 0.5, 0.8, 0.8, 1.0)
"""Weights of the six outputs in the loss, coarse to fine (the released code's)."""

DICE_SMOOTHING = 1e-3
"""Added to both sides of the soft Dice fraction, as a share of the voxels."""


class Cell(nn.Module):
    """One level of the decoder: join, attend, join again, and convolve where asked.

    The skip (normalised and rectified by the encoder) joins the upsampled decoder in a
    1x1 convolution with ReLU; the result and what it attends to join in another. Residual
    convolutions may follow.
    """

    def __init__(self, architecture: Architecture, level: int) -> None:
        super().__init__()
        dim, channels = architecture.dim, architecture.channels(level)
        if level == LEVELS - 1:
            self.enter: nn.Module = nn.Sequential(Pointwise(channels, channels), nn.ReLU())
        else:
            self.up = Up(dim, 2 * channels, channels)
            self.enter = Join(dim, channels, channels, channels, norm=False)
        self.attention = _attention(architecture, level)
        self.leave = Join(dim, channels, channels, channels, norm=True)
        self.convolutions = nn.ModuleList(
            ConvNorm(dim, channels, channels)
            for _ in range(architecture.decoder_convolutions[level])
        )

    def forward(self, skips: list[Tensor], below: Tensor | None) -> Tensor:
        """Map the last skip and, but at the deepest level, the decoder below.

        The skip is taken out of the list, so that its memory is free once it is used.
        """
        left = self.joined(skips, below)
        for convolution in self.convolutions:
            left = convolution(left, left)
        return left

    def joined(self, skips: list[Tensor], below: Tensor | None) -> Tensor:
        """Map as `forward` does, but for the convolutions."""
        more = () if below is None else (self.up(below),)
        entered: Tensor = self.enter(skips.pop(), *more)
        del more
        left: Tensor = self.leave(entered, self.attention(entered))
        return left


def _attention(architecture: Architecture, level: int) -> nn.Module:
    if not architecture.attends(level):
        return nn.Identity()
    dim, channels = architecture.dim, architecture.channels(level)
    from_below = LEVELS - 1 - level
    if from_below < len(architecture.global_grids):
        return GlobalAttention(dim, channels, architecture.global_grids[from_below])
    return LocalAttention(
        dim,
        channels,
        kernel=architecture.local_kernel,
        dilation=architecture.local_dilation,
        generator=architecture.generator_channels,
    )


class USalNet(nn.Module):
    """Encoder and attentive decoder (PUB-SalNet, section on U-SalNet).

    Build with `tomoseg.saliency.initialise.random_network` or
    `tomoseg.saliency.weights.load`; the constructor alone leaves some weights unset. In
    eval mode, forward passes change nothing in the network and may run in several threads
    at once.

    Parameters
    ----------
    architecture
        See `Architecture`.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.encoder = Encoder(architecture)
        coarse_to_fine = range(LEVELS - 1, -1, -1)
        self.cells = nn.ModuleList(Cell(architecture, n) for n in coarse_to_fine)
        self.sides = nn.ModuleList(Pointwise(architecture.channels(n), 1) for n in coarse_to_fine)
        self.decode = ConvNorm(
            architecture.dim, architecture.base_channels, architecture.base_channels
        )
        self.head = Pointwise(architecture.base_channels, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the logits of all six outputs, for deep supervision.

        Parameters
        ----------
        x
            ``(N, 1, *spatial)``, edges multiples of 16.

        Returns
        -------
        list of Tensor
            ``(N, 1, *spatial_l)`` at strides 16, 8, 4, 2, 1 (the cells' side outputs),
            then the final output at stride 1.

        Raises
        ------
        RequestError
            Where an edge of the window is no multiple of 16.
        """
        levels = list(self._decoder(x))
        sides = [side(level) for side, level in zip(self.sides, levels, strict=True)]
        return [*sides, self.head(self.decode(levels[-1]))]

    def features(self, x: Tensor) -> Tensor:
        """Return the ``(N, base_channels, *spatial)`` features that the final head reads."""
        level = None
        for level in self._decoder(x):  # noqa: B007 - the last one
            pass
        features: Tensor = self.decode(level)
        return features

    def logits(self, x: Tensor) -> Tensor:
        """Return the ``(N, 1, *spatial)`` logits of the final output alone, float32.

        An `x` in bfloat16 has features, but for attention's sums, computed in bfloat16.
        """
        return self.read(x, self.head)

    def read(self, x: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what a head makes of the features of each voxel, float32.

        Parameters
        ----------
        x
            As for `forward`.
        head
            Maps `features`, in float32, voxel by voxel. It may get them slab by slab: on a CPU
            they are never whole where the finest level does not attend.
        """
        if in_slabs(x) and not (self.training or self.architecture.attends(0)):
            return gathered((head(single(part)) for part in self._rolled(x)), x.shape[2])
        return head(single(self.features(x)))

    def _rolled(self, x: Tensor) -> Iterator[Tensor]:
        *cells, finest = self.cells
        assert isinstance(finest, Cell)
        skips, below = self._encoded(x), None
        for cell in cells:
            below = cell(skips, below)
        assert below is not None
        (skip,) = skips
        chain = Rolling([*((c, True) for c in finest.convolutions), (self.decode, False)])
        for planes, last in slabs(x.shape[2]):
            half = slice(planes.start // 2, planes.stop // 2)
            joined = finest.joined([skip[:, :, planes]], below[:, :, half])
            yield chain(joined, last=last)

    def _decoder(self, x: Tensor) -> Iterator[Tensor]:
        """Yield each decoder level's features, coarse to fine, dropping skips once used."""
        skips, below = self._encoded(x), None
        for cell in self.cells:
            below = cell(skips, below)
            yield below

    def _encoded(self, x: Tensor) -> list[Tensor]:
        self.architecture.check_window(tuple(x.shape[2:]))
        skips: list[Tensor] = self.encoder(x)
        return skips


def deep_supervision_loss(outputs: list[Tensor], target: Tensor, *, dice: float = 0.0) -> Tensor:
    """Return the weighted sum over outputs of the mean binary cross-entropy.

    Parameters
    ----------
    outputs
        What `USalNet.forward` returned.
    target
        ``(N, 1, *spatial)`` truth in [0, 1]; averaged down to each output's stride.
    dice
        Weight of `soft_dice_loss`, which joins the cross-entropy of each output.
    """
    total = target.new_zeros(())
    for weight, logits in zip(SIDE_LOSS_WEIGHTS, outputs, strict=True):
        truth = _average_down(target, target.shape[-1] // logits.shape[-1])
        loss = nn.functional.binary_cross_entropy_with_logits(logits, truth)
        if dice:
            loss = loss + dice * soft_dice_loss(torch.sigmoid(logits), truth)
        total = total + weight * loss
    return total


def soft_dice_loss(saliency: Tensor, truth: Tensor) -> Tensor:
    """Return one minus the smoothed Dice coefficient of two maps in [0, 1], all at once.

    Without any truth the loss and its gradient stay finite, and the gradient small.
    """
    smoothing = DICE_SMOOTHING * truth.numel()
    shared = 2 * (saliency * truth).sum() + smoothing
    return 1 - shared / (saliency.sum() + truth.sum() + smoothing)


def _average_down(x: Tensor, factor: int) -> Tensor:
    for axis in range(2, x.dim()):
        x = x.view(*x.shape[:axis], -1, factor, *x.shape[axis + 1 :]).mean(dim=axis + 1)
    return x
