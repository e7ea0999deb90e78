"""Finished outputs with a mask that a test chooses: made as the engine does, without its work."""

import dataclasses
from pathlib import Path

import mrcfile
import numpy as np

from tomoseg.blockwise.prepare import prepare
from tomoseg.blockwise.prepared import Request
from tomoseg.blockwise.run import Summary
from tomoseg.config import RefineConfig, SegmentConfig
from tomoseg.io.omezarr import ArrayStore, create, update_attributes
from tomoseg.io.pyramid import build_level_shard
from tomoseg.io.volume import open_volume


def write_mrc(path: Path, density: np.ndarray, voxel_size: float = 10.0) -> Path:
    with mrcfile.new(path) as file:
        file.set_data(density)
        file.set_volume()
        file.voxel_size = voxel_size
    return path


def make_output(tomogram: Path, saliency: np.ndarray, *, complete: bool = True, **config) -> Path:
    """Write `saliency` (uint8), and the mask of 128 and above, as an output of `tomogram`."""
    settings = SegmentConfig(
        "random:0",
        RefineConfig("none"),
        **{"halo": 0, "core": 64, "shard": 64, "resample": "never"} | config,
    )
    output = tomogram.with_suffix(".zarr")
    prepared = prepare(Request(open_volume(tomogram), output, settings, command="a command"))
    layout = prepared.layout(output)
    create(layout, prepared.attributes())
    for kind, values in (("image", saliency), ("mask", (saliency >= 128).astype(np.uint8))):
        store = ArrayStore(layout, kind, 0)
        for box in layout.shards(0):
            store.write_shard(box, values[box.slices])
        for level in range(1, layout.levels):
            for box in layout.shards(level):
                build_level_shard(layout, kind, level, box)
    fraction = float(np.mean(saliency >= 128))
    summary = Summary(str(output), len(layout.shards(0)), 0, 1.01, fraction, True, {})
    if complete:
        update_attributes(output, {"complete": True, "summary": dataclasses.asdict(summary)})
    return output
