"""The pictures of a report: planes of the tomogram, with the mask's outline for each.

Whatever the size: two planes, and a few dozen along z, at the resolution of a screen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomoseg.geometry import Index
from tomoseg.io.layout import Kind, Layout
from tomoseg.io.remote import is_url
from tomoseg.io.volume import Volume
from tomoseg.io.zarr_input import find_level
from tomoseg.report.pictures import (
    LONGEST,
    encode_grey,
    encode_outline,
    grey_window,
    screen_shape,
    to_grey,
)
from tomoseg.report.sections import Cut, read_section, section_bytes
from tomoseg.segmentation import Segmentation

SLICES = 41
"""Planes along z that can be leafed through, at most."""

PICTURE_BYTES = 3_200_000
"""Of all grey pictures, as text: outlines, tables and the page come on top."""

READ_BYTES = 4 << 30
"""That the storage may have to read and decode for all planes of the tomogram."""

REMOTE_BYTES = 1 << 28
"""The same where all of it comes over a network."""

NAMES = ("xy", "xz", "yz")
"""Of orientations, by the axis that they cut: across and down."""


@dataclass(frozen=True)
class View:
    """Parallel planes of one orientation, with what lies over them.

    Parameters
    ----------
    name
        One of `NAMES`.
    positions
        Voxel of the output that each plane goes through, along the axis cut.
    length
        Voxels of the output along that axis.
    shape
        Height and width of the pictures in pixels.
    pictures, outlines
        ``data:`` addresses, one each per plane.
    """

    name: str
    positions: list[int]
    length: int
    shape: tuple[int, int]
    pictures: list[str]
    outlines: list[str]


def build_views(segmentation: Segmentation, volume: Volume | None) -> tuple[list[View], str]:
    """Read and encode the pictures.

    Parameters
    ----------
    segmentation
        Whose mask is drawn.
    volume
        The tomogram; None to show the saliency in its place.

    Returns
    -------
    views, description
        Of `NAMES`, in that order; and what the pictures show, in words.
    """
    level = shown_level(segmentation.layout)
    depth = segmentation.layout.level_shape(level)[0]
    wanted = [Cut(0, (z + 0.5) / depth) for z in spread(depth, SLICES)]
    others = [Cut(1, 0.5), Cut(2, 0.5)]
    shown = None if volume is None else find_level(volume, LONGEST)
    along_z = [] if shown is None else affordable(shown, wanted)
    if shown is None or not along_z:
        cuts = [*wanted, *others]
        planes = [_plane(segmentation, "image", level, cut).astype(np.float32) for cut in cuts]
        window = (255.0, 0.0)  # dark is salient, as objects are in a tomogram
        why = "too large to be read in time" if shown else "not at hand"
        base = f"Saliency (dark is salient), for the tomogram is {why}."
    else:
        cuts = [*along_z, *others]
        step = shown_step(shown.shape)
        with shown.reader() as reader:
            planes = [read_section(reader, shown, cut, step) for cut in cuts]
        window = grey_window(planes)
        pixel = "a voxel" if step == 1 else f"the mean of {step} x {step} voxels"
        where = "" if shown == volume else f" of its level {shown.array}"
        base = f"Density of the tomogram, each pixel {pixel} within its plane{where}."
    greys = [to_grey(plane, window) for plane in planes]
    base += f" The outline is that of level {level} of the mask's pyramid."
    return _encode(segmentation, level, cuts, greys), base


def _encode(
    segmentation: Segmentation, level: int, cuts: list[Cut], greys: list[NDArray[np.uint8]]
) -> list[View]:
    layout = segmentation.layout
    screens = [_screen(layout, level, cut) for cut in cuts]
    pictures = encode_grey(greys, screens, PICTURE_BYTES)
    outlines = [
        encode_outline(_plane(segmentation, "mask", level, cut) > 0, screen)
        for cut, screen in zip(cuts, screens, strict=True)
    ]
    views = []
    for axis, name in enumerate(NAMES):
        mine = [k for k, cut in enumerate(cuts) if cut.axis == axis]
        views.append(
            View(
                name=name,
                positions=[cuts[k].index(layout.shape) for k in mine],
                length=layout.shape[axis],
                shape=screens[mine[0]],
                pictures=[pictures[k] for k in mine],
                outlines=[outlines[k] for k in mine],
            )
        )
    return views


def _screen(layout: Layout, level: int, cut: Cut) -> tuple[int, int]:
    shape, sizes = layout.level_shape(level), layout.level_scale(level)
    down, across = (axis for axis in range(3) if axis != cut.axis)
    return screen_shape((shape[down], shape[across]), (sizes[down], sizes[across]))


def _plane(segmentation: Segmentation, kind: Kind, level: int, cut: Cut) -> NDArray[np.uint8]:
    array: Any = segmentation.level(kind, level)
    index: list[int | slice] = [slice(None)] * 3
    index[cut.axis] = cut.index(segmentation.layout.level_shape(level))
    return np.asarray(array[tuple(index)], np.uint8)


def affordable(volume: Volume, cuts: Sequence[Cut]) -> list[Cut]:
    """Return as many of the cuts across z as can be read in time, evenly spread, or none."""
    step = shown_step(volume.shape)
    most = REMOTE_BYTES if is_url(volume.path) else READ_BYTES
    left = most - sum(section_bytes(volume, Cut(axis, 0.5), step) for axis in (1, 2))
    count = max(0, left // section_bytes(volume, cuts[0], step))
    return [cuts[k] for k in spread(len(cuts), count)] if count else []


def spread(length: int, count: int) -> list[int]:
    """Return at most `count` whole numbers below `length`, evenly spread.

    >>> spread(10, 3)
    [1, 5, 8]
    """
    count = min(count, length)
    return [int((k + 0.5) * length / count) for k in range(count)]


def shown_level(layout: Layout) -> int:
    """Return the finest level whose planes fit on a screen."""
    fitting = (k for k in range(layout.levels) if max(layout.level_shape(k)) <= LONGEST)
    return next(fitting)  # the coarsest always does


def shown_step(shape: Index) -> int:
    """Return voxels per pixel, a power of two, with which every plane fits on a screen."""
    step = 1
    while max(shape) > LONGEST * step:
        step *= 2
    return step
