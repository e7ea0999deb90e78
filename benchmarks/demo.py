"""The demonstration: a tomogram with known objects, segmented by the command line.

    python benchmarks/demo.py FOLDER

leaves in FOLDER the tomogram, its truth, mask.zarr and slices.png, and prints scores
beside those of trivial maps.
"""

import subprocess
import sys
from pathlib import Path

import matplotlib
import mrcfile
import numpy as np

from tomoseg.blockwise.status import layout_of
from tomoseg.geometry import whole
from tomoseg.io.omezarr import ArrayStore
from tomoseg.metrics import Agreement
from tomoseg.simulate.phantom import phantom

matplotlib.use("Agg")

from matplotlib import pyplot as plt

SHAPE = (96, 160, 160)
VOXEL_SIZE = 10.0


def write_mrc(path: Path, data: np.ndarray) -> None:
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(data)
        file.set_volume()
        file.voxel_size = VOXEL_SIZE


def draw(path: Path, density: np.ndarray, saliency: np.ndarray, mask: np.ndarray) -> None:
    """Draw the middle slice along each axis: density, saliency, mask over density."""
    figure, rows = plt.subplots(3, 3, figsize=(12, 11), layout="constrained")
    for axis, row in enumerate(rows):
        middle = density.shape[axis] // 2
        image, probability, chosen = (v.take(middle, axis) for v in (density, saliency, mask))
        row[0].imshow(image, cmap="gray")
        row[1].imshow(probability, cmap="magma", vmin=0, vmax=255)
        row[2].imshow(image, cmap="gray")
        row[2].imshow(np.ma.masked_equal(chosen, 0), cmap="autumn", alpha=0.5, vmin=0, vmax=1)
        for panel, title in zip(row, ("density", "saliency", "mask"), strict=True):
            panel.set_title(f"{'zyx'[axis]} = {middle}: {title}")
            panel.set_axis_off()
    figure.savefig(path, dpi=80)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    made = phantom(SHAPE, seed=0)
    tomogram, output = folder / "tomogram.mrc", folder / "mask.zarr"
    write_mrc(tomogram, made.density)
    write_mrc(folder / "truth.mrc", made.truth.astype(np.int8))
    command = ["tomoseg", "segment", str(tomogram), "--out", str(output), "--overwrite"]
    print("$", *command, flush=True)
    subprocess.run([Path(sys.executable).parent / command[0], *command[1:]], check=True)
    layout, _ = layout_of(output)
    saliency = ArrayStore(layout, "image", 0).read(whole(SHAPE))
    mask = ArrayStore(layout, "mask", 0).read(whole(SHAPE))
    draw(folder / "slices.png", made.density, saliency, mask)
    rows = {
        "tomoseg": saliency,
        "all zeros": np.zeros_like(saliency),
        "all ones": np.full_like(saliency, 255),
    }
    print(f"\n{'':12}{'MAE':>8}{'max F':>8}{'Dice':>8}")
    for name, values in rows.items():
        score = Agreement.of(values, made.truth)
        print(
            f"{name:12}{score.mean_absolute_error:8.3f}{score.maximum_f:8.3f}{score.dice(0.5):8.3f}"
        )
    for path in (tomogram, output, folder / "slices.png"):
        print(path)


if __name__ == "__main__":
    main()
