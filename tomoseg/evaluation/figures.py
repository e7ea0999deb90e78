"""The figures of the benchmark: surfaces of a volume, and gain over cost.

Needs matplotlib, of the extra ``simulate``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from tomoseg.errors import RequestError

COLOURS = {"truth": "#4477aa", "mask": "#cc6677"}
LEVEL = 0.5
"""Level of the surface, of maps in [0, 1]."""

LIGHT = (0.4, -0.5, 0.8)
"""Direction to the light, x, y, z."""


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise RequestError(
            "figures: expected matplotlib, which is not installed.",
            "pip install 'tomoseg[simulate]'",
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def draw_surfaces(path: Path, maps: Mapping[str, NDArray[Any]], density: NDArray[Any]) -> None:
    """Draw a slice of the density, and the surface of each map beside it (Figure 5).

    Parameters
    ----------
    path
        PNG to write.
    maps
        Volumes in [0, 1], z, y, x, by title; drawn where they exceed one half.
    density
        Of the same shape, salient objects dark.
    """
    pyplot = _pyplot()
    figure = pyplot.figure(figsize=(4 * (1 + len(maps)), 4.2), layout="constrained")
    axis = figure.add_subplot(1, 1 + len(maps), 1)
    low, high = np.percentile(density, (1, 99))
    middle = density.shape[0] // 2
    axis.imshow(density[middle], cmap="gray", vmin=low, vmax=high)
    axis.set_title(f"density, z = {middle}")
    axis.set_axis_off()
    for number, (title, values) in enumerate(maps.items(), start=2):
        axis = figure.add_subplot(1, 1 + len(maps), number, projection="3d")
        _surface(axis, values, COLOURS["truth" if title == "truth" else "mask"])
        axis.set_title(title)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _surface(axis: Any, values: NDArray[Any], colour: str) -> None:
    from matplotlib.colors import to_rgb
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    depth, height, width = values.shape
    padded = np.pad(values.astype(np.float32), 1)  # closes objects that leave the volume
    if padded.max() > LEVEL:
        vertices, faces, _, _ = marching_cubes(padded, LEVEL)
        corners = (vertices - 1)[:, ::-1][faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        lengths = np.linalg.norm(normals, axis=1, keepdims=True)
        facing = normals / np.maximum(lengths, 1e-9) @ (np.array(LIGHT) / np.linalg.norm(LIGHT))
        tones = (0.55 + 0.45 * facing)[:, None] * np.array(to_rgb(colour))
        axis.add_collection3d(Poly3DCollection(corners, facecolors=tones.clip(0, 1)))
    axis.set(xlim=(0, width), ylim=(0, height), zlim=(0, depth))
    axis.set_box_aspect((width, height, depth))
    axis.set(xticks=[], yticks=[], zticks=[])


def draw_pareto(
    path: Path, panels: Mapping[str, Sequence[tuple[str, float, float]]], unit: str
) -> None:
    """Draw gain over cost, a panel each; what nothing cheaper beats is joined by a line.

    Parameters
    ----------
    path
        PNG to write.
    panels
        By title: name, cost and score of each way.
    unit
        Of the cost.
    """
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(5.5 * len(panels), 4.2), layout="constrained", squeeze=False
    )
    for axis, (title, points) in zip(axes[0], panels.items(), strict=True):
        for name, cost, gain in points:
            axis.plot(cost, gain, "o", color="#4477aa")
            axis.annotate(name, (cost, gain), fontsize=7, xytext=(4, 3), textcoords="offset points")
        front = pareto(points)
        axis.plot([cost for _, cost, _ in front], [gain for *_, gain in front], color="#cc6677")
        axis.set(xscale="log", xlabel=unit, title=title)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def pareto(points: Sequence[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """Return the points, name, cost and score, that no cheaper one equals or beats."""
    front: list[tuple[str, float, float]] = []
    for point in sorted(points, key=lambda p: (p[1], -p[2])):
        if not front or point[2] > front[-1][2]:
            front.append(point)
    return front
