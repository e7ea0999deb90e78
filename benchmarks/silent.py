"""Segments one volume without its network, or with next to none of it: all of the engine.

    python benchmarks/silent.py TOMOGRAM OUTPUT --says blobs

For `memory` and `io_rate`, who measure it as a process. In the network's place stands what says
nothing anywhere, or blobs of 7 voxels everywhere, which are dearer to write than real saliency, or
the network itself, but for 16 windows of every 256 alone, so that the largest ends.
"""

import argparse
import functools
import itertools
import threading
from pathlib import Path
from typing import Any

import numpy as np

from tomoseg.blockwise import shard
from tomoseg.blockwise.execute import Resources, open_executor
from tomoseg.blockwise.prepare import prepare
from tomoseg.blockwise.prepared import Request
from tomoseg.blockwise.run import segment
from tomoseg.config import RefineConfig, SegmentConfig
from tomoseg.io.volume import open_volume
from tomoseg.saliency.predict import Predictor
from tomoseg.saliency.usalnet import USalNet

SEEN, EVERY = 16, 256
"""Windows that the network computes, of how many."""


class Silent:
    """In place of the network: sees nothing anywhere."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def saliency(self, windows: np.ndarray) -> np.ndarray:
        """Return zeros."""
        return np.zeros(windows.shape, np.float32)


class Blobs(Silent):
    """In place of the network: sees the same in every window, and is as quick."""

    def saliency(self, windows: np.ndarray) -> np.ndarray:
        """Return a lattice of blobs."""
        return np.broadcast_to(lattice(windows.shape[-1]), windows.shape)


class Glimpses(Silent):
    """The network, for some windows in a row."""

    def __init__(self, network: USalNet, **settings: Any) -> None:
        self._network = Predictor(network, **settings)
        self._numbers = itertools.count()

    def saliency(self, windows: np.ndarray) -> np.ndarray:
        """Return what the network says, or zeros."""
        model = self._network if next(self._numbers) % EVERY < SEEN else super()
        return model.saliency(windows)


@functools.cache
def lattice(edge: int) -> np.ndarray:
    """Return blobs in a cube."""
    wave = np.sin(np.arange(edge, dtype=np.float32) * np.float32(np.pi / 7))
    return np.maximum(functools.reduce(np.multiply.outer, [wave] * 3), 0)


SAYS = {"zeros": Silent, "blobs": Blobs, "network": Glimpses}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tomogram", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--says", choices=SAYS, default="zeros")
    chosen = parser.parse_args()
    shard.Predictor = SAYS[chosen.says]  # type: ignore[assignment,misc]
    config = SegmentConfig(refine=RefineConfig("none"), voxel_size_angstrom=10.0)
    resources = Resources()
    request = prepare(Request(open_volume(chosen.tomogram), chosen.output, config, resources))
    with open_executor(resources, threading.Event()) as executor:
        segment(request, executor, lambda *_: None)


if __name__ == "__main__":
    main()
