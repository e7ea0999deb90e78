"""What a worker does in one shard: label it, split it, write its numbers.

Reads mask and saliency, and keeps what it finds in a folder; knows no other shard.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomoseg.blockwise.plan import IN_FLIGHT
from tomoseg.config import BLOCK, PickConfig, Split
from tomoseg.errors import InputError, RequestError
from tomoseg.geometry import Box, Lattice, whole
from tomoseg.io.omezarr import ArrayStore, Layout
from tomoseg.io.pyramid import build_level_shard
from tomoseg.io.storage import (
    fsync,
    storage_errors,
    temporary_sibling,
)
from tomoseg.io.volume import Volume
from tomoseg.particles.components import (
    Integers,
    Sums,
    edges,
    extended,
    label,
    sum_voxels,
)
from tomoseg.particles.split import TILE, Peaks, find_peaks, halo_voxels, nearest_peak
from tomoseg.particles.target import Target

BASE_BYTES = 300 * 2**20
"""A worker before its first shard: interpreter, numpy, scipy, Zarr."""

VOXEL_BYTES = 28
"""Of a shard and its halo: mask, saliency, labels, owners, and what cc3d and Zarr hold
meanwhile."""

FIELD_BYTES = 40
"""Of a tile and its halo, while its distances are computed."""


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs to pick in any shard; picklable.

    Parameters
    ----------
    target, config
        What decides the result.
    folder
        Where shards' results are kept.
    """

    target: Target
    config: PickConfig
    folder: Path

    @property
    def shards(self) -> Lattice:
        """The shards: one task each."""
        return Lattice(self.target.mask.shape, self.config.shard)

    @property
    def diameter_voxels(self) -> float:
        """The particles' diameter in voxels; 0 where none is given."""
        edge: float = np.cbrt(np.prod(self.target.voxel_size_angstrom))
        return (self.config.diameter_angstrom or 0.0) / edge

    @property
    def splitting(self) -> Split:
        """How touching particles are told apart."""
        return self.config.splitting(scored=self.target.saliency is not None)

    @property
    def halo(self) -> int:
        """Voxels around a shard that splitting looks at."""
        split = self.splitting
        return halo_voxels(split, self.diameter_voxels) if split != "none" else 1

    def worker_bytes(self) -> int:
        """Return the peak bytes of a worker, besides its rows for objects."""
        largest = self.shards.cell(0)
        tile = Box(largest.start, tuple(min(TILE, n) for n in largest.shape))
        volume = whole(self.target.mask.shape)
        seen = [box.grow(self.halo).intersect(volume).size for box in (largest, tile)]
        field = FIELD_BYTES * seen[1] if self.splitting != "none" else 0
        return BASE_BYTES + IN_FLIGHT * (VOXEL_BYTES * seen[0] + field)

    def check_memory(self, available: int) -> None:
        """Refuse a worker that is too small.

        Raises
        ------
        RequestError
            Naming the need, what there is, and the flags that help.
        """
        needed = self.worker_bytes()
        if needed > available:
            raise RequestError(
                f"a worker needs {needed / 2**30:.1f} GiB for shards of {self.config.shard}, and "
                f"may take {available / 2**30:.1f} GiB.",
                f"Try --shard {max(BLOCK, self.config.shard // 2 // BLOCK * BLOCK)} or --workers "
                "1, or allow more with --memory.",
            )

    def kept(self, stage: str, number: int) -> Path:
        """Return the file that keeps what a stage gave for a shard."""
        return self.folder / f"{stage}-{number}.npz"


@dataclass(frozen=True)
class Owners:
    """Whom the voxels of one shard belong to.

    Parameters
    ----------
    shard
        Its number.
    whole
        For each of its labels: the object that it is part of, from 1; 0 for none, -k where
        it is part of component k, which is split.
    peaks, parents, objects
        Peaks near the shard, in voxels of the volume; the component of each, from 1, and the
        object that it stands for, from 1, or 0.
    """

    shard: int
    whole: Integers
    peaks: Peaks
    parents: Integers
    objects: Integers


