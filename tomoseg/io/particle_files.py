"""Particles as the files that other programs read: STAR, tables, JSON, text.

Knows names and columns; where a particle lies in a program's coordinates is said by
`particle_frames`. What a mask cannot tell, orientations above all, is left out.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomoseg.config import PARTICLE_SUFFIXES, Centre, ParticleFormat
from tomoseg.errors import InputError, RequestError
from tomoseg.io.parquet import parquet_bytes, require_parquet
from tomoseg.io.particle_frames import (
    DYNAMO_SHIFT,
    IMOD_SHIFT,
    Tilt,
    tilt_of,
    to_centred,
    to_copick,
    to_pixels,
)
from tomoseg.io.picks import Picks
from tomoseg.io.star import read_star, star_text
from tomoseg.io.storage import publish, require_writable, storage_errors, temporary_sibling

IN_PIXELS: tuple[ParticleFormat, ...] = ("relion4", "relion5", "warp")
"""Formats whose coordinates refer to the unbinned volume."""

_DYNAMO_COLUMNS = 35
_NO_NAME = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\s_]')
"""What copick allows in no name of an object, a user or a session."""


@dataclass(frozen=True)
class Export:
    """How particles are written.

    Parameters
    ----------
    centre
        Middle of RELION 5's coordinates.
    binning
        Unbinned pixels in a voxel; None for 1, or what `tomograms` say.
    tomograms
        Sizes and pixels of a ``tomograms.star``, by name; None for none.
    object_name, user, session
        As copick has them.
    """

    centre: Centre = "half"
    binning: float | None = None
    tomograms: dict[str, Tilt] | None = None
    object_name: str = "particle"
    user: str = "tomoseg"
    session: str = "0"

    def __post_init__(self) -> None:
        if self.binning is not None and not self.binning > 0:
            raise RequestError(f"--binning: expected a number above 0, got {self.binning}.")
        for what in (self.object_name, self.user, self.session):
            if not what or _NO_NAME.search(what):
                raise RequestError(
                    f"copick: expected a name without underscores, spaces and slashes, got {what}."
                )


@dataclass(frozen=True)
class Destination:
    """A file that particles go to.

    Parameters
    ----------
    format
        What writes it.
    path
        The file.
    """

    format: ParticleFormat
    path: Path


def parse_destination(text: str, default: ParticleFormat | None = None) -> Destination:
    """Return what ``PATH`` or ``FORMAT:PATH`` stands for.

    Parameters
    ----------
    text
        As the user wrote it.
    default
        Format of a path that names none; None for what its suffix says.

    Raises
    ------
    RequestError
        Where neither says a format.
    """
    head, colon, tail = text.partition(":")
    named = next((name for name in FORMATS if colon and name == head), None)
    if named and tail:
        return Destination(named, Path(tail))
    chosen = default or PARTICLE_SUFFIXES.get(Path(text).suffix.lower())
    if chosen is None:
        raise RequestError(
            f"--out {text}: expected a name that ends in {', '.join(PARTICLE_SUFFIXES)}.",
            f"Or say the format: FORMAT:PATH with {', '.join(FORMATS)}.",
        )
    return Destination(chosen, Path(text))


def write_particles(
    tomograms: Sequence[Picks], destination: Destination, export: Export, *, overwrite: bool
) -> None:
    """Write the particles of one or several tomograms to a file, which appears when it is whole.

    Raises
    ------
    RequestError
        Where the format holds one tomogram only, or needs a library that is not installed.
    OutputExistsError
        Where something is there, without `overwrite`.
    StorageError
        Where the file system refuses.
    """
    require_room(destination, len(tomograms), overwrite=overwrite)
    content = FORMATS[destination.format](tomograms, export)
    write_whole(destination.path, content, overwrite=overwrite)


def require_room(destination: Destination, count: int, *, overwrite: bool) -> None:
    """Refuse a file that is there, or cannot be written so; see `write_particles`."""
    if count > 1 and destination.format in ("portal", "copick", "imod"):
        raise RequestError(
            f"{destination.path}: {destination.format} holds one tomogram, got {count}.",
            "Pick them one by one, or into STAR, CSV, a Dynamo table or --copick PROJECT.",
        )
    if destination.format == "parquet":
        require_parquet(destination.path)
    require_writable(destination.path, overwrite=overwrite)


def write_whole(path: Path, content: str | bytes, *, overwrite: bool) -> None:
    """Write a file that appears when it is whole, and the folders above it; text is UTF-8."""
    require_writable(path, overwrite=overwrite)
    temporary = temporary_sibling(path)
    with storage_errors("Writing", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
            publish(temporary, path, overwrite=overwrite)
        finally:
            temporary.unlink(missing_ok=True)


def read_tomograms(path: Path) -> dict[str, Tilt]:
    """Read size and pixel of each tomogram from RELION's ``tomograms.star``.

    Raises
    ------
    InputError
        Where it is none, or lacks a size.
    """
    needed = ("rlnTomoName", *(f"rlnTomoSize{axis}" for axis in "XYZ"))
    pixels = ("rlnTomoTiltSeriesPixelSize", "rlnMicrographOriginalPixelSize")
    for block in read_star(path).values():
        pixel = next((name for name in pixels if name in block), None)
        if pixel is None or not set(needed) <= block.keys():
            continue
        found = {}
        for name, x, y, z, size in zip(
            *(block[column] for column in (*needed, pixel)), strict=True
        ):
            try:
                numbers = [float(value) for value in (x, y, z, size)]
            except ValueError as error:
                raise InputError(f"{path}: expected numbers for {name}, got {error}.") from error
            if min(numbers) <= 0:
                raise InputError(
                    f"{path}: expected the size of {name}, got {x} x {y} x {z}.",
                    "Reconstruct the tomogram in RELION first, or leave --tomograms out.",
                )
            found[name] = Tilt(1.0, numbers[3], (numbers[0], numbers[1], numbers[2]))
        return found
    raise InputError(
        f"{path}: expected a tomograms.star with {', '.join((*needed, pixels[0]))}, found none."
    )


def _numbers(values: Any, digits: int = 6) -> list[str]:
    return [f"{value:.{digits}f}" for value in values]


def _star(
    tomograms: Sequence[Picks],
    name_column: str,
    columns: Sequence[str],
    points: Callable[[Picks], Any],
    *,
    name_suffix: str = "",
) -> str:
    """Return a STAR file of all tomograms, with a figure of merit where all have a score."""
    table: dict[str, list[str]] = {name_column: []}
    table |= {name: [] for name in columns}
    scored = all("score" in picks.columns for picks in tomograms)
    for picks in tomograms:
        table[name_column] += [f"{picks.name}{name_suffix}"] * len(picks)
        for name, values in zip(columns, np.asarray(points(picks)).T, strict=True):
            table[name] += _numbers(values)
        if scored:
            merits = table.setdefault("rlnAutopickFigureOfMerit", [])
            merits += _numbers(picks.columns["score"])
    return star_text("particles", table)


def _relion4(tomograms: Sequence[Picks], export: Export) -> str:
    return _in_pixels(tomograms, export, "rlnTomoName")


def _warp(tomograms: Sequence[Picks], export: Export) -> str:
    return _in_pixels(tomograms, export, "rlnMicrographName", ".tomostar")


def _in_pixels(
    tomograms: Sequence[Picks], export: Export, name_column: str, name_suffix: str = ""
) -> str:
    return _star(
        tomograms,
        name_column,
        [f"rlnCoordinate{axis}" for axis in "XYZ"],
        lambda picks: to_pixels(picks.xyz, tilt_of(picks, export.binning, export.tomograms)),
        name_suffix=name_suffix,
    )


def _relion5(tomograms: Sequence[Picks], export: Export) -> str:
    return _star(
        tomograms,
        "rlnTomoName",
        [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"],
        lambda picks: to_centred(
            picks.xyz, tilt_of(picks, export.binning, export.tomograms), export.centre
        ),
    )


def _dynamo(tomograms: Sequence[Picks], export: Export) -> str:
    """Return a Dynamo table; its columns are fixed, and those unknown hold 0."""
    rows, tag = [], 0
    for number, picks in enumerate(tomograms, start=1):
        scores = picks.columns.get("score", np.zeros(len(picks)))
        for point, score in zip(picks.xyz + DYNAMO_SHIFT, scores, strict=True):
            tag += 1
            row = ["0"] * _DYNAMO_COLUMNS
            row[0], row[1], row[2], row[19], row[21] = str(tag), "1", "1", str(number), "1"
            row[9] = f"{score:.6f}"
            row[23:26] = _numbers(point)
            rows.append(" ".join(row))
    return "".join(f"{row}\n" for row in rows)


def _portal(tomograms: Sequence[Picks], export: Export) -> str:
    """Return lines of JSON, points in voxels from 0."""
    (picks,) = tomograms
    points = [{"type": "point", "location": _xyz(point)} for point in picks.xyz]
    return "".join(f"{json.dumps(point)}\n" for point in points)


def _copick(tomograms: Sequence[Picks], export: Export) -> str:
    (picks,) = tomograms
    identity = np.eye(4).tolist()
    scores = picks.columns.get("score")
    points = []
    for number, point in enumerate(to_copick(picks.xyz, picks)):
        entry: dict[str, Any] = {"location": _xyz(point), "transformation_": identity}
        entry["instance_id"] = number + 1
        if scores is not None:
            entry["score"] = round(float(scores[number]), 6)
        points.append(entry)
    content = {
        "pickable_object_name": export.object_name,
        "user_id": export.user,
        "session_id": export.session,
        "run_name": picks.name,
        "voxel_spacing": float(picks.voxel_size_angstrom[2]),
        "unit": "angstrom",
        "trust_orientation": False,
        "points": points,
    }
    return json.dumps(content, indent=1)


def _xyz(point: Any) -> dict[str, float]:
    return {axis: round(float(value), 6) for axis, value in zip("xyz", point, strict=True)}


def _imod(tomograms: Sequence[Picks], export: Export) -> str:
    """Return points as ``point2model`` reads them."""
    (picks,) = tomograms
    rows = (" ".join(_numbers(point, 4)) for point in picks.xyz + IMOD_SHIFT)
    return "".join(f"{row}\n" for row in rows)


def _csv(tomograms: Sequence[Picks], export: Export) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    table = _table(tomograms)
    rows.writerow(table)
    digits = dict.fromkeys("zyx", 6) | dict.fromkeys(_ANGSTROM, 4)
    rows.writerows(
        zip(
            *(
                _numbers(values, digits[name]) if name in digits else map(_plain, values)
                for name, values in table.items()
            ),
            strict=True,
        )
    )
    return text.getvalue()


def _plain(value: Any) -> str:
    if not isinstance(value, np.floating):
        return str(value)
    return "" if np.isnan(value) else f"{value:.6g}"


def _parquet(tomograms: Sequence[Picks], export: Export) -> bytes:
    return parquet_bytes(_table(tomograms))


_ANGSTROM = tuple(f"{axis}_angstrom" for axis in "zyx")


def _table(tomograms: Sequence[Picks]) -> dict[str, NDArray[Any]]:
    """Return a table with everything that is known; positions in angstrom have the origin.

    What is known of some tomograms alone is NaN in the others.
    """
    counts = [len(picks) for picks in tomograms]
    table: dict[str, NDArray[Any]] = {
        "tomogram": np.repeat([picks.name for picks in tomograms], counts),
        "particle": np.concatenate([np.arange(1, count + 1) for count in counts]),
    }
    centres = np.concatenate([picks.centres for picks in tomograms])
    positions = np.concatenate([picks.positions_angstrom for picks in tomograms])
    table |= dict(zip("zyx", centres.T, strict=True))
    table |= dict(zip(_ANGSTROM, positions.T, strict=True))
    for name in dict.fromkeys(name for picks in tomograms for name in picks.columns):
        table[name] = np.concatenate(
            [picks.columns.get(name, np.full(len(picks), np.nan)) for picks in tomograms]
        )
    return table


FORMATS: dict[ParticleFormat, Callable[[Sequence[Picks], Export], str | bytes]] = {
    "relion4": _relion4,
    "relion5": _relion5,
    "warp": _warp,
    "dynamo": _dynamo,
    "portal": _portal,
    "copick": _copick,
    "imod": _imod,
    "csv": _csv,
    "parquet": _parquet,
}
"""What writes each format, by name."""
