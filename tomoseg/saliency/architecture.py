"""The shape of a U-SalNet as one frozen value; plain arithmetic, no torch.

What a weights card stores, what the memory model reads, and what `USalNet` is built from.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from tomoseg.errors import RequestError

STRIDES = (1, 2, 4, 8, 16)
LEVELS = len(STRIDES)
SIDE_OUTPUTS = LEVELS + 1


@dataclass(frozen=True)
class Architecture:
    """What decides every tensor shape of a `tomoseg.saliency.usalnet.USalNet`.

    Parameters
    ----------
    dim
        2 for images (U-Net encoder in the paper), 3 for volumes (V-Net encoder).
    base_channels
        Channels at full resolution; level ``l`` (stride ``2**l``) has
        ``base_channels * 2**l``.
    convolutions
        Convolutions of kernel 3 per encoder level, finest first; the strided ones that
        lead down are not counted. The first of the finest level reads the input.
    decoder_convolutions
        Residual convolutions of kernel 3 that end each decoder level, finest first. None
        in the paper, whose decoder has attention alone.
    attention
        Whether the decoder attends (the paper's U); without, each level joins what entered
        it with itself: the plain encoder and decoder of an ablation.
    finest_attention
        The finest level that attends, where any does; 0, full resolution, in the paper.
    residual
        Whether an encoder level adds its input to its result (V-Net).
    global_grids
        Edge of the fixed grid of positions that global attention sums over, deepest
        level (stride 16) first, then stride 8. 4 and 8 make the sum exactly the paper's
        at a window of edge 64.
    local_kernel, local_dilation
        Local attention weighs ``local_kernel**dim`` neighbours `local_dilation` apart.
    generator_channels
        Channels between the two convolutions that make the local attention's weights.
    """

    dim: int = 3
    base_channels: int = 8
    convolutions: tuple[int, ...] = (2, 2, 2, 2, 2)
    decoder_convolutions: tuple[int, ...] = (0, 0, 0, 0, 0)
    attention: bool = True
    finest_attention: int = 0
    residual: bool = True
    global_grids: tuple[int, int] = (4, 8)
    local_kernel: int = 3
    local_dilation: int = 2
    generator_channels: int = 8

    def __post_init__(self) -> None:
        _require(self.dim in (2, 3), "dim", "2 or 3", self.dim)
        _require(self.base_channels >= 1, "base_channels", "at least 1", self.base_channels)
        _require(
            len(self.convolutions) == LEVELS and min(self.convolutions) >= 1,
            "convolutions",
            f"{LEVELS} positive counts",
            self.convolutions,
        )
        _require(
            len(self.decoder_convolutions) == LEVELS and min(self.decoder_convolutions) >= 0,
            "decoder_convolutions",
            f"{LEVELS} counts of 0 or more",
            self.decoder_convolutions,
        )
        _require(
            0 <= self.finest_attention < LEVELS,
            "finest_attention",
            f"a level, 0 to {LEVELS - 1}",
            self.finest_attention,
        )
        _require(
            len(self.global_grids) == 2 and min(self.global_grids) >= 1,
            "global_grids",
            "2 positive edges",
            self.global_grids,
        )
        _require(
            self.local_kernel >= 1 and self.local_kernel % 2 == 1,
            "local_kernel",
            "a positive odd number",
            self.local_kernel,
        )
        _require(self.local_dilation >= 1, "local_dilation", "at least 1", self.local_dilation)
        _require(
            self.generator_channels >= 1,
            "generator_channels",
            "at least 1",
            self.generator_channels,
        )

    @property
    def stride(self) -> int:
        """Stride of the deepest level: every edge of a window is a multiple of it."""
        return STRIDES[-1]

    def channels(self, level: int) -> int:
        """Return the number of channels at `level` (0 is full resolution)."""
        return self.base_channels * STRIDES[level]

    def attends(self, level: int) -> bool:
        """Tell whether `level` of the decoder attends."""
        return self.attention and level >= self.finest_attention

    def check_window(self, spatial: tuple[int, ...]) -> None:
        """Refuse a window that the network cannot halve four times.

        Parameters
        ----------
        spatial
            Edges of the window in voxels, without batch and channel.

        Raises
        ------
        RequestError
            Where the number of axes is not `dim` or an edge is no multiple of `stride`.
        """
        fits = len(spatial) == self.dim and all(n > 0 and n % self.stride == 0 for n in spatial)
        _require(
            fits,
            "window",
            f"{self.dim} edges, each a positive multiple of {self.stride} voxels",
            spatial,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, from which `from_dict` builds the same value."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from what `to_dict` returned, also after JSON made lists of its tuples.

        Raises
        ------
        RequestError
            Where a name is unknown or a value is out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        _require(not unknown, "architecture", f"only {', '.join(sorted(known))}", unknown)
        plain: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in values.items()
        }
        try:
            return cls(**plain)
        except TypeError as error:
            raise RequestError(f"architecture: expected numbers, got {values}.") from error


def _require(condition: bool, what: str, expected: str, got: object) -> None:
    if not condition:
        raise RequestError(f"{what}: expected {expected}, got {got}.")
