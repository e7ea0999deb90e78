"""Masks for tests of picking, and a run of it in this process."""

import threading
from pathlib import Path

import numpy as np
import zarr
from scipy import ndimage

from tomoseg.blockwise.execute import Serial
from tomoseg.config import PickConfig
from tomoseg.io.volume import open_volume
from tomoseg.particles.pick import pick
from tomoseg.particles.target import Target

VOXEL = (10.0, 10.0, 10.0)


def blobs(shape, *, seed=0, cover=0.16, smooth=1.0):
    """Return a mask of irregular blobs, many of which cross shards, and a saliency."""
    random = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(random.normal(size=shape), smooth)
    mask = (noise > np.quantile(noise, 1 - cover)).astype(np.uint8)
    saliency = ndimage.gaussian_filter(random.normal(size=shape), 1.0) * 400 + 128
    return mask, np.clip(saliency, 0, 255).astype(np.uint8)


def balls(shape, centres, radius):
    """Return a mask of balls."""
    at = np.indices(shape).reshape(3, -1).T
    near = [((at - centre) ** 2).sum(1) < radius**2 for centre in centres]
    return np.any(near, axis=0).reshape(shape).astype(np.uint8)


def target(folder, mask, saliency=None):
    """Return a target of arrays, written as Zarr."""
    volumes = []
    for name, values in (("mask", mask), ("saliency", saliency)):
        if values is None:
            volumes.append(None)
            continue
        path = Path(folder) / f"{name}.zarr"
        if not path.exists():
            zarr.create_array(path, data=values, chunks=(64,) * 3)
        volumes.append(open_volume(path))
    return Target("tomogram", *volumes, VOXEL)


def run(folder, found, executor=None, **settings):
    """Pick in this process."""
    labels = settings.pop("labels", None)
    return pick(
        found,
        PickConfig(**settings),
        executor or Serial(threading.Event()),
        scratch=Path(folder) / "scratch",
        progress=lambda *_: None,
        labels=labels,
    )


def assert_same(one, other):
    """Compare particles to the bit."""
    np.testing.assert_array_equal(one.centres, other.centres)
    assert one.columns.keys() == other.columns.keys()
    for name, values in one.columns.items():
        np.testing.assert_array_equal(values, other.columns[name], err_msg=name)
