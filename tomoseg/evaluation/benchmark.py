"""Scores of methods on tomograms, cell by cell, each kept as soon as it is known.

Knows neither which methods a table compares (`tables`) nor how it is printed (`render`).
"""

import logging
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomoseg import __version__
from tomoseg.errors import Stopped
from tomoseg.evaluation.cases import Data, Scene, Tomogram
from tomoseg.evaluation.cells import Cells, Values
from tomoseg.evaluation.methods import Map, Method
from tomoseg.metrics import as_levels, score
from tomoseg.saliency.lanes import lane_setup

logger = logging.getLogger(__name__)

MASK = 128
"""The lowest of 256 levels that is in the mask at 0.5."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Task:
    """What one table needs of one dimension: methods on data sets.

    Parameters
    ----------
    dim
        2 or 3.
    tomograms
        Data set and number of each tomogram.
    methods
        Rows of the table.
    """

    dim: int
    tomograms: Sequence[tuple[Data, int]]
    methods: Sequence[Method]


@dataclass(frozen=True)
class Bench:
    """Where a benchmark keeps its results, and how much of it is wanted.

    Parameters
    ----------
    cells
        Results of this and of earlier runs.
    structures
        Folder of complexes; None for built-in ones.
    stop
        Once set, nothing new is begun.
    jobs
        Tomograms that are worked on at once; decides no score, but seconds.
    """

    cells: Cells
    structures: Path | None
    stop: threading.Event
    jobs: int = 1

    def run(self, tasks: Sequence[Task], progress: Progress) -> list[Values]:
        """Score every method on every tomogram; what is kept already is not done again.

        Returns
        -------
        list of dict
            A record for each of dimension, data set, number and method: plain values.

        Raises
        ------
        Stopped
            Where `stop` was set before the end; the same call goes on.
        """
        rows = [(task, data, number) for task in tasks for data, number in task.tomograms]
        total = sum(len(task.methods) for task, *_ in rows)
        progress(0, total)
        records: list[Values] = []
        with ThreadPoolExecutor(self.jobs, initializer=lane_setup) as pool:
            for row in pool.map(lambda row: self._row(*row), rows):
                records.extend(row)
                progress(len(records), total)
        if len(records) < total:
            raise Stopped(
                "benchmark: stopped as asked; what is done is kept.", "The same command goes on."
            )
        return records

    def _row(self, task: Task, data: Data, number: int) -> list[Values]:
        """Return the record of each method on one tomogram, which is made when first needed."""
        tomogram: Tomogram | None = None
        records: list[Values] = []
        for method in task.methods:
            key = self._key(data, number, task.dim, method)
            kept = self.cells.get(key)
            if kept is None:
                if self.stop.is_set():
                    break
                tomogram = tomogram or data.make(number, self.structures)
                kept = measured(method, tomogram, task.dim)
                self.cells.put(key, kept)
                logger.info(
                    "%s, %d-D, number %d: %s: maximum F %.3f in %.1f s",
                    *(data.name, task.dim, number, method.name),
                    *(kept["maximum_f"], kept["seconds"]),
                )
            where = {"dim": task.dim, "data": data.name, "number": number}
            records.append(where | {"method": method.name} | kept)
        return records

    def _key(self, data: Data, number: int, dim: int, method: Method) -> dict[str, Any]:
        return {
            "version": __version__,
            "data": [data.style, data.snr, data.split, *data.shape, data.slices_per_axis],
            "structures": str(self.structures and self.structures.resolve()),
            "number": number,
            "dim": dim,
            "views": "smoothed",
            "method": method.key,
        }


def measured(method: Method, scene: Scene, dim: int) -> Values:
    """Return the scores of a method, averaged over the views, and its seconds.

    Parameters
    ----------
    method
        See `Method`.
    scene, dim
        What it is scored on, and whether as a volume or as images.
    """
    maps, seconds = timed(method, scene, dim)
    return scores(maps, scene, dim) | {"seconds": seconds}


def timed(method: Method, scene: Scene, dim: int) -> tuple[list[Map], float]:
    """Return the saliency of each view, and the seconds that it took.

    Parameters
    ----------
    method, scene, dim
        As for `measured`.
    """
    scene.views(dim)  # normalises: not the method's to pay for
    with method.turn:  # to wait for it is not the method's either
        began = time.perf_counter()
        maps = method.maps(scene)
        return maps, round(time.perf_counter() - began, 3)


def scores(maps: Sequence[Map], scene: Scene, dim: int) -> Values:
    """Return the scores of saliency, averaged over the views, by name.

    Parameters
    ----------
    maps
        Of each view.
    scene, dim
        As for `measured`.
    """
    rows = []
    for saliency, (_, truth) in zip(maps, scene.views(dim), strict=True):
        levels = as_levels(saliency)
        salient = float(np.mean(levels >= MASK))
        rows.append(score(levels, truth).to_dict() | {"salient_fraction": salient})
    return {name: statistics.fmean(row[name] for row in rows) for name in rows[0]}
