"""The files of a training's folder: what resumes it, the weights, the curve.

Knows files, not training. A file appears whole or not at all, and nothing is pickled.
"""

import csv
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tomoseg.errors import FingerprintError, OutputExistsError
from tomoseg.fingerprints import differences
from tomoseg.io.storage import fsync, storage_errors
from tomoseg.saliency.usalnet import USalNet
from tomoseg.saliency.weights import Card, read_tensors, save, write_tensors

LOG = logging.getLogger(__name__)

COLUMNS = (
    "step",
    "seconds",
    "learning_rate",
    "loss",
    "validation_loss",
    "maximum_f",
    "half_f",
    "mean_absolute_error",
)
_KEY = "tomoseg_training"
_FILES = (
    "checkpoint.safetensors",
    "best.safetensors",
    "best.json",
    "last.safetensors",
    "last.json",
    "curve.csv",
    "curve.png",
)

Row = dict[str, float]


@dataclass(frozen=True)
class Folder:
    """Where a training writes.

    Parameters
    ----------
    path
        The folder, which exists.
    """

    path: Path

    @property
    def best(self) -> Path:
        """The weights that validated best."""
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        """The weights of the last checkpoint."""
        return self.path / "last.safetensors"

    @property
    def checkpoint(self) -> Path:
        """Everything that the next step depends on."""
        return self.path / "checkpoint.safetensors"

    def open(
        self, fingerprint: dict[str, Any], *, overwrite: bool
    ) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return tensors and progress of the same training, or None for a fresh start.

        Parameters
        ----------
        fingerprint
            Plain JSON values that decide the bits of the training.
        overwrite
            Whether to remove what another training left, or this one.

        Raises
        ------
        FingerprintError
            Where the folder holds another training.
        OutputExistsError
            Where it holds weights that no checkpoint explains.
        """
        there = [name for name in _FILES if (self.path / name).exists()]
        if overwrite:
            for name in there:
                (self.path / name).unlink()
            return None
        if not there:
            return None
        if not self.checkpoint.exists():
            raise OutputExistsError(
                f"{self.path}: expected a folder without results, found {', '.join(there)}.",
                "Choose another folder, or replace them with --overwrite.",
            )
        tensors, values = read_tensors(self.checkpoint, _KEY)
        _require_same(self.path, values["fingerprint"], fingerprint)
        return tensors, values["progress"]

    def write_checkpoint(
        self, tensors: dict[str, Tensor], fingerprint: dict[str, Any], progress: dict[str, Any]
    ) -> None:
        """Replace the checkpoint by one that `open` takes up."""
        partial = self.path / ".checkpoint.partial.safetensors"
        values = {"fingerprint": fingerprint, "progress": progress}
        write_tensors(partial, tensors, {_KEY: values})
        _replace(partial, self.checkpoint)

    def write_weights(self, path: Path, network: USalNet, card: Card) -> None:
        """Replace weights and their card, stored in half precision."""
        partial = path.with_name(f".{path.stem}.partial.safetensors")
        save(partial, network, card, half=True)
        _replace(partial.with_suffix(".json"), path.with_suffix(".json"))
        _replace(partial, path)

    def cut_curve(self, step: int) -> None:
        """Drop the rows after `step`, which a resumed training writes again."""
        path = self.path / "curve.csv"
        rows = [row for row in read_curve(path) if row["step"] <= step]
        partial = path.with_name(".curve.partial.csv")
        with storage_errors("Writing", path), partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        _replace(partial, path)

    def add_to_curve(self, row: Row) -> None:
        """Append a row."""
        path = self.path / "curve.csv"
        with storage_errors("Writing", path), path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow(row)

    def draw_curve(self) -> None:
        """Draw the curve as ``curve.png``, where matplotlib is installed."""
        rows = read_curve(self.path / "curve.csv")
        try:
            from matplotlib.figure import Figure
        except ImportError:
            LOG.info("No curve.png: matplotlib is not installed. curve.csv has the numbers.")
            return
        if not rows:
            return
        figure = Figure(figsize=(7, 4), layout="constrained")
        left = figure.subplots()
        right = left.twinx()
        steps = [row["step"] for row in rows]
        for axes, name, colour in (
            (left, "loss", "tab:blue"),
            (left, "validation_loss", "tab:cyan"),
            (right, "maximum_f", "tab:red"),
            (right, "half_f", "tab:orange"),
        ):
            axes.plot(steps, [row[name] for row in rows], color=colour, label=name)
        left.set(xlabel="step", ylabel="loss")
        right.set(ylabel="F-measure", ylim=(0, 1))
        figure.legend(loc="outside upper center", ncols=4)
        partial = self.path / ".curve.partial.png"
        figure.savefig(partial, dpi=120)
        _replace(partial, self.path / "curve.png")


def read_curve(path: Path) -> list[Row]:
    """Return the rows of a curve; none where there is no file."""
    if not path.exists():
        return []
    with storage_errors("Reading", path), path.open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _replace(partial: Path, path: Path) -> None:
    with storage_errors("Writing", path):
        fsync(partial)
        partial.replace(path)


def _require_same(path: Path, found: dict[str, Any], expected: dict[str, Any]) -> None:
    if different := differences(found, expected):
        raise FingerprintError(
            f"{path}: holds another training: {'; '.join(different)}.",
            "Repeat its command to go on with it, choose another folder, or replace it with "
            "--overwrite.",
        )
