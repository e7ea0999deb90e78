"""The tomograms that methods are scored on: simulated ones, and those of another path.

A tomogram is a function of (data set, number, folder of complexes); nothing here is read
from a network's training set.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tomoseg.blockwise.statistics import measure, sample_bricks
from tomoseg.config import Contrast
from tomoseg.errors import RequestError
from tomoseg.evaluation.elsewhere.imaging import STYLES, make
from tomoseg.geometry import Index
from tomoseg.intensity import smooth
from tomoseg.simulate.sample import PROCEDURAL, SPLIT_SEEDS, DatasetConfig, simulate
from tomoseg.simulate.structures import Structure, load_library, procedural

SHAPE = (96, 128, 128)
VOXEL_SIZE = 10.0
SEEDS = {"train": 33_001, "validation": 55_001, "test": 77_001}
"""Of the simulated tomograms of a split; training sets have other seeds."""

SLICES = 4
"""Slices along each axis that stand for a tomogram in 2-D, where nobody says otherwise."""

Image = NDArray[np.float32]
Truth = NDArray[np.uint8]


class Scene(Protocol):
    """What methods are scored on."""

    def views(self, dim: int, /) -> list[tuple[Image, Truth]]:
        """Return intensities, salient objects bright, and truth, of each view."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images with their truth, which belong to no volume.

    Parameters
    ----------
    images
        Intensities and truth of each.
    """

    images: list[tuple[Image, Truth]]

    def views(self, dim: int) -> list[tuple[Image, Truth]]:
        """Return them; `dim` is 2."""
        return self.images


@dataclass(frozen=True, eq=False)
class Tomogram:
    """A tomogram with its truth.

    Parameters
    ----------
    density
        float32, z, y, x; salient objects dark, as raw cryo-ET density is.
    truth
        uint8 0/1 of the same shape.
    voxel_size_angstrom
        Edge of a voxel.
    slices_per_axis
        That stand for it in 2-D.
    """

    density: Image
    truth: Truth
    voxel_size_angstrom: float
    slices_per_axis: int = SLICES

    @cached_property
    def intensities(self) -> Image:
        """What methods see: robust standard deviations, smoothed, salient objects bright."""
        return normalised(self.density, smoothed=True)

    def views(self, dim: int) -> list[tuple[Image, Truth]]:
        """Return intensities and truth as a method sees them: the volume, or its slices."""
        return [(self.intensities, self.truth)] if dim == 3 else list(self.slices())

    def slices(self) -> Iterator[tuple[Image, Truth]]:
        """Yield intensities and truth of slices, evenly spaced along each axis.

        Slices without truth are left out where others have some: their F says nothing.
        """
        count = self.slices_per_axis
        for axis in range(3):
            for at in (np.arange(count) + 0.5) * self.density.shape[axis] / count:
                truth: Truth = self.truth.take([int(at)], axis).squeeze(axis)
                if truth.any() or not self.truth.any():
                    yield self.intensities.take([int(at)], axis).squeeze(axis), truth


@dataclass(frozen=True)
class Data:
    """A set of tomograms of one kind.

    Parameters
    ----------
    name
        As tables print it.
    style
        One of `tomoseg.evaluation.elsewhere.imaging.STYLES`; empty for tomograms of the
        simulator: one plain microscope, full tilt series.
    snr
        Of the simulator's.
    split
        ``validation`` to choose by, ``test`` to report on.
    shape
        Voxels z, y, x.
    slices_per_axis
        That stand for a tomogram in 2-D.
    """

    name: str
    style: str = ""
    snr: float = 1.0
    split: str = "test"
    shape: Index = SHAPE
    slices_per_axis: int = SLICES

    def make(self, number: int, structures: Path | None) -> Tomogram:
        """Make a tomogram.

        Parameters
        ----------
        number
            From 0; each is another tomogram.
        structures
            Folder of site models (`tomoseg.simulate.structures.load_library`); None for
            built-in complexes.
        """
        if self.style:
            seed = 1000 * (self.split == "validation") + number
            found = make(self.style, seed, complexes(structures, self.split), self.shape)
            return Tomogram(*found, STYLES[self.style].voxel_size, self.slices_per_axis)
        sample = simulate(home_config(self.snr, self.split, self.shape, structures), number)
        return Tomogram(sample.tomogram, sample.salient, VOXEL_SIZE, self.slices_per_axis)


def home(snr: float, split: str = "test", shape: Index = SHAPE) -> Data:
    """Return the simulator's tomograms at an SNR."""
    return Data(f"home, SNR {snr:g}", "", snr, split, shape)


def elsewhere(style: str, split: str = "test", shape: Index = SHAPE) -> Data:
    """Return the tomograms of a style.

    Raises
    ------
    RequestError
        Where there is no such style.
    """
    if style not in STYLES:
        raise RequestError(f"style: expected one of {', '.join(STYLES)}, got {style}.")
    return Data(style, style, split=split, shape=shape)


def home_config(
    snr: float,
    split: str = "test",
    shape: Index = SHAPE,
    structures: Path | None = None,
    voxel_size_angstrom: float = VOXEL_SIZE,
) -> DatasetConfig:
    """Return the configuration of the simulator's tomograms that tables report on."""
    return DatasetConfig(
        shape=shape,
        voxel_size_angstrom=voxel_size_angstrom,
        look="standard",
        snr=(snr,),
        split=split,
        structures=str(structures) if structures else None,
        seed=SEEDS[split],
    )


@lru_cache(maxsize=4)
def complexes(structures: Path | None, split: str) -> tuple[Structure, ...]:
    """Return the complexes of a split: those of a folder, or built-in ones."""
    if structures is not None:
        return tuple(load_library(structures, split))
    return tuple(procedural(PROCEDURAL, SPLIT_SEEDS[split]))


def normalised(
    density: NDArray[Any],
    contrast: Contrast = "dark",
    *,
    smoothed: bool = False,
    amplitude: float = 1.0,
) -> Image:
    """Return a volume as `segment` shows it to a network: robust, salient objects bright.

    Parameters
    ----------
    density
        Voxels z, y, x.
    contrast
        Of it.
    smoothed, amplitude
        As the network's card says.
    """
    bricks = sample_bricks(density.shape, lambda box: density[box.slices], seed=0)
    statistics = measure(bricks, "tomogram")
    if not smoothed:
        return statistics.normalise(density, contrast, amplitude)
    plain = statistics.normalise(density, contrast)
    return normalised(smooth(plain), "light", amplitude=amplitude)
