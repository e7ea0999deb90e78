"""Particles that were found against particles that are there, by distance or by the mask."""

import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial import KDTree

from tomoseg.blockwise.execute import Serial
from tomoseg.blockwise.prepare import resolve_voxel_size
from tomoseg.config import PickConfig
from tomoseg.errors import RequestError
from tomoseg.geometry import Lattice
from tomoseg.io.particle_files import Export
from tomoseg.io.particle_input import is_particles, read_particles
from tomoseg.io.picks import Picks
from tomoseg.io.volume import open_volume
from tomoseg.particles.pick import pick
from tomoseg.particles.target import Target, open_target, renamed

Progress = Callable[[str, int, int], None]

IN_VOXELS = (".csv", ".parquet", ".ndjson", ".tbl", ".txt")
"""Files whose coordinates need no voxel size."""


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


@dataclass(frozen=True)
class Compared:
    """How two sides are read that are compared.

    Parameters
    ----------
    config
        What is an object in a mask.
    export
        What coordinates in files refer to.
    distance
        Voxels between centres that match; None where a pick counts for the object of the
        mask that it lies in.
    array, truth_array
        Which array, of Zarr hierarchies with several.
    grid
        Volume whose voxels the coordinates of files refer to, where no mask is compared.
    voxel_size
        In angstrom; overrides what volumes say.
    name
        Of the tomogram, in files of several; None for that of the mask or the grid.
    """

    config: PickConfig
    export: Export
    distance: float | None = None
    array: str | None = None
    truth_array: str | None = None
    grid: str | None = None
    voxel_size: float | None = None
    name: str | None = None


def compare(prediction: str, truth: str, options: Compared, progress: Progress) -> Found:
    """Score particles against particles, or against the objects of a mask.

    Parameters
    ----------
    prediction, truth
        Each a file of particles, or a volume whose objects are the particles.
    options
        How they are read and matched.
    progress
        Told how far the picking of masks is.

    Returns
    -------
    Found
        By distance: pairs. By the mask: objects with a pick in them are matched, and a
        second pick in one is as wrong as one outside.

    Raises
    ------
    InputError, RequestError
        Where they cannot be read or compared.
    """
    targets = [
        None
        if is_particles(Path(side))
        else renamed(open_target(side, array=array, voxel_size=options.voxel_size), options.name)
        for side, array in ((prediction, options.array), (truth, options.truth_array))
    ]
    masks = [target for target in targets if target]
    in_voxels = all(Path(side).suffix.lower() in IN_VOXELS for side in (prediction, truth))
    if not masks and options.grid is None and not in_voxels:
        raise RequestError(
            "evaluate: expected --grid TOMOGRAM for the coordinates of these files, got none.",
            "Its shape and voxel size turn them into voxels.",
        )
    grid = _grid(masks[0] if masks else None, options)
    centres = [
        read_particles(Path(side), grid, options.export).centres if target is None else None
        for side, target in zip((prediction, truth), targets, strict=True)
    ]
    if options.distance is not None:
        every = iter(_pick(target, options.config, progress).centres for target in masks)
        first, second = (next(every) if points is None else points for points in centres)
        return match(first, second, options.distance)
    files = [points for points in centres if points is not None]
    if len(files) != 1:
        raise RequestError(
            "evaluate: expected --distance for particles, got none.", "Half a diameter is usual."
        )
    hit, objects = _hits(masks[0], files[0], options.config, progress)
    counts = len(files[0]), objects
    return Found(hit, *(counts if targets[1] else counts[::-1]))


def _grid(target: Target | None, options: Compared) -> Picks:
    """Return the voxels that coordinates are brought to, as picks without any."""
    none = np.zeros((0, 3))
    if target:
        mask = target.mask
        size = target.voxel_size_angstrom
        return Picks(target.name, mask.shape, size, mask.origin_angstrom, none)
    if options.grid is None:
        return Picks(options.name or "", (1, 1, 1), (1.0,) * 3, (0.0,) * 3, none)
    volume = open_volume(options.grid)
    size, _ = resolve_voxel_size(volume, options.voxel_size)
    name = options.name or Path(options.grid).stem
    return Picks(name, volume.shape, size, volume.origin_angstrom, none)


def _pick(
    target: Target, config: PickConfig, progress: Progress, labels: Path | None = None
) -> Picks:
    with tempfile.TemporaryDirectory() as folder:
        executor, scratch = Serial(threading.Event()), Path(folder, "picking")
        return pick(target, config, executor, scratch=scratch, progress=progress, labels=labels)


def _hits(
    target: Target, points: NDArray[np.float64], config: PickConfig, progress: Progress
) -> tuple[int, int]:
    """Return how many objects of a mask have a point in them, and how many there are."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "labels.zarr")
        objects = _pick(target, config, progress, path)
        cells = Lattice(objects.shape, config.shard)
        voxels = np.rint(points).astype(np.int64)
        voxels = voxels[((voxels >= 0) & (voxels < objects.shape)).all(1)]
        hit: set[int] = set()
        owner = np.array([cells.number_at(tuple(voxel)) for voxel in voxels.tolist()], np.int64)
        with open_volume(path).reader() as reader:
            for number in np.unique(owner).tolist():
                cell = cells.cell(number)
                numbers = reader.read(cell)
                within = voxels[owner == number] - np.array(cell.start)
                hit |= set(numbers[tuple(within.T)].tolist())
    return len(hit - {0}), len(objects)
