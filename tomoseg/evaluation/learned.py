"""Rivals that are trained before they are compared: made once, kept in the benchmark's folder.

Gradient methods look into a classifier of simulated complexes; SalGAN is trained on truth.
Both see the split ``train`` alone.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tomoseg.evaluation.baselines.classifier import (
    KERNEL,
    STRIDE,
    Classifier,
    Lesson,
    train_classifier,
)
from tomoseg.evaluation.baselines.gradients import (
    Target,
    as_map,
    gradient,
    integrated,
    smoothed,
    visual_backprop,
)
from tomoseg.evaluation.baselines.salgan import Generator, train_salgan
from tomoseg.evaluation.baselines.scale import Baseline, Map
from tomoseg.evaluation.cases import SHAPE, home_config, normalised
from tomoseg.evaluation.methods import Method, of_baseline
from tomoseg.io.storage import storage_errors
from tomoseg.pretrain.recipe import preset
from tomoseg.pretrain.samples import Source
from tomoseg.saliency.lanes import map_lanes
from tomoseg.saliency.weights import SUFFIX, digest
from tomoseg.simulate.dataset import Simulated
from tomoseg.simulate.sample import Sample, simulate
from tomoseg.simulate.scene import Kind

logger = logging.getLogger(__name__)

LESSONS = 8
"""Tomograms that rivals are trained on, at SNR 1.5; the classifier holds one of them out."""

LESSON_SNR = 1.5
KINDS = 6
CLASSIFIER_STEPS = {2: 1000, 3: 400}
SALGAN_STEPS = {2: 800, 3: 300}
"""Minutes on two cores, far from the published training; the table says what came of it."""

SALGAN_WINDOW = {2: 96, 3: 32}

SIG_COPIES, SIG_STEPS = 8, 16
"""Of smoothed integrated gradients: 50 of 50 would be 2500 passes a volume."""

SEED = 1

CONTROLS = ("VA, random weights", "VBP, random weights")
SALGAN = "SalGAN (retrained, supervised)"
NAMES = ("VA", "SVA", "IG", "SIG", "VBP", *CONTROLS, SALGAN)
"""Rows that need a training."""


def rivals(
    folder: Path, dims: Sequence[int], structures: Path | None, *, jobs: int = 1
) -> Mapping[int, list[Method]]:
    """Return the trained rivals by dimension, and train those that are not kept yet.

    Parameters
    ----------
    folder
        Holds what was trained.
    dims
        2, 3 or both.
    structures
        Folder of complexes; None for built-in ones.
    jobs
        Trainings at once; decides no bit.
    """
    with storage_errors("Creating", folder):
        folder.mkdir(parents=True, exist_ok=True)
    lessons = _Lessons(structures, jobs)
    trainings = [(make, dim) for make in (_salgan, _classifiers) for dim in reversed(dims)]
    map_lanes(lambda training: training[0](folder, training[1], lessons), trainings, jobs)
    return {dim: _rivals(folder, dim, lessons) for dim in dims}


class _Lessons(Simulated):
    """Training data, simulated when they are first asked for, once for all rivals."""

    def __init__(self, structures: Path | None, jobs: int) -> None:
        config = home_config(LESSON_SNR, "train", SHAPE, structures)
        super().__init__(replace(config, count=LESSONS))
        self._jobs, self._making = jobs, threading.Lock()
        self._kept: list[Sample] = []

    def classes(self) -> list[Lesson]:
        """Return tomograms with the names and centres of their complexes."""
        lessons = []
        for number in range(LESSONS):
            sample = self._sample(number)
            found = [(p.name, p.centre_zyx) for p in sample.particles if p.kind is Kind.COMPLEX]
            lessons.append(Lesson(normalised(sample.tomogram, smoothed=True), found))
        return lessons

    def truth(self, dim: int) -> Source:
        """Return windows with their truth."""
        recipe = preset(
            *("default", dim, 1),
            window=SALGAN_WINDOW[dim],
            batch=8,
            empty_share=0.0,
            appearance=False,  # it is given the looks that it is asked about, and them alone
            seed=SEED,
        )
        return Source(self, recipe)

    def _sample(self, number: int) -> Sample:
        with self._making:
            if not self._kept:
                numbers = range(LESSONS)
                self._kept = map_lanes(lambda n: simulate(self.config, n), numbers, self._jobs)
        return self._kept[number]


def _rivals(folder: Path, dim: int, lessons: _Lessons) -> list[Method]:
    trained, random = _classifiers(folder, dim, lessons)
    generator = _salgan(folder, dim, lessons)
    control = {f"{n}, random weights": b for n, b in gradient_methods(random).items()}
    rows: list[tuple[nn.Module, dict[str, Baseline]]] = [
        (trained, gradient_methods(trained)),
        (random, {name: control[name] for name in CONTROLS}),
        (generator, {SALGAN: generator.saliency}),
    ]
    return [
        of_baseline(name, baseline, dim, {"weights": digest(network.state_dict())})
        for network, methods in rows
        for name, baseline in methods.items()
    ]


def gradient_methods(classifier: Classifier) -> dict[str, Baseline]:
    """Return the gradient methods by name, of the class that a classifier predicts of an image.

    Parameters
    ----------
    classifier
        Of the images' or volumes' dimension.
    """
    find = classifier.target

    def backprop(image: Map) -> Map:
        x = torch.from_numpy(image)[None, None]
        return as_map(visual_backprop(classifier.maps(x), KERNEL, STRIDE, image.shape))

    def path(of: Target, image: Map) -> Any:
        return integrated(of, image, steps=SIG_STEPS)

    return {
        "VA": lambda image: as_map(gradient(find(image), image)),
        "SVA": lambda image: as_map(smoothed(gradient, find(image), image)),
        "IG": lambda image: as_map(integrated(find(image), image)),
        "SIG": lambda image: as_map(smoothed(path, find(image), image, copies=SIG_COPIES)),
        "VBP": backprop,
    }


def _classifiers(folder: Path, dim: int, lessons: _Lessons) -> tuple[Classifier, Classifier]:
    """Return the trained classifier, and one of the same classes with random weights."""
    path = folder / f"classifier-{dim}d{SUFFIX}"
    if not path.exists():
        steps = CLASSIFIER_STEPS[dim]
        logger.info("%d-D: training a classifier of complexes, %d steps", dim, steps)
        made, card = train_classifier(lessons.classes(), dim, steps=steps, kinds=KINDS, seed=SEED)
        logger.info("%d-D: classifier: %s", dim, card)
        made.save(path, card)
    trained = Classifier.load(path)
    return trained, Classifier(dim, trained.classes, SEED).eval().requires_grad_(False)


def _salgan(folder: Path, dim: int, lessons: _Lessons) -> Generator:
    path = folder / f"salgan-{dim}d{SUFFIX}"
    if not path.exists():
        steps = SALGAN_STEPS[dim]
        logger.info("%d-D: training SalGAN, %d steps", dim, steps)
        made = train_salgan(lessons.truth(dim), dim, steps=steps, seed=SEED)
        made.save(path, {"steps": steps})
    return Generator.load(path)