def label_shard(job: Job, number: int) -> int:
    """Label one shard and keep its sums, its edges and its peaks: a task."""
    volume = job.target.mask.shape
    shard = job.shards.cell(number)
    box = shard.grow(job.halo).intersect(whole(volume))
    mask = _read_mask(job.target.mask, box)
    saliency = _read(job.target.saliency, box) if job.target.saliency else None
    inner = extended(shard, volume)
    labels, count = label(mask[inner.relative_to(box).slices], job.config.connectivity)
    own = labels[shard.relative_to(inner).slices]
    core = shard.relative_to(box)
    levels = None if saliency is None else saliency[core.slices]
    low, high = edges(labels, shard, volume)
    if job.splitting == "none":
        peaks = Peaks(np.zeros((0, 3), np.int64), np.zeros(0))
    else:
        peaks = find_peaks(mask, saliency, core, job.splitting, job.diameter_voxels)
    places = peaks.places + np.array(box.start)
    names = labels[tuple((places - np.array(shard.start)).T)].astype(np.int64) - 1
    keep_arrays(
        job.kept("label", number),
        **_as_arrays(sum_voxels(own, levels, shard.start, count)),
        low_place=low[0],
        low_label=low[1],
        high_place=high[0],
        high_label=high[1],
        places=places,
        heights=peaks.heights,
        labels=names,
    )
    return number


def split_shard(job: Job, owners: Owners) -> int:
    """Sum the voxels of each peak in one shard: a task."""
    shard, _, nearest = _owned(job, owners)
    saliency = _read(job.target.saliency, shard) if job.target.saliency else None
    sums = sum_voxels(nearest, saliency, shard.start, len(owners.objects))
    keep_arrays(job.kept("split", owners.shard), **_as_arrays(sums), object=owners.objects - 1)
    return owners.shard


def write_shard(layout: Layout, job: Job, owners: Owners) -> int:
    """Write the number of each voxel's particle in one shard: a task."""
    shard, owner, nearest = _owned(job, owners)
    objects = np.concatenate([[0], owners.objects]).astype(np.int32)
    numbers = np.where(owner < 0, objects[nearest], owner)
    ArrayStore(layout, "image", 0).write_shard(shard, numbers)
    return owners.shard


def build_shard(layout: Layout, level: int, _: Job, number: int) -> int:
    """Make one shard of a level of the labels: a task."""
    build_level_shard(layout, "image", level, layout.shards(level).cell(number))
    return number


def _owned(job: Job, owners: Owners) -> tuple[Box, NDArray[np.int32], NDArray[np.int32]]:
    """Return a shard, the owner of each of its voxels, and the peak of those that are split.

    Owners are those of `Owners.whole`; peaks count from 1, and 0 is none.
    """
    volume = job.target.mask.shape
    shard = job.shards.cell(owners.shard)
    inner = extended(shard, volume)
    labels, _ = label(_read_mask(job.target.mask, inner), job.config.connectivity)
    owner = np.concatenate([[0], owners.whole]).astype(np.int32)
    owner = owner[labels[shard.relative_to(inner).slices]]
    nearest = nearest_peak(
        np.maximum(-owner, 0),
        shard.start,
        owners.peaks,
        owners.parents,
        job.splitting,
        job.diameter_voxels,
    )
    return shard, owner, nearest


def _read(volume: Volume, box: Box) -> NDArray[Any]:
    with volume.reader() as reader:
        return reader.read(box)


def _read_mask(volume: Volume, box: Box) -> NDArray[np.bool_]:
    """Return what is inside.

    Raises
    ------
    InputError
        For negative values, which no mask has and every tomogram does.
    """
    values = _read(volume, box)
    if values.dtype.kind == "i" and values.size and values.min() < 0:
        raise InputError(
            f"{volume.path}: expected a mask, found negative values.",
            "Segment the tomogram first: 'tomoseg segment'.",
        )
    inside: NDArray[np.bool_] = values != 0
    return inside


def _as_arrays(sums: Sums) -> dict[str, Integers]:
    return {"added": sums.added, "lowest": sums.lowest, "highest": sums.highest}


def sums_from(file: Any) -> Sums:
    """Return the sums that a shard kept."""
    return Sums(file["added"], file["lowest"], file["highest"])


def keep_arrays(path: Path, **arrays: Any) -> None:
    """Write arrays to a file that is there only when they are, on the disk."""
    temporary = temporary_sibling(path)
    with storage_errors("Writing", path):
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        fsync(path.parent)
