"""A folder of site models with a fixed split, so that nothing tested was trained on."""

import csv
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from tomoseg.errors import InputError, RequestError
from tomoseg.simulate.structures.model import Structure

SPLITS = ("train", "validation", "test")
"""What a structure may be used for: to learn from, to choose by, to report on."""

_MODELS = "models.npz"
_INDEX = "index.tsv"


def load_library(folder: Path, split: str | None) -> list[Structure]:
    """Read the site models of a folder.

    Parameters
    ----------
    folder
        Holds ``index.tsv``, a table with columns ``id`` and ``split``, and ``models.npz``
        with two arrays for each id: ``ID_xyz``, (N, 3) in angstrom, axes x, y, z, and
        ``ID_mass``, (N,) in dalton.
    split
        ``train``, ``validation`` or ``test``; None for all of them.

    Returns
    -------
    list of Structure
        In the order of the index.

    Raises
    ------
    RequestError
        Where there is no such split.
    InputError
        Where the folder is not such a library.
    """
    if split is not None and split not in SPLITS:
        raise RequestError(f"{split!r} is no split.", f"Choose one of {', '.join(SPLITS)}.")
    rows = _read_index(folder / _INDEX)
    with _open_models(folder / _MODELS) as models:
        return [
            _structure(models, name, its_split)
            for name, its_split in rows
            if split is None or its_split == split
        ]


def _read_index(path: Path) -> list[tuple[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [(row["id"], row["split"]) for row in csv.DictReader(file, delimiter="\t")]
    except OSError as error:
        raise _no_library(path, error.strerror or str(error)) from error
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise _no_library(path, f"expected columns id and split, got {error!r}") from error
    strange = sorted({str(split) for _, split in rows} - set(SPLITS))
    if strange:
        raise _no_library(path, f"expected splits {', '.join(SPLITS)}, got {', '.join(strange)}")
    return rows


def _open_models(path: Path) -> NpzFile:
    try:
        models = np.load(path, allow_pickle=False)
    except OSError as error:
        raise _no_library(path, error.strerror or str(error)) from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _no_library(path, f"expected arrays written by numpy, got {error}") from error
    if not isinstance(models, NpzFile):
        raise _no_library(path, "expected several arrays, got one")
    return models


def _structure(models: NpzFile, name: str, split: str) -> Structure:
    xyz, masses = _array(models, f"{name}_xyz"), _array(models, f"{name}_mass")
    if xyz.ndim != 2 or xyz.shape[1] != 3 or masses.shape != xyz.shape[:1] or not len(xyz):
        raise InputError(
            f"{_MODELS}: expected (N, 3) sites and (N,) masses of {name}, "
            f"got {xyz.shape} and {masses.shape}.",
            "Write the arrays anew.",
        )
    return Structure.centred(name, xyz[:, ::-1], masses, split)


def _array(models: NpzFile, name: str) -> NDArray[Any]:
    if name not in models:
        raise InputError(
            f"{_MODELS} holds no array {name}, which {_INDEX} asks for.",
            "Give a folder whose two files belong together.",
        )
    try:
        array: NDArray[Any] = models[name]
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{_MODELS}: the array {name} cannot be read ({error}).", "Copy the file again."
        ) from error
    return array


def _no_library(path: Path, reason: str) -> InputError:
    return InputError(
        f"{path} cannot be read: {reason}.",
        f"Give a folder that holds {_INDEX} and {_MODELS}.",
    )
