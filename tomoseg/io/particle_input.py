"""Particles that other programs picked, brought into voxels of a volume.

Reads what `particle_files` writes, and the same formats as others write them.
"""

import csv
import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomoseg.config import PARTICLE_SUFFIXES
from tomoseg.errors import InputError, TomosegError, printable
from tomoseg.io.parquet import read_parquet
from tomoseg.io.particle_files import Export
from tomoseg.io.particle_frames import (
    DYNAMO_SHIFT,
    IMOD_SHIFT,
    from_centred,
    from_copick,
    from_pixels,
    tilt_of,
)
from tomoseg.io.picks import Picks
from tomoseg.io.star import Block, read_star

Points = NDArray[np.float64]

MEASURES = ("score", "volume_angstrom3", "border")
"""Columns of a table that are taken along."""

_NAMES = ("rlnTomoName", "rlnMicrographName")
_PIXELS = tuple(f"rlnCoordinate{axis}" for axis in "XYZ")
_CENTRED = tuple(f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ")


def is_particles(path: Path) -> bool:
    """Tell whether a name is that of a file of particles."""
    return path.suffix.lower() in PARTICLE_SUFFIXES


def read_particles(
    path: Path, grid: Picks, options: Export | None = None, *, also: Collection[str] = ()
) -> Picks:
    """Read the particles of one tomogram.

    Parameters
    ----------
    path
        STAR (RELION, Warp), copick JSON, CSV or Parquet with columns z, y, x, CryoET Data
        Portal ndjson, Dynamo table or IMOD points.
    grid
        Of the volume, without particles: its name chooses among several tomograms in a STAR
        file or a table, where there are several.
    options
        What the file's coordinates refer to: binning, centre, sizes; None for the usual.
    also
        Further names by which the tomogram may go.

    Returns
    -------
    Picks
        `grid` with centres in its voxels; of a table also `MEASURES`, NaN where one is missing.

    Raises
    ------
    InputError
        Where it cannot be read, or holds other tomograms only.
    RequestError
        Where that takes a library that is not installed.
    """
    options, names = options or Export(), {grid.name, *also}
    columns: dict[str, NDArray[np.float64]] = {}
    kind = PARTICLE_SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise InputError(
            f"{path}: expected a name that ends in {', '.join(PARTICLE_SUFFIXES)}.",
            "Convert the particles into one of these first.",
        )
    try:
        if kind == "relion4":
            xyz = _from_star(path, grid, options, names)
        elif kind in ("csv", "parquet"):
            table = _read_csv(path) if kind == "csv" else read_parquet(path)
            xyz, columns = _from_table(path, table, names)
        elif kind == "copick":
            content = json.loads(path.read_text(encoding="utf-8"))
            xyz = from_copick(_locations(content["points"]), grid)
        elif kind == "portal":
            lines = path.read_text(encoding="utf-8").splitlines()
            xyz = _locations([json.loads(line) for line in lines if line.strip()])
        else:
            numbers = _from_text(path, 3 if kind == "imod" else 26)
            xyz = numbers[:, -3:] - (IMOD_SHIFT if kind == "imod" else DYNAMO_SHIFT)
    except TomosegError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise InputError(f"{path}: expected particles, got {printable(str(error))}.") from error
    if not np.isfinite(xyz).all():
        raise InputError(f"{path}: expected finite coordinates, got others.")
    origin, size = grid.origin_angstrom, grid.voxel_size_angstrom
    return Picks(grid.name, grid.shape, size, origin, xyz[:, ::-1].copy(), columns)


def _points(columns: Sequence[Any]) -> Points:
    return np.array(columns, np.float64).reshape(3, -1).T


def _locations(points: Sequence[Mapping[str, Any]]) -> Points:
    return _points([[point["location"][axis] for point in points] for axis in "xyz"])


def _from_star(path: Path, grid: Picks, options: Export, names: Collection[str]) -> Points:
    for block in read_star(path).values():
        for columns in (_CENTRED, _PIXELS):
            if not set(columns) <= block.keys():
                continue
            rows = _rows(path, block, names)
            values = _points([[block[name][row] for row in rows] for name in columns])
            tilt = tilt_of(grid, options.binning, options.tomograms)
            if columns is _PIXELS:
                return from_pixels(values, tilt)
            return from_centred(values, tilt, options.centre)
    raise InputError(
        f"{path}: expected columns {', '.join(_PIXELS)} or {', '.join(_CENTRED)}, found none."
    )


def _rows(path: Path, block: Block, names: Collection[str]) -> list[int]:
    column = next((block[key] for key in _NAMES if key in block), None)
    if column is None:
        return list(range(len(next(iter(block.values())))))
    found = [Path(value).name.removesuffix(".tomostar") for value in column]
    return _of_tomogram(path, found, names)


def _of_tomogram(path: Path, found: Sequence[str], names: Collection[str]) -> list[int]:
    """Return the rows of a tomogram; all of them where there is only one, whatever its name."""
    every = set(found)
    if len(every) > 1 and every.isdisjoint(names):
        raise InputError(
            f"{path}: expected particles of {' or '.join(sorted(names))}, "
            f"got those of {printable(sorted(every))}.",
            "Name it there as it is called here; 'tomoseg evaluate' takes --tomo-name instead.",
        )
    return [row for row, name in enumerate(found) if len(every) == 1 or name in names]


def _read_csv(path: Path) -> dict[str, list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    return {name: [row[name] for row in rows] for name in reader.fieldnames or []}


def _from_table(
    path: Path, table: Mapping[str, Sequence[Any]], names: Collection[str]
) -> tuple[Points, dict[str, NDArray[np.float64]]]:
    if not {"z", "y", "x"} <= table.keys():
        raise InputError(
            f"{path}: expected columns z, y, x in voxels, got {', '.join(table) or 'none'}."
        )
    rows = list(range(len(table["z"])))
    if "tomogram" in table:
        rows = _of_tomogram(path, table["tomogram"], names)
    missing: Sequence[Any] = [None] * len(table["z"])
    columns = {name: table.get(name, missing) for name in MEASURES}
    return _points([[table[axis][row] for row in rows] for axis in "xyz"]), {
        name: np.array([_number(column[row]) for row in rows], np.float64)
        for name, column in columns.items()
    }


def _number(cell: Any) -> float:
    return math.nan if cell in ("", None) else float(cell)


def _from_text(path: Path, least: int) -> Points:
    """Return columns of numbers, as far as the last of a point's three."""
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [[float(word) for word in words] for words in lines if words]
    if rows and min(map(len, rows)) < least:
        raise InputError(f"{path}: expected {least} columns, got {min(map(len, rows))}.")
    if least == 3:
        return np.array([row[-3:] for row in rows], np.float64).reshape(-1, 3)
    return np.array([row[23:26] for row in rows], np.float64).reshape(-1, 3)
