"""The encoder: V-Net where it is residual, U-Net where it is not; never a max-pool.

Strided convolutions lead down (the backward pass of a max-pool is not deterministic in
3-D). Every level ends normalised and rectified: that one tensor is the skip and what the
next level reads.
"""

from collections.abc import Iterator

from torch import Tensor, nn

from tomoseg.saliency.architecture import LEVELS, Architecture
from tomoseg.saliency.layers import ConvNorm, Rolling, gathered, in_slabs, laid_out, slabs


class Level(nn.Module):
    """One level of the encoder: an entry, then convolutions, with or without a residual.

    Parameters
    ----------
    architecture
        See `Architecture`.
    level
        0 is full resolution.
    """

    def __init__(self, architecture: Architecture, level: int) -> None:
        super().__init__()
        dim, channels = architecture.dim, architecture.channels(level)
        convolutions = architecture.convolutions[level]
        if level == 0:
            self.enter = ConvNorm(dim, 1, channels)
            convolutions -= 1  # the entry counts: it keeps the resolution
        else:
            self.enter = ConvNorm(dim, channels // 2, channels, down=True)
        self.residual = architecture.residual
        self.convolutions = nn.ModuleList(
            ConvNorm(dim, channels, channels) for _ in range(convolutions)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map the level above, or the window, to ``(N, C, *spatial_l)``."""
        few = len(self.convolutions) <= 1  # then a residual is what its convolution reads
        if few and not self.enter.down and not self.training and in_slabs(x):
            return gathered(self._rolled(laid_out(x)), x.shape[2])
        entered: Tensor = self.enter(x)
        y = entered
        last = len(self.convolutions) - 1
        for number, convolution in enumerate(self.convolutions):
            joins = self.residual and number == last
            y = convolution(y, entered if joins else None)
        return y

    def _rolled(self, x: Tensor) -> Iterator[Tensor]:
        chain = Rolling([(self.enter, False), *((c, self.residual) for c in self.convolutions)])
        for planes, last in slabs(x.shape[2]):
            yield chain(x[:, :, planes], last=last)


class Encoder(nn.Module):
    """Five levels at strides 1, 2, 4, 8 and 16."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.levels = nn.ModuleList(Level(architecture, n) for n in range(LEVELS))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map ``(N, 1, *spatial)`` to the skips, finest first."""
        skips = []
        for level in self.levels:
            x = level(x)
            skips.append(x)
        return skips
