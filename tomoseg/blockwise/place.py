"""The way back: saliency from the network's grid onto the input's, shard by shard.

Knows two images and the resampling between them; knows no network and no tomogram.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tomoseg.blockwise.resample import Resampling, Values, regrid
from tomoseg.blockwise.workers import worker
from tomoseg.blockwise.write import Saliency, ShardResult, ShardWriter
from tomoseg.config import BLOCK
from tomoseg.geometry import Box
from tomoseg.io.omezarr import ArrayStore, Layout


@dataclass(frozen=True)
class Placement:
    """Everything that a worker needs to place any shard of the output; picklable.

    Parameters
    ----------
    model
        Image of the saliency on the network's grid, complete where it is read.
    layout
        The output, where it is written now.
    back
        From the network's grid to the output's.
    threshold
        Probability from which a voxel belongs to the mask.
    run
        Number of this run in the output's journal.
    lanes
        Tiles computed at once in one worker.
    """

    model: Layout
    layout: Layout
    back: Resampling
    threshold: float
    run: int
    lanes: int

    def open(self) -> "Placer":
        """Return a worker for it."""
        return Placer(self)

    def needs(self, number: int) -> list[int]:
        """Return the shards of the network's grid that a shard of the output rests on."""
        box = self.back.source_box(self.layout.shards(0).cell(number))
        return self.model.shards(0).numbers_in(box)


class Placer:
    """What one process keeps for one placement."""

    def __init__(self, placement: Placement) -> None:
        self._back = placement.back
        self._source = ArrayStore(placement.model, "image", 0)
        self._writer = ShardWriter(
            placement.layout, threshold=placement.threshold, run=placement.run
        )
        self._lanes = ThreadPoolExecutor(placement.lanes, "lane")

    def place(self, number: int) -> ShardResult:
        """Interpolate, write and record one shard."""
        return self._writer.write(number, self._compute)

    def _compute(self, shard: Box) -> Saliency:
        saliency = np.empty(shard.shape, np.uint8)
        for z in range(shard.start[0], shard.stop[0], BLOCK):
            layer = Box((z, *shard.start[1:]), (min(z + BLOCK, shard.stop[0]), *shard.stop[1:]))
            values = regrid(self._back, layer, self._source.read, _as_floats, self._lanes.map)
            saliency[layer.relative_to(shard).slices] = np.rint(values)
        return saliency

    def close(self) -> None:
        """Close what is open."""
        self._lanes.shutdown()
        self._writer.close()


def _as_floats(saliency: Saliency) -> Values:
    return saliency.astype(np.float32)


def place_shard(placement: Placement, number: int) -> ShardResult:
    """Place one shard of the output: a task that executors run."""
    return worker(placement).place(number)
