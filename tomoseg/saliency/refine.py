"""Refinement by backpropagation on the tomogram itself (PUB-SalNet, Algorithm 1).

The network's features get a response map of many classes; its labels are unified by
majority in each supervoxel and become its own targets (Kanezaki 2018). Rule ``teacher``
is another method, in `self_training`. One function for a single block and for a sample of
blocks; what it returns applies to any window.
"""

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tomoseg.config import Precision, RefineConfig
from tomoseg.errors import RequestError
from tomoseg.saliency.lanes import lane_setup, map_lanes
from tomoseg.saliency.predict import Predictor, refuse_when_memory_ends, require_finite
from tomoseg.saliency.refined import Refined
from tomoseg.saliency.response import Response, moments
from tomoseg.saliency.self_training import self_train
from tomoseg.saliency.supervoxels import Labels, majority_vote, supervoxels
from tomoseg.saliency.usalnet import USalNet

logger = logging.getLogger(__name__)

CONTINUITY = 5.0
"""Weight of the continuity loss (Kim, Kanezaki and Tanaka 2020; theirs is 5 by default)."""

GRADIENT_NORM = 1.0
"""Gradients beyond this norm are scaled down to it: random weights can explode."""


class Model(nn.Module):
    """What is refined: a copy of the network, and the response map of its features."""

    def __init__(self, network: USalNet, classes: int, seed: int) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(True)
        self.response = Response(network.architecture.base_channels, classes, seed)

    def features(self, window: NDArray[np.float32]) -> Tensor:
        """Return the ``(1, channels, *spatial)`` features of a window."""
        device = self.response.weight.device
        return self.network.features(torch.from_numpy(window)[None, None].to(device))


@dataclass
class Progress:
    """What the iterations have seen of each window: the latest labels and their counts."""

    classes: int
    labels: dict[int, NDArray[np.uint16]] = field(default_factory=dict)
    counts: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    calm_steps: int = 0

    def see(self, window: int, labels: NDArray[np.uint16], tolerance: float) -> None:
        """Note the labels of a window before the vote."""
        before = self.labels.get(window)
        calm = before is not None and float(np.mean(labels != before)) < tolerance
        self.calm_steps = self.calm_steps + 1 if calm else 0
        self.labels[window] = labels
        self.counts[window] = np.bincount(labels.ravel(), minlength=self.classes)

    @property
    def labels_left(self) -> int:
        """How many labels the latest maps of all windows hold together."""
        return int(np.count_nonzero(sum(self.counts.values())))


def refine(
    network: USalNet,
    windows: Sequence[NDArray[np.float32]],
    config: RefineConfig,
    *,
    seed: int,
    lanes: int = 1,
    batch: int = 1,
    device: str = "cpu",
    precision: Precision = "float32",
) -> Refined:
    """Refine a copy of `network` on unlabelled windows; both scopes are this function.

    Parameters
    ----------
    network
        Starting weights; left as it is.
    windows
        One window (scope ``block``) or a sample of the volume (scope ``volume``), each
        ``(z, y, x)`` float32 of one shape, normalised as `SaliencyModel.saliency` says.
        Each iteration sees one of them, in turn.
    config
        See `RefineConfig`; its `scope` and `sample_blocks` are the caller's business.
    seed
        Of the head's initial weights, from (run seed, block index).
    lanes
        Threads for what can be done window by window; the bits do not depend on it.
    batch, device, precision
        As for `tomoseg.saliency.predict.Predictor`. Algorithm 1 votes in float32 whatever the
        precision, which is that of what it returns.

    Returns
    -------
    Refined
        On `device`. Where no label is salient, its saliency is 0 everywhere.

    Raises
    ------
    RequestError
        Where there is no window, shapes differ or don't fit the network, or memory ends.
    InputError
        Where a value is not finite.

    Notes
    -----
    A step that leaves fewer than two labels in the sample, or a value that is not finite,
    ends refinement with the last state that was sound (``stop`` in the report).
    """
    lane_setup()
    sample = _checked(network, windows)
    if config.rule == "teacher":
        return self_train(
            network,
            list(sample),
            config,
            seed=seed,
            lanes=lanes,
            batch=batch,
            device=device,
            precision=precision,
        )
    voted = config.unify == "supervoxels"
    segments = map_lanes(lambda w: _segments(w, config, device), sample, lanes) if voted else None
    model = Model(network, config.classes, seed).to(device)
    with refuse_when_memory_ends((1, *sample.shape[1:])):
        report, sound = _iterate(model, sample, segments, config)
        weight, bias, labels = _settle(model, sample, report, sound)
    salient = _salient_labels(network, sample, labels, config, device)
    counts = np.bincount(labels.ravel(), minlength=config.classes)
    report["labels"] = int(np.count_nonzero(counts))
    report["salient_labels"] = salient
    report["salient_fraction"] = float(counts[salient].sum() / counts.sum())
    logger.info("refined: %s", report)
    return Refined(
        model.network,
        weight,
        bias,
        salient,
        report,
        batch=batch,
        device=device,
        precision=precision,
    )


