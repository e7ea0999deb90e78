"""Refinement by self-training: the network learns what its own views of the tomogram agree on.

Arrays of windows in, a refined network out. The teacher is the network as it was loaded,
averaged over flips and amplitudes; what it says, drawn together in supervoxels, is the
target of a few steps of all weights.
"""

import copy
import functools
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tomoseg.config import Lessons, Precision, RefineConfig
from tomoseg.saliency.lanes import lane_setup, map_lanes
from tomoseg.saliency.predict import (
    Predictor,
    SaliencyModel,
    View,
    Views,
    refuse_when_memory_ends,
)
from tomoseg.saliency.refined import Refined
from tomoseg.saliency.supervoxels import supervoxels
from tomoseg.saliency.usalnet import USalNet

logger = logging.getLogger(__name__)

VIEWS: dict[int, tuple[View, ...]] = {
    2: (((), 1.0), ((0, 1), 1.6), ((0,), 0.6), ((1,), 1.0)),
    3: (((), 1.0), ((1, 2), 1.6), ((0, 1), 0.6), ((0, 2), 1.0)),
}
"""What the teacher is averaged over, by the axes of a window: scale decides transfer."""

GRADIENT_NORM = 1.0
RUN_AWAY = 2.0
"""Refinement ends where the student's mean saliency leaves the teacher's, as it was and sharpened,
by this factor."""

ICE = 0.01
"""Mean saliency below which the teacher says nothing worth learning."""

Window = NDArray[np.float32]
Gradients = tuple[Tensor, ...]


def self_train(
    network: USalNet,
    windows: Sequence[Window],
    config: RefineConfig,
    *,
    seed: int,
    lanes: int = 1,
    batch: int = 1,
    device: str = "cpu",
    precision: Precision = "float32",
) -> Refined:
    """Refine a copy of `network` on unlabelled windows against what it says of them.

    Parameters
    ----------
    network
        Teacher and starting weights; left as it is.
    windows
        Of one shape that the network takes; finite.
    config
        `lessons`, `sharpness`, `supervoxel_weight` and the supervoxels' own.
    seed
        Of the flips.
    lanes, batch, device, precision
        As for `tomoseg.saliency.refine.refine`.

    Returns
    -------
    Refined
        Two classes, the second of them salient: its saliency is the network's own form.

    Notes
    -----
    Tarvainen & Valpola (NeurIPS 2017) for a teacher that is an average; here of views, not
    of steps, and fixed: an anchor that a few steps cannot leave. Polyak & Juditsky (1992) for
    the student as a mean of its steps: so few are noisy.
    """
    lane_setup()
    lessons = config.lessons()
    predictor = functools.partial(Predictor, device=device, precision=precision)
    student = copy.deepcopy(network).to(device).requires_grad_(True)
    with refuse_when_memory_ends((lessons.windows_per_step, *windows[0].shape)):
        targets = teach(predictor(network), windows, config, lanes=lanes)
        if np.mean(targets) < ICE:
            report: dict[str, Any] = {"iterations": 0, "stop": "ice", "loss": None}
        else:
            report = _learn(student, windows, targets, lessons, seed, lanes, precision)
            teachers = (targets, [sharpened(t, 1 / config.sharpness) for t in targets])
            wanted = [float(np.mean(maps)) for maps in teachers]
            if _ran_away(predictor(student), windows, wanted, lanes):
                report["stop"] = "ran_away"
    if report["stop"] in ("not_finite", "ran_away"):
        student = copy.deepcopy(network).to(device)
    salient = float(np.mean([target >= 0.5 for target in targets]))
    report |= {"labels": 2, "salient_labels": [1], "salient_fraction": salient}
    logger.info("refined: %s", report)
    weight, bias = (_two_classes(p) for p in (student.head.weight, student.head.bias))
    return Refined(
        student, weight, bias, [1], report, batch=batch, device=device, precision=precision
    )


def teach(
    model: Predictor, windows: Sequence[Window], config: RefineConfig, *, lanes: int = 1
) -> list[Window]:
    """Return the target of each window: the sharpened mean of views, drawn together.

    Parameters
    ----------
    model
        Whose views they are.
    windows, config, lanes
        As for `self_train`.
    """
    views = Views(model, VIEWS[windows[0].ndim])

    def target(window: Window) -> Window:
        mean = views.saliency(window[None])[0]
        if config.supervoxel_weight:
            mean += config.supervoxel_weight * (
                _drawn_together(mean, window, config, model.device) - mean
            )
        return sharpened(mean, config.sharpness).astype(np.float32)

    return map_lanes(target, list(windows), lanes)


