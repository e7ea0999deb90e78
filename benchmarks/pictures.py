"""What the benchmarks draw: slices of volumes side by side."""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import pyplot as plt


def draw_rows(path: Path, volumes: dict[str, np.ndarray], axes: tuple[int, ...] = (0, 1)) -> None:
    """Draw the middle slice across each of `axes`, a row each, a column for each volume.

    Density is drawn between its 1st and 99th percentile, uint8 and bool as a map of
    saliency; images are drawn as they are.
    """
    first = next(iter(volumes.values()))
    rows: tuple[int | None, ...] = axes if first.ndim == 3 else (None,)
    _draw_grid(path, [_planes(volumes, axis) for axis in rows])


def draw_beside(path: Path, sets: dict[str, dict[str, np.ndarray]]) -> None:
    """Draw the middle z slice of several sets of volumes, a row each, drawn as `draw_rows`."""
    rows = [_planes(volumes, 0) for volumes in sets.values()]
    _draw_grid(
        path,
        [
            {f"{name}: {title}": plane for title, plane in row.items()}
            for name, row in zip(sets, rows, strict=True)
        ],
    )


Planes = dict[str, np.ndarray]


def _planes(volumes: dict[str, np.ndarray], axis: int | None) -> Planes:
    """Return the middle slice of each volume across `axis`, by its title."""
    if axis is None:
        return volumes
    middle = {name: volume.shape[axis] // 2 for name, volume in volumes.items()}
    return {
        f"{name}, {'zyx'[axis]} = {middle[name]}": volume.take(middle[name], axis)
        for name, volume in volumes.items()
    }


def _draw_grid(path: Path, rows: list[Planes]) -> None:
    columns = len(rows[0])
    figure, panels = plt.subplots(
        len(rows), columns, figsize=(4.2 * columns, 4.0 * len(rows)), layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for row, line in zip(rows, panels, strict=True):
        for panel, (title, plane) in zip(line, row.items(), strict=True):
            _show(panel, plane)
            panel.set_title(title)
            panel.set_axis_off()
    figure.savefig(path, dpi=75)
    plt.close(figure)


def _show(panel: plt.Axes, plane: np.ndarray) -> None:
    if plane.dtype in (np.uint8, np.bool_):
        panel.imshow(plane, cmap="magma", vmin=0, vmax=255 if plane.max() > 1 else 1)
    else:
        low, high = np.percentile(plane, (1, 99))
        panel.imshow(plane, cmap="gray", vmin=low, vmax=high)


Line = list[tuple[float, float, float]]
Panel = tuple[str, str, tuple[float, ...], dict[str, Line]]
"""Names of the axes x and y, values of x, and by method mean, low and high at each."""


def draw_curves(path: Path, panels: list[Panel]) -> None:
    """Draw curves with the band of their intervals, three panels in a row."""
    rows = -(-len(panels) // 3)
    columns = min(3, len(panels))
    figure, grid = plt.subplots(
        rows, columns, figsize=(4.4 * columns, 3.2 * rows), layout="constrained", squeeze=False
    )
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, (label, score, values, methods) in zip(grid.flat, panels, strict=False):
        for method, line in methods.items():
            mean, low, high = np.array(line).T
            axes.plot(values, mean, marker="o", markersize=3, label=method)
            axes.fill_between(values, low, high, alpha=0.2)
        if values[0] > 0 and values[-1] > 10 * values[0]:
            axes.set_xscale("log")
        axes.set_xlabel(label)
        axes.set_ylabel(score)
        axes.set_ylim(0, 1 if score == "maximum f" else None)
        axes.grid(alpha=0.3)
    grid.flat[0].legend()
    figure.savefig(path, dpi=90)
    plt.close(figure)
