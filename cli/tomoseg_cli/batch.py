"""Which tomograms a command is for, where each is written, and what each is told of its own."""

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from tomoseg.config import ContrastRequest
from tomoseg.errors import InputError, RequestError, printable

COLUMNS = ("path", "out", "array", "voxel_size", "contrast", "roi")
"""Of a table of inputs; all but the first may be missing or empty."""


@dataclass(frozen=True)
class Item:
    """One tomogram of a batch.

    Parameters
    ----------
    path
        Of the input; a file, a Zarr folder or a URL.
    out
        Name of the output, ``NAME.zarr``; None to call it after the input.
    array
        Path of the array within a Zarr input; None for what the command says.
    roi
        Mask that the result is held to; None for what the command says.
    changes
        Fields of `tomoseg.config.SegmentConfig` that differ from the command's.
    """

    path: str
    out: str | None = None
    array: str | None = None
    roi: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)


def find_items(arguments: tuple[str, ...]) -> list[Item]:
    """Expand files, patterns, folders and tables (NAME.csv) into tomograms.

    Raises
    ------
    InputError
        Where an argument leads to nothing, or a table cannot be read.
    """
    from tomoseg.io.volume import find_inputs

    items: dict[tuple[str, str | None], Item] = {}
    for argument in arguments:
        if argument.lower().endswith(".csv") and Path(argument).is_file():
            found = read_table(Path(argument))
        else:
            found = [Item(path) for path in find_inputs([argument])]
        for item in found:
            items.setdefault((item.path, item.out), item)
    return list(items.values())


def read_table(table: Path) -> list[Item]:
    """Read a table of inputs: CSV with the columns `COLUMNS`, paths relative to its folder.

    Raises
    ------
    InputError
        Where it cannot be read; the message names the row and the column.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = list(reader.fieldnames or [])
            unknown = [name for name in columns if name not in COLUMNS]
            if "path" not in columns or unknown:
                raise InputError(
                    f"{table}: expected the columns {', '.join(COLUMNS)} (only path is needed), "
                    f"got {printable(', '.join(columns)) or 'none'}."
                )
            items = [_item(table, reader.line_num, row) for row in reader]
    except OSError as error:
        raise InputError(f"{table}: cannot be read ({error.strerror}).") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{table}: expected a CSV in UTF-8, got {printable(str(error))}."
        ) from error
    if not items:
        raise InputError(f"{table}: expected a row for each tomogram, got none.")
    return items


def _item(table: Path, line: int, row: dict[str, Any]) -> Item:
    where = f"{table}, line {line}"
    if None in row or None in row.values():
        raise InputError(f"{where}: expected as many cells as there are columns.")
    cells = {name: value.strip() for name, value in row.items()}
    path = cells["path"]
    if not path:
        raise InputError(f"{where}: expected a path, got none.")
    out = cells.get("out") or None
    if out is not None and Path(out).suffix != ".zarr":
        raise InputError(f"{where}: expected out to be NAME.zarr, got {printable(out)}.")
    changes: dict[str, Any] = {}
    if cells.get("voxel_size"):
        changes["voxel_size_angstrom"] = _angstrom(where, cells["voxel_size"])
    if cells.get("contrast"):
        if cells["contrast"] not in get_args(ContrastRequest):
            raise InputError(
                f"{where}: expected contrast to be {' or '.join(get_args(ContrastRequest))}, "
                f"got {printable(cells['contrast'])}."
            )
        changes["contrast"] = cells["contrast"]
    roi = _beside(table, cells["roi"]) if cells.get("roi") else None
    return Item(_beside(table, path), out, cells.get("array") or None, roi, changes)


def _beside(table: Path, path: str) -> str:
    return path if "://" in path else str(table.parent / path)


def _angstrom(where: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise InputError(
            f"{where}: expected voxel_size to be a number of angstrom, got {printable(text)}."
        )
    return value


def output_paths(items: list[Item], out: str) -> list[tuple[Item, Path]]:
    """Pair every input with its output.

    Raises
    ------
    RequestError
        Where two inputs would be written to one output, or several to a ``.zarr``.
    """
    from tomoseg.io.volume import refuse_url

    refuse_url(out)
    target = Path(out)
    if target.suffix == ".zarr":
        if len(items) > 1:
            raise RequestError(
                f"--out {out}: expected a folder for {len(items)} inputs, got one .zarr.",
                "Give a folder; each output is called after its input.",
            )
        return [(items[0], target)]
    pairs = [(item, target / (item.out or f"{name_of(item.path)}.zarr")) for item in items]
    outputs = [output for _, output in pairs]
    twice = sorted({str(output) for output in outputs if outputs.count(output) > 1})
    if twice:
        raise RequestError(
            f"--out {out}: expected inputs of different names, found several for {twice[0]}.",
            "Segment them one by one, into several folders, or name them in a table "
            "(NAME.csv with columns path and out).",
        )
    return pairs


def name_of(path: str) -> str:
    """Return what an input is called, without suffix.

    In a copick project, where each run's tomograms bear the same names, run and voxel spacing
    are part of it: ``RUN_10.000_wbp`` for ``ExperimentRuns/RUN/VoxelSpacing10.000/wbp.zarr``.
    """
    parts = Path(path).parts
    if len(parts) >= 4 and parts[-4] == "ExperimentRuns":
        return "_".join((parts[-3], parts[-2].removeprefix("VoxelSpacing"), Path(path).stem))
    return Path(path).stem
