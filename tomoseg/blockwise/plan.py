"""The plan of a run, before anything runs: shards, bytes, fingerprint. Pure.

Knows what will be read, computed and written and what that takes; touches no file.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tomoseg.blockwise.blend import Parts
from tomoseg.blockwise.resample import Resampling
from tomoseg.config import BLOCK, FEW, MANY, STRIDE, Lessons, RefineConfig, SegmentConfig
from tomoseg.errors import FingerprintError, RequestError
from tomoseg.fingerprints import differences
from tomoseg.geometry import Box, Index, Lattice, Window, window_around

IN_FLIGHT = 2
"""Shards that one worker holds at once: one is computed while others are read or written."""

CHUNKS_AT_ONCE = 10
"""Chunks that Zarr decodes at once (its async.concurrency)."""

THINNEST = 48
"""Edge in voxels of a window at least, the rest of which is reflected: the shipped network learnt
from windows so large."""

METHOD = 9
"""Of the bits: raised where the same request gives others than before, so that an output that an
earlier one began is not gone on with. 2: windows stay inside the volume. 3: a level that does not
attend joins itself in one product. 4: Algorithm 1 makes its response map part by part. 5: kernels
of 1 that learn are matrix products. 6: self-training takes 16 steps, not 8, of half the rate.
7: 12 steps, a teacher of four views, two looks at each window. 8: the mean of looks is that of log
odds. 9: a large tomogram is taught more."""

AFFORDABLE = 0.75
"""What many lessons may cost, of a look at every window: with two looks, less than three times
scope ``none``."""

TEACHING, LESSON = 5, 3
"""Forward passes over a block for its target and a look at what was learnt, and for a lesson."""

FLOAT = 4

COPIES = 4
"""Arrays of a tile's source that are alive at once while it is resampled: before and after
an axis, the tap that is added, and what was taken for it."""

BASE_BYTES = 450 * 2**20
"""A worker before its first shard: interpreter, torch, Dask."""


@dataclass(frozen=True)
class Plan:
    """What a run does to one volume.

    Parameters
    ----------
    shape
        Shape of the network's grid (z, y, x) in voxels: the input's, or the resampled one.
    itemsize
        Bytes of a voxel of the input as it is read.
    shard, halo
        Edge of a shard and width of the halo in voxels.
    lane_bytes
        Peak bytes that the network takes for one window.
    chunk
        Voxels of the input that can only be read together; None for MRC.
    resampling
        From the input's grid; None where the network works on that.
    core
        Edge of what a window decides.
    """

    shape: Index
    itemsize: int
    shard: int
    halo: int
    lane_bytes: int
    chunk: Index | None = None
    resampling: Resampling | None = None
    core: int = BLOCK

    @property
    def shards(self) -> Lattice:
        """The shards: one file, one task, one writer, one record each."""
        return Lattice(self.shape, self.shard)

    @property
    def blocks(self) -> Lattice:
        """The cores of the windows."""
        return Lattice(self.shape, self.core)

    @property
    def parts(self) -> Parts:
        """What shards keep until their windows are blended, over the whole halo."""
        return Parts(self.shape, self.shard, min(self.halo, self.core // 2))

    @property
    def window_shape(self) -> Index:
        """Shape of every window in voxels: no longer than a thin volume needs."""
        needed = (max(THINNEST, -(-n // STRIDE) * STRIDE) for n in self.shape)
        return tuple(min(self.core + 2 * self.halo, n) for n in needed)

    def layers(self, shard: Box) -> Iterator[Box]:
        """Yield the layers of a shard, two cores thick along z: what is read at once."""
        for z in range(shard.start[0], shard.stop[0], 2 * self.core):
            stop = min(z + 2 * self.core, shard.stop[0])
            yield Box((z, *shard.start[1:]), (stop, *shard.stop[1:]))

    def windows(self, box: Box) -> Iterator[tuple[int, Window]]:
        """Yield (global block number, window) for the blocks of a shard or layer, in order."""
        for number in self.blocks.numbers_in(box):
            yield number, self.window(number)

    def window(self, number: int) -> Window:
        """Return the window of a core."""
        return window_around(
            self.blocks.cell(number),
            volume=self.shape,
            shape=self.window_shape,
            halo=self.halo,
            step=STRIDE,
        )

    def lessons(self, refine: RefineConfig) -> Lessons:
        """Return how much scope ``volume`` teaches: more where that costs little beside windows."""
        many = refine.lessons(MANY)
        passes = LESSON * many.iterations * many.windows_per_step + TEACHING * refine.sample_blocks
        looks = self._distinct_windows() * math.prod(self.window_shape) / BLOCK**3
        return many if passes <= AFFORDABLE * looks else refine.lessons(FEW)

    def _distinct_windows(self) -> int:
        """Return how many windows there are: near the end of an axis several cores can have one."""
        starts = []
        for axis, count in enumerate(self.blocks.cells_per_axis):
            place = [0] * len(self.shape)
            seen = set()
            for place[axis] in range(0, count * self.core, self.core):
                window = self.window(self.blocks.number_at(tuple(place)))
                seen.add(window.valid.start[axis])
            starts.append(len(seen))
        return math.prod(starts)

    def read_box(self, box: Box) -> Box:
        """Return what the windows of a shard or layer see."""
        numbers = self.blocks.numbers_in(box)
        first, last = (self.window(numbers[at]).valid for at in (0, -1))
        return Box(first.start, last.stop)

    def shard_bytes(self) -> int:
        """Return the peak bytes that one shard in flight takes, besides its windows."""
        largest = self.shards.cell(0)
        read = max(self._layer_bytes(self.read_box(layer)) for layer in self.layers(largest))
        # the part in two bytes a voxel, and once more while the codec encodes it; saliency
        # and mask of a shard, later, take no more
        part = self.parts.stored(0, self.parts.box(0)).stop
        return read + self._decoding_bytes() + 4 * math.prod(part)

    def _layer_bytes(self, seen: Box) -> int:
        """Return the bytes of a layer as it is read, and as it is resampled."""
        if self.resampling is None:
            return seen.size * self.itemsize
        return self.resampling.source_box(seen).size * self.itemsize + seen.size * FLOAT

    def _decoding_bytes(self) -> int:
        """Return the bytes of the chunks that Zarr decodes at once."""
        if self.chunk is None:
            return 0
        wide = self.shard + 2 * self.halo
        shape = self.shape
        thick = min(self.shard, 2 * self.core) + 2 * self.halo
        read: Index = (thick, wide, wide)
        if self.resampling:
            shape, read = self.resampling.source, self.resampling.span(read)
        touched = [
            min(-(-n // c), -(-edge // c) + 1)
            for n, c, edge in zip(shape, self.chunk, read, strict=True)
        ]
        at_once = min(CHUNKS_AT_ONCE, math.prod(touched))
        return at_once * math.prod(self.chunk) * self.itemsize

    def worker_bytes(self, lanes: int) -> int:
        """Return the peak bytes of a worker that computes `lanes` windows at once."""
        in_flight = min(IN_FLIGHT, len(self.shards))
        lane = max(self.lane_bytes, self._tile_bytes())
        return BASE_BYTES + in_flight * self.shard_bytes() + lanes * lane

    def _tile_bytes(self) -> int:
        """Return the peak bytes of a lane that resamples a tile."""
        if self.resampling is None:
            return 0
        tile = (self.resampling.tile_edge,) * len(self.shape)
        largest = max(math.prod(self.resampling.span(tile)), math.prod(tile))
        return FLOAT * COPIES * largest

    def lanes_within(self, lanes: int, available: int) -> int:
        """Return how many of so many lanes a worker of `available` bytes has room for, or 1."""
        return next((n for n in range(lanes, 1, -1) if self.worker_bytes(n) <= available), 1)

    def check_memory(self, *, lanes: int, available: int) -> None:
        """Refuse a worker that is too small for its task.

        Raises
        ------
        RequestError
            Naming the need, what there is, and the flags that help.
        """
        needed = self.worker_bytes(lanes)
        if needed > available:
            helps = ["--workers 1" if lanes == 1 else "--threads 1"]
            if self.core > BLOCK:
                helps.insert(0, f"--core {BLOCK}")
            smaller = self.shard // 2 // self.core * self.core
            if smaller and self.shard_bytes() > self.lane_bytes:
                helps.insert(0, f"--shard {smaller}")
            raise RequestError(
                f"a worker needs {_gib(needed)} for shards of {self.shard} and {lanes} windows "
                f"at once, and may take {_gib(available)}.",
                f"Try {' or '.join(helps)}, or allow more with --memory.",
            )


def fingerprint(
    *,
    source: dict[str, Any],
    weights_sha256: str,
    config: SegmentConfig,
    grid: dict[str, Any] | None,
    device: str,
    versions: dict[str, str],
) -> dict[str, Any]:
    """Return what must be equal for a resumed run to give the same bits."""
    settings = config.to_dict()
    del settings["weights"]  # a name; the sha256 says which they are
    return {
        "method": METHOD,
        "input": source,
        "weights": weights_sha256,
        "config": settings,
        "grid": grid,
        "device": device,
        "versions": versions,
    }


def check_fingerprint(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse to go on with an output that another request began.

    Raises
    ------
    FingerprintError
        Naming everything that differs.
    """
    differing = differences(found, wanted)
    if differing:
        raise FingerprintError(
            f"the output was begun with another request: {'; '.join(differing)}.",
            "Repeat the request that began it, choose another --out, or give --overwrite.",
        )


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
