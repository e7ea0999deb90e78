"""Particles that were found against particles that are there, matched by distance."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial import KDTree

from tomoseg.errors import InputError

COLUMNS = ("z", "y", "x")
"""Of a table of particles, in voxels, such as `tomoseg simulate` writes."""


@dataclass(frozen=True)
class Found:
    """How particles agree.

    Parameters
    ----------
    matched, predicted, true
        Pairs within the distance, and particles on both sides.
    """

    matched: int
    predicted: int
    true: int

    @property
    def precision(self) -> float:
        """Share of the predicted ones that are true; 1 where none are predicted."""
        return self.matched / self.predicted if self.predicted else 1.0

    @property
    def recall(self) -> float:
        """Share of the true ones that are found; 1 where there are none."""
        return self.matched / self.true if self.true else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 where there are none on both sides."""
        total = self.predicted + self.true
        return 2 * self.matched / total if total else 1.0


def match(predicted: NDArray[Any], true: NDArray[Any], distance: float) -> Found:
    """Match particles one to one, as many as possible, no two farther apart than `distance`.

    Parameters
    ----------
    predicted, true
        ``(N, 3)`` and ``(M, 3)`` centres in one unit and one order of axes.
    distance
        In the same unit; a pair exactly so far apart counts.

    Notes
    -----
    A maximum matching (Hopcroft and Karp 1973): greedy assignment can leave a particle
    without a partner that another one did not need.
    """
    counts = len(predicted), len(true)
    if not all(counts):
        return Found(0, *counts)
    pairs = KDTree(predicted).query_ball_tree(KDTree(true), distance)
    rows = np.repeat(np.arange(counts[0]), [len(near) for near in pairs])
    columns = np.array([column for near in pairs for column in near], np.int64)
    if not len(columns):
        return Found(0, *counts)
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=counts).tocsr()
    partners = maximum_bipartite_matching(graph, perm_type="column")
    return Found(int((partners >= 0).sum()), *counts)


def read_centres(path: Path) -> NDArray[np.float64]:
    """Read centres, ``(N, 3)`` in voxels, z, y, x, from a CSV with columns of those names.

    Raises
    ------
    InputError
        Where it cannot be read, or lacks a column or a number.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = set(COLUMNS) - set(reader.fieldnames or [])
            if missing:
                raise InputError(
                    f"{path}: expected columns z, y, x in voxels, got "
                    f"{', '.join(reader.fieldnames or []) or 'none'}."
                )
            rows = [[float(row[name]) for name in COLUMNS] for row in reader]
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, TypeError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: expected numbers in a CSV, got {error}.") from error
    return np.array(rows, np.float64).reshape(-1, 3)
