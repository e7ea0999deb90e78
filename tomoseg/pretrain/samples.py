"""Training and validation windows: which, from where, in what form, prepared ahead.

A window of a step follows from (seed, step, number) alone, whatever ran before.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tomoseg.errors import RequestError
from tomoseg.geometry import Box, Index, whole
from tomoseg.intensity import normalise, robust_location_scale, smooth
from tomoseg.pretrain.augment import empty_ice, turn, vary
from tomoseg.pretrain.recipe import Recipe

HELD_BYTES = 4 * 2**30
"""Tomograms are kept in memory up to this; the others are read window by window."""

AHEAD = 3
"""Batches that are prepared while a step is computed."""

PLACES = 3
"""Places looked at where a window should hold truth."""

VALIDATION = 2**32
"""In place of the step, in the seeds of validation windows."""

Result = TypeVar("Result")


class Tomograms(Protocol):
    """Simulated tomograms of one shape with their truth (`tomoseg.simulate.dataset`)."""

    @property
    def shape(self) -> Index:
        """Voxels of each tomogram, z, y, x."""

    @property
    def voxel_size_angstrom(self) -> float:
        """Edge of a voxel."""

    @property
    def split(self) -> str:
        """``train``, ``validation`` or ``test``."""

    def __len__(self) -> int:
        """Return the number of tomograms."""

    def image(self, index: int, box: Box, /) -> NDArray[np.float32]:
        """Return normalised intensities, salient objects bright."""

    def salient(self, index: int, box: Box, /) -> NDArray[np.uint8]:
        """Return the truth, 0 or 1."""


class Joined:
    """Several sets of simulated tomograms as one, in their order (see `Tomograms`).

    Parameters
    ----------
    sets
        At least one.

    Raises
    ------
    RequestError
        Where shape, voxel size or split differ.
    """

    def __init__(self, sets: Sequence[Tomograms]) -> None:
        kinds = {(s.shape, s.voxel_size_angstrom, s.split) for s in sets}
        if len(kinds) > 1:
            found = " and ".join(f"{z} x {y} x {x}, {v:g} A, {p}" for (z, y, x), v, p in kinds)
            raise RequestError(
                f"datasets: expected one shape, voxel size and split, got {found}.",
                "Simulate them alike.",
            )
        ((self.shape, self.voxel_size_angstrom, self.split),) = kinds
        self._places = [(tomograms, n) for tomograms in sets for n in range(len(tomograms))]

    def __len__(self) -> int:
        """Return the number of tomograms in all sets."""
        return len(self._places)

    def image(self, index: int, box: Box, /) -> NDArray[np.float32]:
        """Return normalised intensities, salient objects bright."""
        tomograms, number = self._places[index]
        return tomograms.image(number, box)

    def salient(self, index: int, box: Box, /) -> NDArray[np.uint8]:
        """Return the truth, 0 or 1."""
        tomograms, number = self._places[index]
        return tomograms.salient(number, box)


class Batch(NamedTuple):
    """Windows and their truth, float32 arrays ``(N, 1, *spatial)``."""

    images: NDArray[np.float32]
    truths: NDArray[np.float32]


class Source:
    """Windows of tomograms, for one recipe.

    Parameters
    ----------
    tomograms
        Where they are cut from.
    recipe
        Says how.

    Raises
    ------
    RequestError
        Where a tomogram is smaller than a window, or there is none.
    """

    def __init__(self, tomograms: Tomograms, recipe: Recipe) -> None:
        _check(tomograms, recipe)
        self._tomograms, self._recipe = tomograms, recipe
        self._held: dict[int, tuple[NDArray[np.float16], NDArray[np.uint8]]] = {}
        self._scales: dict[int, tuple[float, float]] = {}
        self._room = HELD_BYTES // (3 * whole(tomograms.shape).size)

    def batch(self, step: int) -> Batch:
        """Return the windows of a training step."""
        return _stack([self._training(step, number) for number in range(self._recipe.batch)])

    def validation(self) -> list[Batch]:
        """Return the validation windows one by one: evenly from all tomograms, unchanged."""
        count = self._recipe.validation_windows
        return [_stack([self._validation(number)]) for number in range(count)]

    def _training(self, step: int, number: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        generator = np.random.default_rng([self._recipe.seed, step, number])
        if generator.random() < self._recipe.empty_share:
            shape = (self._recipe.window,) * self._recipe.architecture.dim
            return vary(empty_ice(shape, generator), generator), np.zeros(shape, np.uint8)
        index = int(generator.integers(len(self._tomograms)))
        salient = generator.random() < self._recipe.salient_share
        box, axis = self._place(index, generator, salient=salient)
        image, truth = self._cut(index, box)
        alike = axis in (None, 0)  # y and x are alike: across the beam
        image, truth = turn(image, truth, generator, quarter_turns=alike)
        return (vary(image, generator) if self._recipe.appearance else image), truth

    def _validation(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        generator = np.random.default_rng([self._recipe.seed, VALIDATION, number])
        index = number * len(self._tomograms) // self._recipe.validation_windows
        box, _ = self._place(index, generator, salient=True)
        return self._cut(index, box)

    def _place(
        self, index: int, generator: np.random.Generator, *, salient: bool
    ) -> tuple[Box, int | None]:
        """Return a random window and, of a slice, the axis across it."""
        for _ in range(PLACES):
            place = self._anywhere(generator)
            if not salient or self._cut(index, place[0])[1].any():
                break
        return place

    def _anywhere(self, generator: np.random.Generator) -> tuple[Box, int | None]:
        flat = self._recipe.architecture.dim == 2
        axis = int(generator.integers(3)) if flat else None
        shape = tuple(1 if a == axis else self._recipe.window for a in range(3))
        room = np.subtract(self._tomograms.shape, shape)
        start = tuple(int(n) for n in generator.integers(0, room + 1))
        return Box(start, tuple(a + n for a, n in zip(start, shape, strict=True))), axis

    def _cut(self, index: int, box: Box) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return image and truth of a window, without the axis across a slice."""
        image, truth = self._read(index, box)
        shape = [self._recipe.window] * self._recipe.architecture.dim
        return image.astype(np.float32).reshape(shape), truth.reshape(shape)

    def _read(self, index: int, box: Box) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
        """Read from memory where the tomogram is held; the same values where it is not."""
        if index not in self._held and len(self._held) < self._room:
            self._held[index] = self._load(index, whole(self._tomograms.shape))
        if index in self._held:
            image, truth = self._held[index]
            return image[box.slices], truth[box.slices]
        return self._load(index, box)

    def _load(self, index: int, box: Box) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
        image = self._image(index, box).astype(np.float16)
        return image, self._tomograms.salient(index, box)

    def _image(self, index: int, box: Box) -> NDArray[np.float32]:
        if not self._recipe.smoothed:
            return self._tomograms.image(index, box)
        everything = whole(self._tomograms.shape)
        seen = box.grow(1).intersect(everything)
        smoothed = smooth(self._tomograms.image(index, seen))
        if index not in self._scales:
            volume = smoothed
            if seen != everything:
                volume = smooth(self._tomograms.image(index, everything))
            self._scales[index] = robust_location_scale(volume)
        return normalise(smoothed[box.relative_to(seen).slices], *self._scales[index])