def sharpened(saliency: NDArray[np.floating[Any]], exponent: float) -> NDArray[np.floating[Any]]:
    """Move probabilities away from one half: p^a / (p^a + (1 - p)^a)."""
    raised = saliency**exponent
    result: NDArray[np.floating[Any]] = raised / (raised + (1 - saliency) ** exponent)
    return result


def _drawn_together(
    saliency: NDArray[np.floating[Any]], window: Window, config: RefineConfig, device: str
) -> NDArray[np.floating[Any]]:
    """Return the mean saliency of each voxel's supervoxel."""
    segments = supervoxels(
        window,
        edge=config.supervoxel_edge,
        compactness=config.compactness,
        sigma=config.sigma,
        device=device,
    )
    sums, counts = np.bincount(segments.ravel(), saliency.ravel()), np.bincount(segments.ravel())
    means: NDArray[np.floating[Any]] = sums / counts.clip(min=1)
    return means[segments]


def _learn(
    student: USalNet,
    windows: Sequence[Window],
    targets: Sequence[Window],
    lessons: Lessons,
    seed: int,
    lanes: int,
    precision: Precision,
) -> dict[str, Any]:
    """Take the steps, and leave the student with the mean of its weights over the later half.

    Returns how they ended. Lanes decide no bit: gradients are summed in order.
    """
    report: dict[str, Any] = {"iterations": 0, "stop": "iterations", "loss": None}
    together = lessons.windows_per_step
    parameters = [p for name, p in student.named_parameters() if not name.startswith("sides.")]
    optimiser = torch.optim.Adam(parameters, lr=lessons.learning_rate, foreach=False)
    mean: list[Tensor] = []
    generator = np.random.default_rng(seed)

    def lesson(turn: tuple[int, tuple[int, ...]]) -> tuple[float, Gradients]:
        """Return loss and gradients of one window, flipped."""
        place, flips = turn
        x, target = (_tensor(a[place], flips, parameters[0].device) for a in (windows, targets))
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = student.logits(x).float()
        loss = nn.functional.binary_cross_entropy_with_logits(logits, target)
        return float(loss.detach()), torch.autograd.grad(loss, parameters)

    for step in range(lessons.iterations):
        turns = [
            ((together * step + n) % len(windows), _flips(generator, windows[0].ndim))
            for n in range(together)
        ]
        losses, mean_gradient = [], [torch.zeros_like(p) for p in parameters]
        for start in range(0, len(turns), lanes):  # no more gradients are there than lanes
            for loss, gradients in map_lanes(lesson, turns[start : start + lanes], lanes):
                losses.append(loss)
                for kept, gradient in zip(mean_gradient, gradients, strict=True):
                    kept.add_(gradient, alpha=1 / len(turns))
        if not np.isfinite(losses).all():
            return report | {"stop": "not_finite"}
        for parameter, kept in zip(parameters, mean_gradient, strict=True):
            parameter.grad = kept
        nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM, foreach=False)
        optimiser.step()
        late = step - lessons.iterations // 2 + 1
        if late == 1:
            mean = [p.detach().clone() for p in parameters]
        elif late > 1:
            for kept, p in zip(mean, parameters, strict=True):
                kept.lerp_(p.detach(), 1 / late)
        report |= {"iterations": step + 1, "loss": float(np.mean(losses))}
    with torch.no_grad():
        for p, kept in zip(parameters, mean, strict=True):
            p.copy_(kept)
    return report


def _ran_away(
    model: SaliencyModel, windows: Sequence[Window], wanted: Sequence[float], lanes: int
) -> bool:
    """Tell whether what is salient to the student in all windows is far from all that is wanted."""
    mean = float(np.mean(map_lanes(lambda w: model.saliency(w[None]).mean(), windows, lanes)))
    near = mean <= RUN_AWAY * max(wanted) + ICE and min(wanted) <= RUN_AWAY * mean + ICE
    return not near  # NaN is not near either


def _flips(generator: np.random.Generator, axes: int) -> tuple[int, ...]:
    return tuple(int(axis) for axis in np.flatnonzero(generator.integers(0, 2, axes)))


def _tensor(window: Window, flips: tuple[int, ...], device: torch.device) -> Tensor:
    turned = np.ascontiguousarray(np.flip(window, flips))
    return torch.from_numpy(turned)[None, None].to(device)


def _two_classes(parameter: Tensor) -> Tensor:
    """Return the head's weight or bias as that of two classes whose softmax is its sigmoid."""
    return torch.cat([torch.zeros_like(parameter), parameter]).detach()
