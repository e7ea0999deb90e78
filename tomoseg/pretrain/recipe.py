"""How a network is trained, as one frozen value; plain arithmetic, no torch.

Everything that depends on the step is a function of the step alone, never of time, so
that a resumed training has the same bits as one in one go.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tomoseg.config import Precision
from tomoseg.errors import RequestError
from tomoseg.saliency.architecture import Architecture

Optimiser = Literal["adamw", "sgd"]
Schedule = Literal["cosine", "constant"]
Preset = Literal["default", "paper"]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the bits of trained weights, but for the data.

    Parameters
    ----------
    architecture
        Of the network.
    steps
        Optimiser steps of the whole training.
    seed
        Of the fresh weights and of every random choice.
    init
        Where training starts: sha256 of existing weights; empty for fresh ones.
    batch
        Windows per step.
    group
        Windows that are computed together: they share batch statistics, and one lane
        takes one group. The gradient of a step is the mean over its groups.
    window
        Edge of a training window in voxels.
    optimiser, learning_rate, momentum, weight_decay
        Of the descent; the rate is its peak. `momentum` is the first beta of AdamW. Norms
        and biases do not decay under AdamW.
    schedule
        ``cosine``: linear from 0 over `warm_up` steps, then a half cosine to
        `final_rate` times the peak. ``constant``: the peak throughout.
    warm_up, final_rate
        See `schedule`.
    precision
        ``bfloat16`` mixes: convolutions and products in bfloat16, normalisation, attention's
        sums, loss and weights in float32 (autocast).
    clip_norm
        Gradients are scaled down to this norm; 0 leaves them.
    dice
        Weight of the soft Dice loss beside the binary cross-entropy.
    average
        Decay per step of the moving average of the weights that is validated and shipped;
        0 for the weights themselves.
    freeze_norm_at
        Share of the steps after which normalisation uses its frozen running statistics,
        as it will in use.
    norm_momentum
        Weight of a new batch in the running statistics, once enough have been seen; the
        first ones count alike.
    salient_share
        Share of the windows for which, of a few places, one that holds truth is taken.
    empty_share
        Share of the windows that hold noise alone, in many colours, instead of a place of
        a tomogram: what is salient must not be learnt from a window always holding it.
    smoothed
        Whether tomograms are smoothed (`tomoseg.intensity.smooth`) before they are normalised.
    appearance
        Whether windows change in intensity (see `tomoseg.pretrain.augment`), or are only
        flipped and turned.
    validate_every
        Steps between two validations.
    validation_windows
        Windows that are validated on.
    """

    architecture: Architecture
    steps: int
    seed: int = 0
    init: str = ""
    batch: int = 4
    group: int = 2
    window: int = 64
    optimiser: Optimiser = "adamw"
    learning_rate: float = 2e-3
    momentum: float = 0.9
    weight_decay: float = 1e-3
    schedule: Schedule = "cosine"
    warm_up: int = 50
    final_rate: float = 0.01
    precision: Precision = "float32"
    clip_norm: float = 1.0
    dice: float = 1.0
    average: float = 0.998
    freeze_norm_at: float = 0.5
    norm_momentum: float = 0.02
    salient_share: float = 0.5
    empty_share: float = 0.08
    smoothed: bool = True
    appearance: bool = True
    validate_every: int = 100
    validation_windows: int = 24

    def __post_init__(self) -> None:
        _require(self.steps >= 1, "steps", "at least 1", self.steps)
        _require(self.seed >= 0, "seed", "0 or more", self.seed)
        _require(
            self.group >= 1 and self.batch >= 1 and self.batch % self.group == 0,
            "batch",
            f"a positive multiple of the group of {self.group}",
            self.batch,
        )
        self.architecture.check_window((self.window,) * self.architecture.dim)
        _require(self.optimiser in get_args(Optimiser), "optimiser", "adamw or sgd", self.optimiser)
        _require(self.schedule in get_args(Schedule), "schedule", "a known one", self.schedule)
        _require(
            self.precision in get_args(Precision),
            "precision",
            "float32 or bfloat16",
            self.precision,
        )
        _require(self.learning_rate > 0, "learning rate", "above 0", self.learning_rate)
        for name in ("momentum", "average"):
            value = getattr(self, name)
            _require(0 <= value < 1, name, "0 to below 1", value)
        for name in (
            "freeze_norm_at",
            "norm_momentum",
            "salient_share",
            "empty_share",
            "final_rate",
        ):
            value = getattr(self, name)
            _require(0 <= value <= 1, name.replace("_", " "), "0 to 1", value)
        for name in ("weight_decay", "clip_norm", "dice", "warm_up"):
            value = getattr(self, name)
            _require(value >= 0, name.replace("_", " "), "0 or more", value)
        _require(self.validate_every >= 1, "validate every", "at least 1", self.validate_every)
        _require(
            self.validation_windows >= 1, "validation windows", "1 or more", self.validation_windows
        )

    def rate_at(self, step: int) -> float:
        """Return the learning rate of `step`, counted from 0."""
        if self.schedule == "constant":
            return self.learning_rate
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / (self.warm_up + 1)
        progress = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        cosine = (1 + math.cos(math.pi * progress)) / 2
        return self.learning_rate * (self.final_rate + (1 - self.final_rate) * cosine)

    def average_at(self, step: int) -> float:
        """Return the decay of the moving average at `step`: young averages forget fast."""
        return min(self.average, (1 + step) / (10 + step))

    def frozen_at(self, step: int) -> bool:
        """Tell whether normalisation is frozen at `step`."""
        return step >= self.freeze_norm_at * self.steps

    def norm_momentum_at(self, step: int) -> float:
        """Return the weight of the batch of `step` in the running statistics."""
        return max(self.norm_momentum, 1 / (1 + step))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return dataclasses.asdict(self)