def _checked(network: USalNet, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the sample as ``(N, *spatial)`` float32."""
    shapes = {window.shape for window in windows}
    if len(shapes) != 1:
        raise RequestError(
            f"refinement: expected windows of one shape, got {sorted(shapes) or 'no window'}."
        )
    network.architecture.check_window(shapes.pop())
    sample = np.stack([np.asarray(window, np.float32) for window in windows])
    require_finite(sample)
    return sample


def _segments(window: NDArray[np.float32], config: RefineConfig, device: str) -> Labels:
    return supervoxels(
        window,
        edge=config.supervoxel_edge,
        compactness=config.compactness,
        sigma=config.sigma,
        device=device,
    )


State = dict[str, Tensor]


def _iterate(
    model: Model,
    sample: NDArray[np.float32],
    segments: list[Labels] | None,
    config: RefineConfig,
) -> tuple[dict[str, Any], State]:
    """Run Algorithm 1; return how it ended, and the last state known to be sound."""
    lessons = config.lessons()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=lessons.learning_rate, momentum=config.momentum, foreach=False
    )
    progress, sound = Progress(config.classes), _snapshot(model)
    report: dict[str, Any] = {"iterations": 0, "stop": "iterations", "loss": None}
    for step in range(lessons.iterations):
        window = step % len(sample)
        features = model.features(sample[window])
        seen = moments([features])
        finite = bool(torch.isfinite(seen.covariance).all())
        if finite:
            labels = model.response.labels(features, seen)
            progress.see(window, labels, config.tolerance)
        stop = _verdict(progress, len(sample), config) if finite else "not_finite"
        if stop in ("collapsed", "not_finite"):
            model.load_state_dict(sound)
        if stop:
            report["stop"] = stop
            break
        sound = _snapshot(model)
        target = progress.labels[window].astype(np.int32)
        if segments is not None:
            target = majority_vote(target, segments[window], config.classes)
        smooth = 0.0 if segments is not None else CONTINUITY
        optimizer.zero_grad()
        loss, gradient = model.response.descend(features, seen, target, smooth=smooth)
        torch.autograd.backward(features, gradient)
        nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM, foreach=False)
        optimizer.step()
        report["loss"] = float(loss)
        report["iterations"] = step + 1
    return report, sound


def _verdict(progress: Progress, windows: int, config: RefineConfig) -> str:
    """Return why to stop, or nothing."""
    seen_all = len(progress.labels) == windows
    if seen_all and progress.labels_left < 2:
        return "collapsed"
    if seen_all and progress.labels_left <= config.min_labels:
        return "min_labels"
    return "converged" if progress.calm_steps >= config.patience else ""


def _snapshot(model: Model) -> State:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


@torch.no_grad()
def _settle(
    model: Model, sample: NDArray[np.float32], report: dict[str, Any], sound: State
) -> tuple[Tensor, Tensor, NDArray[np.uint16]]:
    """Freeze the head, and fall back to the sound state where the last step broke something.

    Returns
    -------
    weight, bias
        Of the frozen head, see `Refined`.
    labels
        ``(N, *spatial)``, the label of each voxel of the sample under the frozen head.
    """

    def settled() -> tuple[Tensor, Tensor, NDArray[np.uint16]]:
        seen = moments(model.features(window) for window in sample)
        labels = [model.response.labels(model.features(window), seen) for window in sample]
        return *model.response.folded(seen), np.stack(labels)

    weight, bias, labels = settled()
    finite = bool(torch.isfinite(weight).all() and torch.isfinite(bias).all())
    if finite and labels.min() < labels.max():
        return weight, bias, labels
    if report["stop"] == "iterations":
        report["stop"] = "collapsed" if finite else "not_finite"
    model.load_state_dict(sound)
    return settled()


def _salient_labels(
    network: USalNet,
    sample: NDArray[np.float32],
    labels: NDArray[np.uint16],
    config: RefineConfig,
    device: str,
) -> list[int]:
    """Return the labels that are salient under the rule of the configuration."""
    counts = np.bincount(labels.ravel(), minlength=config.classes)
    if config.rule == "majority":
        return [int(k) for k in np.flatnonzero(counts) if k != counts.argmax()]
    prior = Predictor(network, device=device).saliency(sample)
    sums = np.bincount(labels.ravel(), prior.ravel(), minlength=config.classes)
    return [int(k) for k in np.flatnonzero(counts) if sums[k] >= 0.5 * counts[k]]
