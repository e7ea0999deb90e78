"""The encoder: V-Net where it is residual, U-Net where it is not; never a max-pool.

Strided convolutions lead down (the backward pass of a max-pool is not deterministic in
3-D). Every level ends normalised and rectified: that one tensor is the skip and what the
next level reads.
"""

from torch import Tensor, nn

from tomoseg.saliency.architecture import LEVELS, Architecture
from tomoseg.saliency.layers import ConvNorm


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
        entered: Tensor = self.enter(x)
        y = entered
        last = len(self.convolutions) - 1
        for number, convolution in enumerate(self.convolutions):
            joins = self.residual and number == last
            y = convolution(y, entered if joins else None)
        return y


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
