"""What a report shows, read from an output and its tomogram in bounded memory and time.

Whatever the size: a few dozen planes, a sample of blocks, and the particles of a level of the
pyramid.
"""

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomoseg.blockwise.contrast import decide
from tomoseg.blockwise.statistics import measure, sample_bricks
from tomoseg.config import BLOCK, RefineConfig, SegmentConfig
from tomoseg.errors import TomosegError
from tomoseg.geometry import Lattice
from tomoseg.io.volume import Volume
from tomoseg.report.findings import Facts, Sampled, find_warnings, sample_quality
from tomoseg.report.particles import Particles, measure_particles, read_particles
from tomoseg.report.views import View, build_views
from tomoseg.segmentation import Segmentation

logger = logging.getLogger(__name__)

BLOCKS = 256
"""Blocks of the saliency that the histogram is taken from, at most: 67 million voxels."""

FEW_BLOCKS = 27
"""Of a volume with fewer blocks than this the seam measure is a mean over little but noise."""


@dataclass(frozen=True)
class Evidence:
    """Everything that a report shows.

    Parameters
    ----------
    segmentation
        The output.
    warnings
        For the reader, the gravest first.
    views
        By orientation; those across z first.
    base
        What the pictures show: the tomogram, or the saliency in its place and why.
    histogram
        Voxels by saliency, 256 whole numbers.
    histogram_source
        Of how many voxels.
    particles
        From a table, or measured.
    few_blocks
        Whether there are too few blocks for the seam measure to mean much.
    """

    segmentation: Segmentation
    warnings: list[str]
    views: list[View]
    base: str
    histogram: NDArray[np.int64]
    histogram_source: str
    particles: Particles
    few_blocks: bool


def gather(segmentation: Segmentation, *, source: str | None, table: Path | None) -> Evidence:
    """Read what a report shows.

    Parameters
    ----------
    segmentation
        A finished output.
    source
        Where its tomogram lies now; None for where it lay.
    table
        Of particles; None to measure the components of the mask.

    Raises
    ------
    TomosegError
        Where the output, or what was named, cannot be read.
    """
    if table is None:
        particles = measure_particles(segmentation)
    else:
        particles = read_particles(table, segmentation)
    volume, missing = _find_tomogram(segmentation, source)
    sampled = None if volume is None else _sample(volume)
    views, base = build_views(segmentation, volume)
    histogram, histogram_source = _histogram(segmentation)
    return Evidence(
        segmentation=segmentation,
        warnings=[*missing, *find_warnings(_facts(segmentation, sampled, particles))],
        views=views,
        base=base,
        histogram=histogram,
        histogram_source=histogram_source,
        particles=particles,
        few_blocks=_few_blocks(segmentation),
    )


def _few_blocks(segmentation: Segmentation) -> bool:
    resampling = segmentation.attributes["resampling"]
    shape = tuple(resampling["network"]["shape"]) if resampling else segmentation.layout.shape
    config = segmentation.attributes["config"]  # maybe of another version: no more than is wanted
    refine = RefineConfig(config["refine"]["scope"])
    core = SegmentConfig(refine=refine, core=config["core"], shard=config["shard"]).core_edge
    return len(Lattice(shape, core)) < FEW_BLOCKS


def _find_tomogram(
    segmentation: Segmentation, source: str | None
) -> tuple[Volume | None, list[str]]:
    """Return the tomogram, and a warning where it is gone or is not what was segmented."""
    try:
        volume = segmentation.open_input(source)
        stamp = volume.stamp()
    except TomosegError as error:
        if source is not None:
            raise
        logger.info("%s", error)
        return None, [f"The tomogram cannot be shown: {error.message}"]
    said = segmentation.attributes["fingerprint"]["input"]
    if source is None and any(said.get(key) != value for key, value in stamp.items()):
        return volume, [f"The tomogram was changed after it was segmented: {volume.path}."]
    return volume, []


def _sample(volume: Volume) -> Sampled:
    with volume.reader() as reader:
        bricks = sample_bricks(volume.shape, reader.read, seed=0)
    statistics = measure(bricks, volume.path)
    looks = decide("auto", bricks, statistics)
    return dataclasses.replace(sample_quality(bricks, statistics.padding), contrast=looks)


def _facts(segmentation: Segmentation, sampled: Sampled | None, particles: Particles) -> Facts:
    attributes = segmentation.attributes
    resampling = attributes["resampling"]
    said = attributes["fingerprint"]["input"]["voxel_size_angstrom"]
    cut = particles.at_border
    return Facts(
        voxel_size=tuple(said),
        model_voxel_size=resampling and tuple(resampling["network"]["voxel_size_angstrom"]),
        seam=None if _few_blocks(segmentation) else segmentation.summary["seam"],
        salient_fraction=segmentation.summary["salient_fraction"],
        trained=attributes["weights"]["trained"],
        contrast=attributes["config"]["contrast"],
        sampled=sampled,
        cut=None if cut is None else int(cut.sum()),
        particles=len(particles),
    )


def _histogram(segmentation: Segmentation) -> tuple[NDArray[np.int64], str]:
    """Count saliency in a seeded sample of blocks, or in all where they are few."""
    shape = segmentation.layout.shape
    lattice = Lattice(shape, BLOCK)
    count = min(BLOCKS, len(lattice))
    numbers = np.sort(np.random.default_rng(0).choice(len(lattice), count, replace=False))
    saliency = segmentation.saliency
    total = np.zeros(256, np.int64)
    for number in numbers:
        block = np.asarray(saliency[lattice.cell(int(number)).slices])
        total += np.bincount(block.ravel(), minlength=256)
    what = "all" if count == len(lattice) else f"a sample of {count} of {len(lattice)} blocks:"
    return total, f"{what} {int(total.sum()):,} voxels"
