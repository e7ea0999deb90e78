"""One shard from input to disk: the task that every executor runs.

A `Worker` lives once in each process: it opens the input, loads the model and keeps its
lanes. Knows nothing of who calls it or of other shards.
"""

import dataclasses
import functools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomoseg.blockwise.blend import BlendReader, Sums, contribution
from tomoseg.blockwise.plan import Plan
from tomoseg.blockwise.seams import SeamSums, seam_sums, with_low_neighbours
from tomoseg.blockwise.source import Source
from tomoseg.blockwise.workers import worker
from tomoseg.blockwise.write import ShardResult, ShardWriter
from tomoseg.config import BLOCK, SegmentConfig
from tomoseg.geometry import Box, Window
from tomoseg.io.omezarr import Kind, Layout
from tomoseg.io.pyramid import build_level_shard
from tomoseg.io.storage import fsync
from tomoseg.saliency.lanes import hand_back, lane_setup, require_precision
from tomoseg.saliency.predict import Predictor, SaliencyModel, looking
from tomoseg.saliency.refine import refine
from tomoseg.saliency.refined import Refined
from tomoseg.saliency.weights import load

Cores = list[tuple[int, Window]]
"""Global numbers and windows of cores that one look at the volume decides."""


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs to compute any shard of one volume; picklable.

    Parameters
    ----------
    source
        The input as the network sees it.
    layout
        The image of the parts (`tomoseg.blockwise.blend`), where it is written now.
    refined
        File of the weights that scope ``volume`` refines.
    config, plan
        What decides the result.
    run
        Number of this run in the journal of the layout.
    lanes
        Windows computed at once in one worker; each lane is one thread.
    device
        Torch device of the network.
    """

    source: Source
    layout: Layout
    refined: Path
    config: SegmentConfig
    plan: Plan
    run: int
    lanes: int
    device: str

    def open(self) -> "Worker":
        """Return a worker for it."""
        return Worker(self)


class Worker:
    """What one process keeps for one job: input, network, lanes, outputs, journal."""

    def __init__(self, job: Job) -> None:
        lane_setup()
        require_precision(job.config.precision, job.device)
        self.job = job
        self._reader = job.source.reader()
        self._network, _ = load(job.config.weights)
        self._lanes = ThreadPoolExecutor(job.lanes, "lane", initializer=lane_setup)

    @functools.cached_property
    def _writer(self) -> ShardWriter:
        """The image: refinement comes before it is there, and without it."""
        return ShardWriter(self.job.layout, run=self.job.run)

    @functools.cached_property
    def _blend(self) -> BlendReader:
        return BlendReader(self.job.plan.parts, self.job.layout)

    @functools.cached_property
    def _model(self) -> SaliencyModel:
        """The network that is the same for every block; scope ``block`` has none."""
        device, precision = self.job.device, self.job.config.precision
        if self.job.config.refine.scope == "volume":
            return self._looking(
                Refined.from_file(self.job.refined, device=device, precision=precision)
            )
        return self._looking(Predictor(self._network, device=device, precision=precision))

    def _looking(self, model: SaliencyModel) -> SaliencyModel:
        return looking(model, self.job.config.looks_in_use, dim=3)

    def close(self) -> None:
        """Close what is open."""
        self._lanes.shutdown()
        if "_writer" in vars(self):
            self._writer.close()
        self._reader.close()

    def segment(self, number: int) -> ShardResult:
        """Read, compute, write and record one shard; a failure is recorded and returned."""
        return self._writer.write(number, functools.partial(self._compute, number))

    def _compute(self, number: int, stored: Box) -> Sums:
        """Return what a shard's windows add, reading it layer by layer."""
        plan, parts = self.job.plan, self.job.plan.parts
        part = np.zeros(stored.shape, np.uint16)
        adding = threading.Lock()
        for layer in plan.layers(plan.shards.cell(number)):
            seen = plan.read_box(layer)
            raw = self._reader.read(seen, self._lanes.map)

            def one(cores: Cores, raw: NDArray[Any] = raw, seen: Box = seen) -> None:
                block, window = cores[0]
                values = self._normalised(raw[window.valid.relative_to(seen).slices], window)
                probability = self._block_model(block, values).saliency(values[None])[0]
                for _, window in cores:
                    box, added = contribution(probability, window, plan.shape, parts.width)
                    place = parts.stored(number, box).relative_to(stored)
                    with adding:  # whole numbers: the order in which lanes finish is no matter
                        part[place.slices] += added
                hand_back()

            for _ in self._lanes.map(one, self._by_window(layer)):
                pass
        return part

    def _by_window(self, layer: Box) -> list[Cores]:
        """Return the cores of a layer, those together that the same voxels decide.

        Near the end of an axis several cores can have one window. Scope ``block`` refines for
        each of them.
        """
        alone = self.job.config.refine.scope == "block"
        found: dict[tuple[Box, int], Cores] = {}
        for block, window in self.job.plan.windows(layer):
            found.setdefault((window.valid, block if alone else 0), []).append((block, window))
        return list(found.values())

    def _block_model(self, number: int, values: NDArray[np.float32]) -> SaliencyModel:
        config = self.job.config
        if config.refine.scope != "block":
            return self._model
        seed = int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0])
        refined = refine(
            self._network,
            [values],
            config.refine,
            seed=seed,
            device=self.job.device,
            precision=config.precision,
        )
        return self._looking(refined)

    def _normalised(self, values: NDArray[Any], window: Window) -> NDArray[np.float32]:
        normalised = self.job.source.normalise(values)
        if not np.any(window.pad):
            return normalised
        return np.pad(normalised, [(0, n) for n in window.pad], mode="reflect")

    def refine_volume(self) -> dict[str, Any]:
        """Refine one set of weights on a sample of the volume and keep it in the output.

        Returns
        -------
        dict
            The report of the refinement. Where an earlier run has left the weights, they
            are kept: they are the same, being a function of the fingerprint.
        """
        path = self.job.refined
        if not path.exists():
            windows = [self._read_block(number) for number in self._sample()]
            refined = refine(
                self._network,
                windows,
                self.job.config.refine,
                seed=self.job.config.seed,
                lanes=self.job.lanes,
                device=self.job.device,
                precision=self.job.config.precision,
            )
            temporary = path.with_name(f"{path.stem}.{os.getpid()}.partial{path.suffix}")
            refined.to_file(temporary)
            fsync(temporary)
            temporary.replace(path)
        return Refined.from_file(path, device=self.job.device).report

    def _read_block(self, number: int) -> NDArray[np.float32]:
        """Return a block, the paper's window: refining it costs little."""
        window = self._refined.window(number)
        return self._normalised(self._reader.read(window.valid), window)

    @property
    def _refined(self) -> Plan:
        """The plan of blocks without halos, which weights are refined on."""
        return dataclasses.replace(self.job.plan, core=BLOCK, halo=0)

    def _sample(self) -> list[int]:
        """Choose blocks, seeded and spread evenly over the range of contrast.

        Four candidates for each block that is wanted are ranked by the spread of their
        4-voxel means: ice, noise alone, ranks low; what is crowded ranks high.
        """
        wanted = self.job.config.refine.sample_blocks
        blocks = self._refined.blocks
        candidates = np.random.default_rng(self.job.config.seed).choice(
            len(blocks), min(len(blocks), 4 * wanted), replace=False
        )
        ranked = sorted((self._contrast(int(number)), int(number)) for number in candidates)
        positions = np.linspace(0, len(ranked) - 1, min(wanted, len(ranked))).round().astype(int)
        return [ranked[position][1] for position in positions]

    def _contrast(self, number: int) -> float:
        window = self._read_block(number)
        means = window.reshape([n for edge in window.shape for n in (edge // 4, 4)])
        return float(means.mean(axis=(1, 3, 5)).std())

    def seams(self, number: int) -> SeamSums:
        """Sum the seam measure over one shard, once it and its neighbours are finished."""
        plan = self.job.plan
        owned = plan.shards.cell(number)
        box = with_low_neighbours(owned)
        return seam_sums(self._blend.read(box), box, owned, plan.shape, plan.core)


def segment_shard(job: Job, number: int) -> ShardResult:
    """Segment one shard of a job: the task that executors run."""
    with worker(job) as found:
        return found.segment(number)


def refine_volume(job: Job, _: int = 0) -> dict[str, Any]:
    """Refine the weights of scope ``volume``: a task of its own, before all shards."""
    with worker(job) as found:
        return found.refine_volume()


def shard_seams(job: Job, number: int) -> SeamSums:
    """Sum the seam measure over one shard, once it and its neighbours are finished."""
    with worker(job) as found:
        return found.seams(number)


def pyramid_shard(layout: Layout, level: int, task: tuple[Kind, int]) -> None:
    """Build one shard, (kind, number), of a pyramid level from the level below it."""
    kind, number = task
    build_level_shard(layout, kind, level, layout.shards(level).cell(number))
