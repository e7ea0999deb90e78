"""Particles for the report: read from a table, or measured roughly on the mask's pyramid."""

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cc3d
import numpy as np
from numpy.typing import NDArray

from tomoseg.errors import InputError, TomosegError, printable
from tomoseg.geometry import Index
from tomoseg.io.layout import Layout
from tomoseg.io.parquet import read_parquet
from tomoseg.io.star import read_star
from tomoseg.segmentation import Segmentation

MOST_VOXELS = 1 << 26
"""Of the level that is measured: labels of it take 256 MB."""

CONNECTIVITY: Final = 26

_CENTRED = tuple(f"rlncenteredcoordinate{axis}angst" for axis in "zyx")
_NAMES = ("tomogram", "rlntomoname", "rlnmicrographname")
_PIXELS = tuple(f"rlncoordinate{axis}" for axis in "zyx")


@dataclass(frozen=True)
class Particles:
    """Particles of one tomogram.

    Parameters
    ----------
    noun
        What they are called: particles, or components of a mask.
    source
        Where they come from, as a sentence for the reader.
    centres_zyx
        ``(N, 3)`` in voxels of the mask, z, y, x.
    volumes
        ``(N,)`` in cubic angstrom, NaN where unknown.
    scores
        ``(N,)``, NaN where unknown.
    at_border
        ``(N,)``: whether the tomogram's border cuts it; None where unknown.
    """

    noun: str
    source: str
    centres_zyx: NDArray[np.float64]
    volumes: NDArray[np.float64]
    scores: NDArray[np.float64]
    at_border: NDArray[np.bool_] | None

    def __len__(self) -> int:
        return len(self.centres_zyx)

    @property
    def diameters(self) -> NDArray[np.float64]:
        """Diameter in angstrom of the ball of the same volume."""
        return np.asarray(2 * np.cbrt(3 * self.volumes / (4 * math.pi)))


def measure_particles(segmentation: Segmentation) -> Particles:
    """Measure the components of the mask at the finest level that fits into memory.

    A coarse voxel is inside where any of its fine ones is: above level 0 volumes are upper
    bounds, and neighbours may have grown together.
    """
    layout = segmentation.layout
    level = measured_level(layout)
    mask = np.asarray(segmentation.level("mask", level)[:])
    labels, count = cc3d.connected_components(mask, connectivity=CONNECTIVITY, return_N=True)
    found = cc3d.statistics(labels)
    scale = np.array(layout.level_scale(level)) / np.array(layout.level_scale(0))
    # the centre of a coarse voxel lies between those of the fine ones that it stands for
    centres = (found["centroids"][1:].astype(np.float64)) * scale + (scale - 1) / 2
    boxes = found["bounding_boxes"][1:]
    cut = [
        any(b.start == 0 or b.stop >= n for b, n in zip(box, mask.shape, strict=True))
        for box in boxes
    ]
    voxels = found["voxel_counts"][1:].astype(np.float64)
    honesty = (
        "of the mask itself"
        if level == 0
        else f"of level {level} of the mask's pyramid, where volumes are upper bounds and "
        "neighbours may have grown together"
    )
    return Particles(
        noun="components",
        source=f"Components ({CONNECTIVITY} neighbours) {honesty}.",
        centres_zyx=centres.reshape(count, 3),
        volumes=voxels * math.prod(layout.level_scale(level)),
        scores=np.full(count, np.nan),
        at_border=np.array(cut, bool).reshape(count),
    )


def measured_level(layout: Layout) -> int:
    """Return the finest level of at most `MOST_VOXELS` voxels, or the coarsest."""
    fitting = (k for k in range(layout.levels) if math.prod(layout.level_shape(k)) <= MOST_VOXELS)
    return next(fitting, layout.levels - 1)


