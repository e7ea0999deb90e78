"""A small classifier of simulated complexes: the network that gradient methods look into."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tomoseg.evaluation.baselines.gradients import Target
from tomoseg.evaluation.baselines.scale import Map
from tomoseg.pretrain.augment import turn
from tomoseg.saliency.lanes import lane_setup
from tomoseg.saliency.layers import NORM
from tomoseg.saliency.weights import read_tensors, write_tensors

CHANNELS = (8, 16, 32, 64)
KERNEL, STRIDE = 3, 2
WINDOW = 32
"""Edge of the windows around particles, voxels."""

ICE = "ice"
"""The class of places without a particle."""

BATCH = 16
RATE = 3e-3
_KEY = "tomoseg_classifier"


@dataclass(frozen=True, eq=False)
class Lesson:
    """A simulated tomogram with what its particles are.

    Parameters
    ----------
    intensities
        Normalised, salient objects bright, z, y, x; at least `WINDOW` along each axis.
    particles
        Name and centre, z, y, x in voxels, of each complex.
    """

    intensities: Map
    particles: Sequence[tuple[str, tuple[float, float, float]]]


class Classifier(nn.Module):
    """Strided convolutions, normalised, with ReLU, the mean over space, and a linear layer.

    Strides in place of max-pooling, whose backward pass has no fixed order in 3-D. In use
    normalisation has fixed statistics: were they the input's own, the answer would hardly
    change on the way from zeros to the input, and integrated gradients would miss it.

    Parameters
    ----------
    dim
        2 or 3.
    classes
        Names.
    seed
        Of the fresh weights.
    """

    def __init__(self, dim: int, classes: Sequence[str], seed: int) -> None:
        super().__init__()
        self.dim, self.classes = dim, tuple(classes)
        layer = nn.Conv3d if dim == 3 else nn.Conv2d
        edges = zip((1, *CHANNELS), CHANNELS, strict=False)
        self.convolutions = nn.ModuleList(
            layer(a, b, KERNEL, STRIDE, KERNEL // 2) for a, b in edges
        )
        self.norms = nn.ModuleList(NORM[dim](channels) for channels in CHANNELS)
        self.last = nn.Linear(CHANNELS[-1], len(self.classes))
        generator = torch.Generator().manual_seed(seed)
        for parameter in (*self.convolutions.parameters(), *self.last.parameters()):
            spread = (2 / parameter[0].numel()) ** 0.5 if parameter.dim() > 1 else 0.0
            nn.init.normal_(parameter, 0, spread, generator=generator)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Return the rectified map of each convolution, first to last."""
        found = []
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = torch.relu(norm(convolution(x)))
            found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, 1, *spatial)`` to ``(N, classes)`` logits."""
        scores: Tensor = self.last(self.maps(x)[-1].flatten(2).mean(2))
        return scores

    def target(self, image: Map) -> Target:
        """Return the logit of the class that it predicts of an image, as a function of any."""
        x = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None, None]
        predicted = int(self(x).argmax())

        def logit(x: Tensor) -> Tensor:
            found: Tensor = self(x)[:, predicted].sum()
            return found

        return logit

    def save(self, path: Path, card: dict[str, float]) -> None:
        """Write as safetensors with what is known of it."""
        values = {"dim": self.dim, "classes": list(self.classes), "card": card}
        write_tensors(
            path, {k: v.contiguous() for k, v in self.state_dict().items()}, {_KEY: values}
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            Where the file is something else.
        """
        tensors, values = read_tensors(path, _KEY)
        made = cls(values["dim"], values["classes"], 0)
        made.load_state_dict(tensors)
        return made.eval().requires_grad_(False)


def train_classifier(
    lessons: Sequence[Lesson], dim: int, *, steps: int, kinds: int, seed: int
) -> tuple[Classifier, dict[str, float]]:
    """Train on windows around the commonest complexes, and on ice.

    Parameters
    ----------
    lessons
        The last of them is held out.
    dim
        2 for slices through centres, 3 for windows.
    steps
        Of `BATCH` windows each.
    kinds
        Complexes, at most, that are told apart.
    seed
        Decides every bit.

    Returns
    -------
    classifier, card
        In eval mode, and its accuracy on windows of the last steps and on the held-out
        tomogram, beside the number of classes.
    """
    lane_setup()
    common = Counter(name for lesson in lessons for name, _ in lesson.particles).most_common(kinds)
    model = Classifier(dim, [ICE, *sorted(name for name, _ in common)], seed)
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    right = []
    for step in range(steps):
        x, wanted = _batch(lessons[:-1], model, np.random.default_rng([seed, step]))
        logits = model(x)
        right.append(float((logits.argmax(1) == wanted).float().mean()))
        optimiser.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(logits, wanted))
        optimiser.step()
    model.eval().requires_grad_(False)
    tests = [_batch(lessons[-1:], model, np.random.default_rng([seed, steps, n])) for n in range(8)]
    held = float(np.mean([float((model(x).argmax(1) == w).float().mean()) for x, w in tests]))
    last = float(np.mean(right[-max(1, steps // 5) :]))
    return model, {"classes": len(model.classes), "accuracy": last, "held_out_accuracy": held}


def _batch(
    lessons: Sequence[Lesson], model: Classifier, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return windows, classes in turn, and their classes."""
    by_class: dict[int, list[tuple[int, tuple[float, float, float]]]] = {}
    for number, lesson in enumerate(lessons):
        for name, centre in lesson.particles:
            if name in model.classes:
                by_class.setdefault(model.classes.index(name), []).append((number, centre))
    images, wanted = [], []
    choices = [0, *sorted(by_class)]
    for _ in range(BATCH):
        kind = choices[int(generator.integers(len(choices)))]
        if kind:
            places = by_class[kind]
            number, centre = places[int(generator.integers(len(places)))]
            lesson, at = lessons[number], np.array(centre)
        else:
            lesson = lessons[int(generator.integers(len(lessons)))]
            at = _ice(lesson, generator)
        images.append(_window(lesson.intensities, at, model.dim, generator))
        wanted.append(kind)
    return torch.from_numpy(np.stack(images)[:, None]), torch.tensor(wanted)


def _ice(lesson: Lesson, generator: np.random.Generator) -> NDArray[np.float64]:
    """Return the place, of a few at random, that is farthest from every particle."""
    tries = generator.uniform(0, lesson.intensities.shape, (16, 3))
    if not lesson.particles:
        return np.asarray(tries[0])
    centres = np.array([centre for _, centre in lesson.particles])
    distances = np.linalg.norm(tries[:, None] - centres[None], axis=2).min(1)
    return np.asarray(tries[distances.argmax()])


def _window(
    values: Map, centre: NDArray[np.float64], dim: int, generator: np.random.Generator
) -> Map:
    """Cut a window around a centre, moved a little; in 2-D a slice across a random axis."""
    moved = np.rint(centre + generator.uniform(-3, 3, 3)).astype(int)
    low = [
        int(np.clip(c - WINDOW // 2, 0, n - WINDOW))
        for c, n in zip(moved, values.shape, strict=True)
    ]
    cut = values[tuple(slice(a, a + WINDOW) for a in low)]
    axis = int(generator.integers(3))
    if dim == 2:
        middle = int(np.clip(moved[axis] - low[axis], 0, WINDOW - 1))
        cut = cut.take([middle], axis).squeeze(axis)
    return turn(cut, np.zeros(cut.shape, np.uint8), generator, quarter_turns=False)[0]
