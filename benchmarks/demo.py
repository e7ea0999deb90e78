"""The demonstration: a simulated tomogram, segmented by the command line and scored.

    python benchmarks/demo.py FOLDER

leaves in FOLDER the tomogram and its truth, mask.zarr and slices.png, and prints scores
beside those of a difference of Gaussians and of trivial maps. Works offline.
"""

import subprocess
import sys
from pathlib import Path

import mrcfile
from networks import tomoseg
from pictures import draw_rows
from scoring import BASELINES, read_output

from tomoseg.evaluation.cases import normalised
from tomoseg.evaluation.intervals import cell
from tomoseg.metrics import score

COLUMNS = {
    "MAE": "mean_absolute_error",
    "max F": "maximum_f",
    "S": "structure",
    "Dice": "dice",
}


def run(*arguments: object) -> None:
    """Run a command of tomoseg as a user does, and show it."""
    command = tomoseg(*arguments)
    print("$ tomoseg", *command[1:], flush=True)
    subprocess.run(command, check=True)


def main() -> None:
    folder = Path(sys.argv[1])
    tomogram, output = folder / "tomogram.mrc", folder / "mask.zarr"
    run("simulate", "--preset", "demo", "--out", tomogram, "--overwrite")
    run("segment", tomogram, "--out", output, "--overwrite")
    density, truth = (
        mrcfile.read(folder / name) for name in ("tomogram.mrc", "tomogram_truth.mrc")
    )
    saliency = read_output(output)
    maps = {"tomoseg": saliency}
    maps |= {name: baseline(normalised(density)) for name, baseline in BASELINES.items()}
    print(f"\n{'':24}" + "".join(f"{name:>8}" for name in COLUMNS))
    for name, values in maps.items():
        scores = score(values, truth).to_dict()
        print(f"{name:24}" + "".join(f"{cell([scores[k]]):>8}" for k in COLUMNS.values()))
    mask = read_output(output, "mask")
    pictures = {"density": density, "truth": truth.astype("uint8"), "saliency": saliency}
    draw_rows(folder / "slices.png", {**pictures, "mask": mask})
    for path in (tomogram, output, folder / "slices.png"):
        print(path)


if __name__ == "__main__":
    main()