def preset(name: Preset, dim: int, steps: int, **changes: Any) -> Recipe:
    """Return the recipe of a preset.

    Parameters
    ----------
    name
        ``default``, or ``paper`` for the settings that the paper gives; where it gives
        none, the plainest ones.
    dim
        2 for slices, 3 for volumes.
    steps
        Optimiser steps.
    **changes
        Fields of `Recipe` that differ from the preset.

    Raises
    ------
    RequestError
        Where the preset is unknown or a value is out of range.
    """
    _require(name in get_args(Preset), "preset", "default or paper", name)
    architecture = Architecture(dim=dim, decoder_convolutions=DECODER_CONVOLUTIONS)
    values: dict[str, Any] = {"architecture": architecture, **_SIZES[dim]}
    if name == "paper":
        values |= {"architecture": Architecture(dim=dim)} | _PAPER | _PAPER_DESCENT[dim]
    return Recipe(**(values | {"steps": steps} | changes))


DECODER_CONVOLUTIONS = (2, 2, 1, 1, 0)
"""Of the default preset, finest level first: edges want more than attention and joins."""

_SIZES: dict[int, dict[str, Any]] = {
    2: {"batch": 8, "group": 4, "window": 128},
    3: {"batch": 4, "group": 2, "window": 64},
}
_PAPER: dict[str, Any] = {
    "batch": 4,
    "group": 2,
    "optimiser": "sgd",
    "schedule": "constant",
    "clip_norm": 0.0,
    "dice": 0.0,
    "average": 0.0,
    "freeze_norm_at": 1.0,
    "norm_momentum": 0.1,
    "salient_share": 0.0,
    "empty_share": 0.0,
    "smoothed": False,
    "appearance": False,
}
_PAPER_DESCENT: dict[int, dict[str, Any]] = {
    2: {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
    3: {"learning_rate": 1e-5, "momentum": 0.99, "weight_decay": 0.0},
}


def _require(condition: bool, what: str, expected: str, got: object) -> None:
    if not condition:
        raise RequestError(f"{what}: expected {expected}, got {got}.")
