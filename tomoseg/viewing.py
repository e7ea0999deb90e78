"""What a viewer is to show of an output: layers, made without the viewer and without reading.

Knows napari by the names of its layers' settings alone, and opens it only when asked to.
"""

import logging
from dataclasses import dataclass, field
from typing import Any, Literal

import dask.array as da

from tomoseg.errors import TomosegError
from tomoseg.io.layout import Kind
from tomoseg.io.volume import Triple
from tomoseg.lazy import lazy_array
from tomoseg.segmentation import Segmentation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layer:
    """A layer of a viewer.

    Parameters
    ----------
    kind
        ``image``, or ``labels`` of whole numbers.
    name
        For the list of layers.
    levels
        Lazy arrays, z, y, x, the finest first; each halves the one before.
    scale
        Voxel size of the finest in angstrom, z, y, x.
    translate
        Position of the centre of its voxel (0, 0, 0) in angstrom, z, y, x.
    settings
        Further settings that napari's layers of that kind know.
    """

    kind: Literal["image", "labels"]
    name: str
    levels: list[da.Array]
    scale: Triple
    translate: Triple
    settings: dict[str, Any] = field(default_factory=dict)


def build_layers(segmentation: Segmentation, source: str | None = None) -> list[Layer]:
    """Return the tomogram, if it is at hand, its saliency and its mask.

    Parameters
    ----------
    segmentation
        A finished output.
    source
        Where the tomogram lies now; None for where it lay.

    Raises
    ------
    InputError
        Where `source` cannot be read; a tomogram that is merely gone is left out.
    """
    layout = segmentation.layout
    place = {"scale": layout.level_scale(0), "translate": layout.origin_angstrom}

    def levels(kind: Kind) -> list[da.Array]:
        every = range(layout.levels)
        return [da.from_zarr(segmentation.level(kind, level)) for level in every]

    saliency = Layer(
        kind="image",
        name="saliency",
        levels=levels("image"),
        settings={
            "colormap": "magma",
            "blending": "additive",
            "contrast_limits": (0, 255),
            "visible": False,
        },
        **place,
    )
    mask = Layer("labels", "mask", levels("mask"), settings={"opacity": 0.5}, **place)
    return [*_tomogram(segmentation, source), saliency, mask]


def _tomogram(segmentation: Segmentation, source: str | None) -> list[Layer]:
    try:
        volume = segmentation.open_input(source)
    except TomosegError as error:
        if source is not None:
            raise
        logger.warning("The tomogram is left out: %s", error)
        return []
    said = segmentation.attributes["fingerprint"]["input"]
    statistics = segmentation.attributes["resampling"] or {}
    numbers = statistics.get("input_statistics") or segmentation.attributes["statistics"]
    low, high = (numbers["location"] + k * numbers["scale"] for k in (-4, 4))
    z, y, x = said["voxel_size_angstrom"]
    return [
        Layer(
            kind="image",
            name="tomogram",
            levels=[lazy_array(volume)],
            scale=(z, y, x),
            translate=volume.origin_angstrom,
            settings={"colormap": "gray", "contrast_limits": (low, high)},
        )
    ]


def show(layers: list[Layer]) -> None:
    """Open napari with `layers` and wait until its window is closed.

    Raises
    ------
    TomosegError
        Where napari is not installed, or cannot open a window.
    """
    try:
        import napari
    except ImportError as error:
        raise TomosegError(
            "napari is not installed.", "Get it with: pip install 'tomoseg[view]'"
        ) from error
    viewer = napari.Viewer(title="tomoseg", axis_labels=("z", "y", "x"))
    add_layers(viewer, layers)
    napari.run()


def add_layers(viewer: Any, layers: list[Layer]) -> None:
    """Add `layers` to a napari viewer, over one another, lengths in angstrom."""
    for layer in layers:
        add = viewer.add_image if layer.kind == "image" else viewer.add_labels
        several = len(layer.levels) > 1
        add(
            layer.levels if several else layer.levels[0],
            multiscale=several,
            name=layer.name,
            scale=layer.scale,
            translate=layer.translate,
            units=("angstrom",) * 3,
            **layer.settings,
        )
    viewer.scale_bar.visible = True
