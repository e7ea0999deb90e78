"""What the network said, blended and placed on the output's grid, shard by shard.

Knows the image of the parts, the output and the resampling between their grids; knows no
network and no tomogram.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tomoseg.blockwise.blend import BlendReader, Parts
from tomoseg.blockwise.resample import Resampling, Values, regrid
from tomoseg.blockwise.roi import read_region
from tomoseg.blockwise.workers import worker
from tomoseg.blockwise.write import Saliency, ShardResult, ShardWriter
from tomoseg.config import BLOCK
from tomoseg.geometry import Box
from tomoseg.io.omezarr import Layout
from tomoseg.io.volume import Volume


@dataclass(frozen=True)
class Placement:
    """Everything that a worker needs to place any shard of the output; picklable.

    Parameters
    ----------
    parts, model
        What shards added on the network's grid, and the image that keeps it, complete
        where it is read.
    layout
        The output, where it is written now.
    back
        From the network's grid to the output's; None where they are the same.
    threshold
        Probability from which a voxel belongs to the mask.
    run
        Number of this run in the output's journal.
    lanes
        Tiles computed at once in one worker.
    roi
        Mask on the output's voxels outside of which all is 0; None for none.
    """

    parts: Parts
    model: Layout
    layout: Layout
    back: Resampling | None
    threshold: float
    run: int
    lanes: int
    roi: Volume | None = None

    def open(self) -> "Placer":
        """Return a worker for it."""
        return Placer(self)

    def needs(self, number: int) -> list[int]:
        """Return the shards of the network's grid that a shard of the output rests on."""
        box = self.layout.shards(0).cell(number)
        return self.parts.needed_for(self.back.source_box(box) if self.back else box)


class Placer:
    """What one process keeps for one placement."""

    def __init__(self, placement: Placement) -> None:
        self._back = placement.back
        self._roi = placement.roi
        self._source = BlendReader(placement.parts, placement.model)
        self._writer = ShardWriter(
            placement.layout, run=placement.run, threshold=placement.threshold
        )
        self._lanes = ThreadPoolExecutor(placement.lanes, "lane")

    def place(self, number: int) -> ShardResult:
        """Blend, interpolate, write and record one shard."""
        return self._writer.write(number, self._compute)

    def _compute(self, shard: Box) -> Saliency:
        if self._roi is None:
            return self._blended(shard)
        region = read_region(self._roi, shard)
        if not region.any():
            return np.zeros(shard.shape, np.uint8)
        return self._blended(shard) * region

    def _blended(self, shard: Box) -> Saliency:
        read = self._source.read
        if self._back is None:
            return read(shard)
        saliency = np.empty(shard.shape, np.uint8)
        for z in range(shard.start[0], shard.stop[0], BLOCK):
            layer = Box((z, *shard.start[1:]), (min(z + BLOCK, shard.stop[0]), *shard.stop[1:]))
            values = regrid(self._back, layer, read, _as_floats, self._lanes.map)
            saliency[layer.relative_to(shard).slices] = np.rint(values, out=values)
        return saliency

    def close(self) -> None:
        """Close what is open."""
        self._lanes.shutdown()
        self._writer.close()


def _as_floats(saliency: Saliency) -> Values:
    return saliency.astype(np.float32)


def place_shard(placement: Placement, number: int) -> ShardResult:
    """Place one shard of the output: a task that executors run."""
    with worker(placement) as found:
        return found.place(number)
