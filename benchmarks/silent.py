"""Segments one volume with a network that returns zeros: all of the engine, nothing else.

    python benchmarks/silent.py TOMOGRAM OUTPUT

For `memory` and `io_rate`, who measure it as a process.
"""

import argparse
import threading
from pathlib import Path

import numpy as np

from tomoseg.blockwise import shard
from tomoseg.blockwise.execute import Resources, open_executor
from tomoseg.blockwise.prepare import Request, prepare
from tomoseg.blockwise.run import segment
from tomoseg.config import RefineConfig, SegmentConfig
from tomoseg.io.volume import open_volume


class Silent:
    """In place of the network: sees nothing anywhere."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def saliency(self, windows: np.ndarray) -> np.ndarray:
        """Return zeros."""
        return np.zeros(windows.shape, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tomogram", type=Path)
    parser.add_argument("output", type=Path)
    chosen = parser.parse_args()
    shard.Predictor = Silent  # type: ignore[assignment,misc]
    config = SegmentConfig(refine=RefineConfig("none"), voxel_size_angstrom=10.0)
    resources = Resources()
    request = prepare(Request(open_volume(chosen.tomogram), chosen.output, config, resources))
    with open_executor(resources, threading.Event()) as executor:
        segment(request, executor, lambda *_: None)


if __name__ == "__main__":
    main()