def read_particles(path: Path, segmentation: Segmentation) -> Particles:
    """Read a table of particles: CSV or Parquet with columns z, y, x in voxels, or a STAR file.

    Parameters
    ----------
    path
        ``.csv``, ``.parquet``: also columns ``volume_angstrom3``, ``score`` and ``border``
        are taken. ``.star``: ``rlnCoordinateX/Y/Z`` in voxels of the mask, or RELION 5's
        ``rlnCenteredCoordinateX/Y/ZAngst`` from the centre, half the size. Of several
        tomograms those that are called as the output or its input is.
    segmentation
        Whose particles they are.

    Raises
    ------
    InputError
        Where it cannot be read, or lacks a column or a number.
    RequestError
        Where that takes a library that is not installed.
    """
    read = {".star": _read_star, ".parquet": _read_parquet}.get(path.suffix.lower(), _read_csv)
    try:
        columns, rows = read(path)
        place = {name.lower(): number for number, name in enumerate(columns)}
        rows = _of_tomogram(path, place, rows, segmentation)
        centres = _centres(place, rows, segmentation.layout)
        if centres is None:
            raise InputError(
                f"{path}: expected columns z, y, x or rlnCoordinateZ, Y, X, "
                f"got {', '.join(columns) or 'none'}."
            )
        names = ("volume_angstrom3", "score", "border")
        volumes, scores, border = (_column(place, rows, name) for name in names)
    except TomosegError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, IndexError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: expected a table of numbers, got {error}.") from error
    cut = None if np.isnan(border).all() else border > 0
    return Particles("particles", f"Table {path.name}.", centres, volumes, scores, cut)


Rows = list[list[str]]
Table = tuple[list[str], Rows]


def _of_tomogram(path: Path, place: dict[str, int], rows: Rows, segmentation: Segmentation) -> Rows:
    """Return the rows of one tomogram; all of them where there is only one."""
    column = next((place[name] for name in _NAMES if name in place), None)
    if column is None:
        return rows
    names = [Path(row[column]).name.removesuffix(".tomostar") for row in rows]
    called = {Path(p).stem for p in (segmentation.path, segmentation.attributes["input"]["path"])}
    every = set(names)
    if len(every) > 1 and not every & called:
        raise InputError(
            f"{path}: expected particles of {' or '.join(sorted(called))}, "
            f"got those of {printable(sorted(every))}."
        )
    chosen = every & called if len(every) > 1 else every
    return [row for row, name in zip(rows, names, strict=True) if name in chosen]


def _centres(place: dict[str, int], rows: Rows, layout: Layout) -> NDArray[np.float64] | None:
    for names, convert in (
        (("z", "y", "x"), None),
        (_PIXELS, None),
        (_CENTRED, _from_centre(layout)),
    ):
        if set(names) <= place.keys():
            values = np.array([[float(row[place[n]]) for n in names] for row in rows], np.float64)
            values = values.reshape(-1, 3)
            return convert(values) if convert else values
    return None


def _from_centre(layout: Layout) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    shape: Index = layout.shape
    return lambda angstrom: angstrom / np.array(layout.level_scale(0)) + np.array(shape) / 2


def _column(place: dict[str, int], rows: Rows, name: str) -> NDArray[np.float64]:
    number = place.get(name)
    values = [row[number] if number is not None else "" for row in rows]
    return np.array([float(value) if value else math.nan for value in values], np.float64)


def _read_csv(path: Path) -> Table:
    with path.open(newline="", encoding="utf-8") as file:
        lines = [row for row in csv.reader(file) if row]
    return (lines[0], lines[1:]) if lines else ([], [])


def _read_parquet(path: Path) -> Table:
    table = read_parquet(path)
    rows = zip(*table.values(), strict=True)
    return list(table), [["" if cell is None else str(cell) for cell in row] for row in rows]


def _read_star(path: Path) -> Table:
    """Return the first loop that holds coordinates."""
    for block in read_star(path).values():
        if any(name.lower() in (*_PIXELS, *_CENTRED) for name in block):
            return list(block), [list(row) for row in zip(*block.values(), strict=True)]
    return [], []
