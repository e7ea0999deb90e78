"""Particles for the report: read from a file, or measured roughly on the mask's pyramid."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cc3d
import numpy as np
from numpy.typing import NDArray

from tomoseg.io import particle_input
from tomoseg.io.layout import Layout
from tomoseg.io.picks import Picks
from tomoseg.segmentation import Segmentation

MOST_VOXELS = 1 << 26
"""Of the level that is measured: labels of it take 256 MB."""

CONNECTIVITY: Final = 26


@dataclass(frozen=True)
class Particles:
    """Particles of one tomogram.

    Parameters
    ----------
    noun
        What they are called: particles, or components of a mask.
    source
        Where they come from, as a sentence for the reader.
    centres_zyx
        ``(N, 3)`` in voxels of the mask, z, y, x.
    volumes
        ``(N,)`` in cubic angstrom, NaN where unknown.
    scores
        ``(N,)``, NaN where unknown.
    at_border
        ``(N,)``: whether the tomogram's border cuts it; None where unknown.
    """

    noun: str
    source: str
    centres_zyx: NDArray[np.float64]
    volumes: NDArray[np.float64]
    scores: NDArray[np.float64]
    at_border: NDArray[np.bool_] | None

    def __len__(self) -> int:
        return len(self.centres_zyx)

    @property
    def diameters(self) -> NDArray[np.float64]:
        """Diameter in angstrom of the ball of the same volume."""
        return np.asarray(2 * np.cbrt(3 * self.volumes / (4 * math.pi)))


def measure_particles(segmentation: Segmentation) -> Particles:
    """Measure the components of the mask at the finest level that fits into memory.

    A coarse voxel is inside where any of its fine ones is: above level 0 volumes are upper
    bounds, and neighbours may have grown together.
    """
    layout = segmentation.layout
    level = measured_level(layout)
    mask = np.asarray(segmentation.level("mask", level)[:])
    labels, count = cc3d.connected_components(mask, connectivity=CONNECTIVITY, return_N=True)
    found = cc3d.statistics(labels)
    scale = np.array(layout.level_scale(level)) / np.array(layout.level_scale(0))
    # the centre of a coarse voxel lies between those of the fine ones that it stands for
    centres = (found["centroids"][1:].astype(np.float64)) * scale + (scale - 1) / 2
    boxes = found["bounding_boxes"][1:]
    cut = [
        any(b.start == 0 or b.stop >= n for b, n in zip(box, mask.shape, strict=True))
        for box in boxes
    ]
    voxels = found["voxel_counts"][1:].astype(np.float64)
    honesty = (
        "of the mask itself"
        if level == 0
        else f"of level {level} of the mask's pyramid, where volumes are upper bounds and "
        "neighbours may have grown together"
    )
    return Particles(
        noun="components",
        source=f"Components ({CONNECTIVITY} neighbours) {honesty}.",
        centres_zyx=centres.reshape(count, 3),
        volumes=voxels * math.prod(layout.level_scale(level)),
        scores=np.full(count, np.nan),
        at_border=np.array(cut, bool).reshape(count),
    )


def measured_level(layout: Layout) -> int:
    """Return the finest level of at most `MOST_VOXELS` voxels, or the coarsest."""
    fitting = (k for k in range(layout.levels) if math.prod(layout.level_shape(k)) <= MOST_VOXELS)
    return next(fitting, layout.levels - 1)


def read_particles(path: Path, segmentation: Segmentation) -> Particles:
    """Read the particles of a segmentation from a file of any format that tomoseg knows.

    Parameters
    ----------
    path
        As `tomoseg.io.particle_input.read_particles` takes it; of several tomograms those that
        are called as the output or its input is.
    segmentation
        Whose particles they are.

    Raises
    ------
    InputError
        Where it cannot be read, or lacks a column or a number.
    RequestError
        Where that takes a library that is not installed.
    """
    layout = segmentation.layout
    grid = Picks(
        name=Path(segmentation.path).stem,
        shape=layout.shape,
        voxel_size_angstrom=layout.level_scale(0),
        origin_angstrom=layout.origin_angstrom,
        centres=np.empty((0, 3)),
    )
    of_input = Path(segmentation.attributes["input"]["path"]).stem
    picks = particle_input.read_particles(path, grid, also=[of_input])
    unknown = np.full(len(picks), np.nan)
    volumes, scores, border = (
        picks.columns.get(name, unknown) for name in ("volume_angstrom3", "score", "border")
    )
    cut = None if np.isnan(border).all() else border > 0
    return Particles("particles", f"Table {path.name}.", picks.centres, volumes, scores, cut)
