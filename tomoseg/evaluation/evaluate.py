"""A prediction in a file against a truth in another, block by block.

Two passes, one to find where the S-measure splits the truth and one to count; sums are of
whole numbers, so that blocks give what the arrays in memory would.
"""

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tomoseg.errors import InputError
from tomoseg.geometry import Box, Index, Lattice
from tomoseg.io.volume import Triple, open_volume
from tomoseg.metrics import Agreement, Scores, as_levels, boxes_around, score_boxes

EDGE = 256
"""Of what is read at once, in voxels."""

IMAGES = (".tif", ".tiff", ".png")
VOXEL_SIZE_TOLERANCE = 0.01

Progress = Callable[[int, int], None]


class _Reader(Protocol):
    def read(self, box: Box) -> NDArray[Any]:
        """Return the voxels of a box."""

    def close(self) -> None:
        """Release what it holds."""


class _Image:
    """A grey image as a volume of one plane, or a stack as one of several."""

    def __init__(self, path: Path) -> None:
        from skimage.io import imread

        try:
            values = np.asarray(imread(path))
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(f"{path}: expected an image, got {error}.") from error
        if values.ndim == 3 and values.shape[-1] in (3, 4) and path.suffix.lower() == ".png":
            raise InputError(
                f"{path}: expected a grey image, got one of {values.shape[-1]} colours.",
                "Save it as grey.",
            )
        self.values = values[None] if values.ndim == 2 else values
        if self.values.ndim != 3:
            raise InputError(f"{path}: expected 2 or 3 axes, got {values.ndim}.")

    def read(self, box: Box) -> NDArray[Any]:
        """Return the voxels of a box."""
        return self.values[box.slices]

    def close(self) -> None:
        """Hold nothing but the array."""


class _Input:
    """One of the two files: its reader, shape and voxel size."""

    def __init__(self, path: str, array: str | None) -> None:
        self.path = path
        self.voxel_size: Triple | None = None
        self.reader: _Reader
        if Path(path).suffix.lower() in IMAGES and Path(path).is_file():
            image = _Image(Path(path))
            self.reader, self.shape = image, image.values.shape
        else:
            volume = open_volume(path, array=array)
            self.reader, self.shape = volume.reader(), volume.shape
            self.voxel_size = volume.voxel_size_angstrom


def evaluate(
    prediction: str,
    truth: str,
    *,
    prediction_array: str | None = None,
    truth_array: str | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Score a prediction against a truth; neither is read whole, but for images.

    Parameters
    ----------
    prediction
        Path of an MRC, Zarr, TIFF or PNG file: saliency 0-255 in whole numbers or 0-1 in
        floating point, or a mask of 0 and 1. Of an output of ``segment`` the saliency.
    truth
        Path of another of the same shape; what is not 0 is inside.
    prediction_array, truth_array
        Which array, of Zarr hierarchies with several.
    progress
        Called with how many of all blocks are done, over both passes.

    Raises
    ------
    InputError
        Where shapes or voxel sizes differ, or values are no saliency.
    """
    report = progress or (lambda done, total: None)
    found, expected = _Input(prediction, prediction_array), _Input(truth, truth_array)
    with contextlib.closing(found.reader), contextlib.closing(expected.reader):
        _require_alike(found, expected)
        return _score(found, expected, report)


def _score(found: _Input, expected: _Input, report: Progress) -> Scores:
    cells = Lattice(found.shape, EDGE)
    positives, moments, highest = 0, [0] * 3, 0.0
    for number, cell in enumerate(cells):
        inside = expected.reader.read(cell) != 0
        count, moment = _moments(inside, cell)
        positives += count
        moments = [a + b for a, b in zip(moments, moment, strict=True)]
        highest = max(highest, _highest(found.reader.read(cell)))
        report(number + 1, 2 * len(cells))
    boxes = boxes_around(_centre(positives, moments, found.shape), found.shape)
    halves = [Box(tuple(s.start for s in b), tuple(s.stop for s in b)) for b in boxes]
    counted = [Agreement(np.zeros((2, 256), np.int64)) for _ in halves]
    for number, cell in enumerate(cells):
        levels = _levels(found.reader.read(cell), highest, found.path)
        inside = expected.reader.read(cell) != 0
        for k, half in enumerate(halves):
            part = half.intersect(cell)
            if part.size:
                index = part.relative_to(cell).slices
                counted[k] = counted[k] + Agreement.of(levels[index], inside[index])
        report(len(cells) + number + 1, 2 * len(cells))
    return score_boxes(counted)


def _require_alike(found: _Input, expected: _Input) -> None:
    if found.shape != expected.shape:
        raise InputError(
            f"expected one shape, got {' x '.join(map(str, found.shape))} in {found.path} and "
            f"{' x '.join(map(str, expected.shape))} in {expected.path} (z, y, x).",
            "Bring both onto one grid first.",
        )
    if found.voxel_size is None or expected.voxel_size is None:
        return
    for one, other in zip(found.voxel_size, expected.voxel_size, strict=True):
        if not math.isclose(one, other, rel_tol=VOXEL_SIZE_TOLERANCE):
            raise InputError(
                f"expected one voxel size, got {one:.4g} A in {found.path} and {other:.4g} A in "
                f"{expected.path}.",
                "They do not lie over one another, or a header is wrong: correct it first.",
            )


def _moments(inside: NDArray[np.bool_], cell: Box) -> tuple[int, list[int]]:
    """Return voxels inside, and the sum of their coordinates along each axis."""
    moments = []
    for axis, start in enumerate(cell.start):
        others = tuple(k for k in range(inside.ndim) if k != axis)
        counts = np.count_nonzero(inside, axis=others)
        moments.append(int(counts @ (np.arange(len(counts)) + start)))
    return int(np.count_nonzero(inside)), moments


def _centre(positives: int, moments: list[int], shape: Index) -> Index:
    """Return where the S-measure splits the volume, as `tomoseg.metrics.centre_of` does."""
    if not positives:
        return shape
    return tuple(round(moment / positives) + 1 for moment in moments)


def _highest(values: NDArray[Any]) -> float:
    return float(values.max()) if values.size else 0.0


def _levels(values: NDArray[Any], highest: float, path: str) -> NDArray[np.uint8]:
    """Return saliency 0-255, of a mask, of whole numbers 0-255, or of a share 0-1."""
    try:
        if np.issubdtype(values.dtype, np.floating):
            return as_levels(values)
        if values.size and values.min() < 0:
            raise ValueError(f"expected no negative values, got {values.min()}")
        if highest > 255:
            raise ValueError(f"expected whole numbers of at most 255, got {highest:g}")
        return values.astype(np.uint8) * np.uint8(255 if highest <= 1 else 1)
    except ValueError as error:
        raise InputError(
            f"{path}: {error}.",
            "A prediction holds saliency 0-255 or 0-1, or a mask of 0 and 1.",
        ) from error