def prefetch(make: Callable[[int], Result], steps: Iterable[int]) -> Iterator[Result]:
    """Yield ``make(step)`` in order, `AHEAD` of them prepared by a background thread."""
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        for step in steps:
            pending.append(pool.submit(make, step))
            if len(pending) > AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def require_split(tomograms: Tomograms, expected: str, purpose: str) -> None:
    """Refuse tomograms of another split.

    Raises
    ------
    RequestError
        Where the split is not `expected`.
    """
    if tomograms.split != expected:
        raise RequestError(
            f"{purpose}: expected tomograms of split {expected!r}, got {tomograms.split!r}.",
            "What is trained on must not choose or test the weights; simulate another split.",
        )


def _check(tomograms: Tomograms, recipe: Recipe) -> None:
    if not len(tomograms):
        raise RequestError("dataset: expected at least one tomogram, got none.")
    if min(tomograms.shape) < recipe.window:
        raise RequestError(
            f"dataset: expected tomograms of at least {recipe.window} voxels along every axis, "
            f"got {tomograms.shape}.",
            "Simulate larger tomograms.",
        )


def _stack(windows: list[tuple[NDArray[np.float32], NDArray[np.uint8]]]) -> Batch:
    images = np.stack([image for image, _ in windows])[:, None]
    truths = np.stack([truth for _, truth in windows])[:, None].astype(np.float32)
    return Batch(images, truths)
