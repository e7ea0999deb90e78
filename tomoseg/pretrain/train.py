"""The training loop: batches in, checkpoints, validated weights and a curve out.

Knows time and files, but lets neither decide a bit of the weights.
"""

import contextlib
import ctypes
import dataclasses
import logging
import math
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomoseg import __version__
from tomoseg.errors import RequestError, Stopped
from tomoseg.io.storage import lock, storage_errors
from tomoseg.pretrain.checkpoint import Folder
from tomoseg.pretrain.learner import Learner
from tomoseg.pretrain.recipe import Recipe
from tomoseg.pretrain.samples import Source, Tomograms, prefetch, require_split
from tomoseg.pretrain.validate import Scores, validate
from tomoseg.saliency.architecture import LEVELS
from tomoseg.saliency.initialise import deepened, random_network, widened, without_attention
from tomoseg.saliency.lanes import resolve_device
from tomoseg.saliency.usalnet import USalNet
from tomoseg.saliency.weights import Card, load

LOG = logging.getLogger(__name__)

LOG_SECONDS = 15.0
CHECKPOINT_SECONDS = 240.0
LOSS_MEMORY = 0.98
"""Decay per step of the mean loss that is reported."""


@dataclass(frozen=True)
class Request:
    """A training and how it is to run.

    Parameters
    ----------
    recipe
        See `Recipe`. Its `architecture` and `init` are replaced by those of `init` below;
        with `deepen`, its `decoder_convolutions` stay, with `widen` its `base_channels`, and
        attention is left where both have it.
    training, validation
        Tomograms to learn from and to choose the best weights by.
    names
        What the two are called in the card: paths, say.
    folder
        Where everything is written; a training that it holds is taken up.
    init
        Weights to start from, as `tomoseg.saliency.weights.load` takes them; None for
        fresh ones.
    deepen
        Give the weights of `init` the recipe's convolutions in the decoder; new ones
        start as the identity.
    widen
        Give them the recipe's channels; new ones start without effect.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    lanes
        Groups that are computed at once on a CPU; does not change bits.
    max_minutes
        Stop, resumably, after so long.
    overwrite
        Start anew in a folder that holds a training.
    """

    recipe: Recipe
    training: Tomograms
    validation: Tomograms
    names: tuple[str, str]
    folder: Path
    init: str | None = None
    deepen: bool = False
    widen: bool = False
    device: str = "auto"
    lanes: int = 1
    max_minutes: float | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a finished training says.

    Parameters
    ----------
    weights, last
        Paths of the weights that validated best, and of the last ones.
    steps
        Steps of the whole training.
    best_step
        After how many of them validation was best.
    scores
        Of validation then.
    seconds
        Of computing, all runs together.
    """

    weights: str
    last: str
    steps: int
    best_step: int
    scores: Scores
    seconds: float


@dataclass
class _Progress:
    """What a checkpoint holds beside tensors: plain JSON values."""

    step: int = 0
    seconds: float = 0.0
    loss: float = 0.0
    best: dict[str, Any] = dataclasses.field(default_factory=dict)

    def add(self, loss: float) -> None:
        """Count a step and its loss."""
        memory = min(LOSS_MEMORY, self.step / (self.step + 1))
        self.loss = memory * self.loss + (1 - memory) * loss
        self.step += 1


def train(request: Request, stop: threading.Event | None = None) -> Outcome:
    """Train a network, or go on with it, to the end of its recipe.

    Parameters
    ----------
    request
        See `Request`.
    stop
        Once set, training stops cleanly after the step at hand.

    Raises
    ------
    Stopped
        Where `stop` or the time limit ended it early; the same request goes on.
    RequestError
        Where data of the wrong split, weights or device can't serve.
    FingerprintError
        Where the folder holds another training.
    OutputExistsError
        Where another process trains in it, or it holds other weights.
    """
    require_split(request.training, "train", "training data")
    require_split(request.validation, "validation", "validation data")
    keep_freed_memory()
    with contextlib.ExitStack() as held:
        return _Training(request, held).run(stop or threading.Event())


class _Training:
    def __init__(self, request: Request, held: contextlib.ExitStack) -> None:
        network, recipe = _start(request)
        self.request, self.recipe = request, recipe
        self.source = Source(request.training, recipe)
        self.windows = Source(request.validation, recipe).validation()
        device = resolve_device(request.device)
        self.folder = Folder(request.folder)
        self.fingerprint = _fingerprint(recipe, request)
        with storage_errors("Creating", request.folder):
            request.folder.mkdir(parents=True, exist_ok=True)
        held.enter_context(lock(request.folder, request.folder))
        found = self.folder.open(self.fingerprint, overwrite=request.overwrite)
        self.learner = Learner(network, recipe, device=device, lanes=request.lanes)
        self.progress = _Progress()
        if found is not None:
            self.learner.restore(found[0])
            self.progress = _Progress(**found[1])
            LOG.info("Going on at step %d of %d.", self.progress.step, recipe.steps)
        self.folder.cut_curve(self.progress.step)
        self.first = self.progress.step
        self.started = self.logged = self.saved = time.monotonic()
        self.began = self.started - self.progress.seconds

    def run(self, stop: threading.Event) -> Outcome:
        """Take the steps that are left."""
        limit = math.inf if self.request.max_minutes is None else 60 * self.request.max_minutes
        deadline = time.monotonic() + limit
        steps = range(self.progress.step, self.recipe.steps)
        for step, batch in zip(steps, prefetch(self.source.batch, steps), strict=True):
            self.progress.add(self.learner.step(step, batch))
            self._after_step()
            unfinished = self.progress.step < self.recipe.steps
            if unfinished and (stop.is_set() or time.monotonic() >= deadline):
                self._save()
                raise Stopped(
                    f"{self.folder.path}: stopped at step {self.progress.step} of "
                    f"{self.recipe.steps}.",
                    "Run the same command again to go on.",
                )
        return self._outcome()

    def _after_step(self) -> None:
        self.progress.seconds = time.monotonic() - self.began
        done, ended = self.progress.step, self.progress.step == self.recipe.steps
        if done % self.recipe.validate_every == 0 or ended:
            self._validate()
        if time.monotonic() - self.saved > CHECKPOINT_SECONDS or ended:
            self._save()
        if time.monotonic() - self.logged > LOG_SECONDS or ended:
            self._log()

    def _validate(self) -> None:
        scores = validate(
            self.learner.average, self.windows, dice=self.recipe.dice, lanes=self.request.lanes
        )
        step = self.progress.step
        LOG.info(
            "step %d: validation maximum F %.3f, F at .5 %.3f, mean absolute error %.4f, loss %.3f",
            *(step, scores.maximum_f, scores.half_f, scores.mean_absolute_error, scores.loss),
        )
        if scores.maximum_f > self.progress.best.get("maximum_f", -1.0):
            self.progress.best = {"step": step, **dataclasses.asdict(scores)}
            self._write_weights(self.folder.best, self.progress.best)
        row = {f"validation_{k}" if k == "loss" else k: v for k, v in vars(scores).items()}
        self.folder.add_to_curve(
            row
            | {
                "step": step,
                "seconds": round(self.progress.seconds, 1),
                "learning_rate": self.recipe.rate_at(step - 1),
                "loss": self.progress.loss,
            }
        )

    def _save(self) -> None:
        self._write_weights(self.folder.last, {"step": self.progress.step})
        progress = dataclasses.asdict(self.progress)
        self.folder.write_checkpoint(self.learner.state(), self.fingerprint, progress)
        self.folder.draw_curve()
        self.saved = time.monotonic()

    def _write_weights(self, path: Path, scores: dict[str, Any]) -> None:
        self.folder.write_weights(path, self.learner.average, self._card(path.stem, scores))

    def _card(self, name: str, scores: dict[str, Any]) -> Card:
        training, validation = self.request.names
        step = scores["step"]
        return Card(
            name=name,
            architecture=self.recipe.architecture,
            window=self.recipe.window,
            voxel_size_angstrom=self.request.training.voxel_size_angstrom,
            trained=True,
            smoothed=self.recipe.smoothed,
            notes=(
                f"Trained by tomoseg {__version__} on simulated tomograms ({training}), step "
                f"{step} of {self.recipe.steps}, seed {self.recipe.seed}; chosen on {validation}. "
                "Licence of the weights: BSD-3-Clause, as tomoseg."
            ),
            training=self.fingerprint | {"validation": scores},
        )

    def _log(self) -> None:
        now = time.monotonic()
        done = self.progress.step
        rate = (done - self.first) / (now - self.started)
        LOG.info(
            "step %d/%d: loss %.4f, %.2f samples/s, %s left",
            *(done, self.recipe.steps, self.progress.loss, rate * self.recipe.batch),
            _duration((self.recipe.steps - done) / rate),
        )
        self.logged = now

    def _outcome(self) -> Outcome:
        best = dict(self.progress.best)
        return Outcome(
            weights=str(self.folder.best),
            last=str(self.folder.last),
            steps=self.recipe.steps,
            best_step=best.pop("step"),
            scores=Scores(**best),
            seconds=round(self.progress.seconds, 1),
        )


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next step, which asks for the same again.

    Otherwise every large tensor is mapped and its pages are zeroed anew: a fifth of the
    time of a step. Does nothing where the C library is another.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in _MALLOC_OPTIONS.items():
            mallopt(option, value)


_MALLOC_OPTIONS = {
    -3: 32 * 2**20,  # M_MMAP_THRESHOLD: the largest that glibc takes
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD: give nothing back
    -8: 1,  # M_ARENA_MAX: what one lane frees, another can use
}


def _start(request: Request) -> tuple[USalNet, Recipe]:
    """Return the network that training starts from, and the recipe that says so."""
    recipe = request.recipe
    if request.init is None:
        return random_network(recipe.architecture, recipe.seed), recipe
    network, card = load(request.init)
    if card.architecture.dim != recipe.architecture.dim:
        raise RequestError(
            f"weights {request.init}: expected a {recipe.architecture.dim}-D network, "
            f"got a {card.architecture.dim}-D one."
        )
    wanted = recipe.architecture
    finest = wanted.finest_attention if wanted.attention else LEVELS
    if card.architecture.attention and finest > card.architecture.finest_attention:
        network = without_attention(network, finest)
    if request.deepen:
        network = deepened(network, wanted.decoder_convolutions)
    if request.widen:
        network = widened(network, wanted.base_channels, recipe.seed)
    return network, dataclasses.replace(recipe, architecture=network.architecture, init=card.sha256)


def _fingerprint(recipe: Recipe, request: Request) -> dict[str, Any]:
    return {
        "recipe": recipe.to_dict(),
        "data": _describe(request.training, request.names[0]),
        "validation_data": _describe(request.validation, request.names[1]),
    }


def _describe(tomograms: Tomograms, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "tomograms": len(tomograms),
        "shape": list(tomograms.shape),
        "voxel_size_angstrom": tomograms.voxel_size_angstrom,
    }


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
