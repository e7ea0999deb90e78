"""Everything that turns a tomogram into saliency, ours and others', under one interface.

A method is a value: a name for tables, the key of what decides its maps, and a function.
"""

import contextlib
import tempfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from numpy.typing import NDArray

from tomoseg.blockwise.execute import Resources, open_executor
from tomoseg.blockwise.plan import METHOD
from tomoseg.blockwise.prepare import prepare
from tomoseg.blockwise.prepared import Request
from tomoseg.blockwise.run import segment
from tomoseg.config import SegmentConfig
from tomoseg.evaluation.cases import Image, Scene, Tomogram
from tomoseg.geometry import whole
from tomoseg.io.omezarr import ArrayStore
from tomoseg.io.volume import open_volume
from tomoseg.saliency.architecture import STRIDES
from tomoseg.saliency.predict import Predictor, SaliencyModel, looking
from tomoseg.saliency.refine import refine
from tomoseg.saliency.usalnet import USalNet
from tomoseg.saliency.weights import load

Map = NDArray[Any]
"""Saliency of a view: uint8 0-255, or floating point in [0, 1]."""

Baseline = Callable[[Image], NDArray[np.float32]]


_ENGINE = threading.Lock()
"""One volume at a time goes through the engine where its lanes take all cores; Algorithm 1, one
window at a time, takes one."""


@dataclass(frozen=True, eq=False)
class Method:
    """One row of a table.

    Parameters
    ----------
    name
        As tables print it.
    maps
        Returns the saliency of each view of a tomogram or of `Pictures`, in their order.
    key
        Plain JSON values: what decides the maps beside the tomogram.
    turn
        Held while it runs, where only one at a time can.
    """

    name: str
    maps: Callable[[Any], list[Map]]
    key: dict[str, Any] = field(default_factory=dict)
    turn: AbstractContextManager[Any] = field(default_factory=contextlib.nullcontext)


def of_baseline(
    name: str, baseline: Baseline, dim: int, key: dict[str, Any] | None = None
) -> Method:
    """Return a baseline as a method on volumes or on slices."""

    def maps(scene: Scene) -> list[Map]:
        return [baseline(image) for image, _ in scene.views(dim)]

    return Method(name, maps, {"baseline": name, **(key or {})})


def of_network(name: str, config: SegmentConfig, dim: int) -> Method:
    """Return the product as a method: a network with or without refinement.

    Volumes go through the engine as under ``tomoseg segment``; slices of a tomogram are
    windows of a 2-D network, which scope ``volume`` refines on all of them and scope
    ``block`` one by one.

    Parameters
    ----------
    name
        As tables print it.
    config
        With dark contrast.
    dim
        Of the network of `config.weights`.
    """
    card = load(config.weights)[1]
    key = {
        "weights": card.sha256,
        "intensities": [card.smoothed, card.amplitude],
        "config": config.to_dict(),
        "engine": METHOD,
    }
    run: Callable[[Any, SegmentConfig], list[Map]] = _of_volume if dim == 3 else _of_slices
    votes = config.refine.scope != "none" and config.refine.rule != "teacher"
    turn: AbstractContextManager[Any] = contextlib.nullcontext() if dim == 2 or votes else _ENGINE
    return Method(name, lambda scene: run(scene, config), key, turn)


def _of_volume(tomogram: Tomogram, config: SegmentConfig) -> list[Map]:
    with tempfile.TemporaryDirectory(prefix="tomoseg-benchmark-") as folder:
        source, output = Path(folder) / "tomogram.mrc", Path(folder) / "saliency.zarr"
        with mrcfile.new(source) as file:
            file.set_data(tomogram.density)
            file.set_volume()
            file.voxel_size = tomogram.voxel_size_angstrom
        resources = Resources()
        prepared = prepare(Request(open_volume(str(source)), output, config, resources))
        with open_executor(resources, threading.Event()) as executor:
            segment(prepared, executor, lambda *_: None)
        layout = prepared.layout(output)
        return [ArrayStore(layout, "image", 0).read(whole(layout.shape))]


def _of_slices(scene: Scene, config: SegmentConfig) -> list[Map]:
    network, _ = load(config.weights)
    images = [image for image, _ in scene.views(2)]
    windows = _windows(images)
    if config.refine.scope == "block":
        models = [
            _model(network, [window], config, number) for number, window in enumerate(windows)
        ]
    else:
        models = [_model(network, windows, config, 0)] * len(windows)
    return [
        model.saliency(window[None])[0][tuple(slice(n) for n in image.shape)]
        for model, window, image in zip(models, windows, images, strict=True)
    ]


def _model(
    network: USalNet, windows: list[Image], config: SegmentConfig, number: int
) -> SaliencyModel:
    model: SaliencyModel = Predictor(network, precision=config.precision)
    if config.refine.scope != "none":
        seed = int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0])
        model = refine(network, windows, config.refine, seed=seed, precision=config.precision)
    return looking(model, config.looks_in_use, dim=2)


def _windows(images: list[Image]) -> list[Image]:
    """Pad images by reflection to one shape, as refinement and the network's stride need."""
    stride = STRIDES[-1]
    edges = [max(image.shape[axis] for image in images) for axis in (0, 1)]
    wanted = [edge + -edge % stride for edge in edges]
    return [
        np.pad(image, [(0, n - m) for n, m in zip(wanted, image.shape, strict=True)], "symmetric")
        for image in images
    ]
