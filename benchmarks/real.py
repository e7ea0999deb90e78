"""Real data with approximate truth: what a user sees, in pictures and figures.

    python benchmarks/real.py FOLDER --weights random:0 --weights-2d random:0

HIV-1 virions (EMDB 1155, drawn by eye as filled ellipsoids: rough), a microtubule (light
on dark, mask of its wall) and one slice of a SARS-CoV-2 tomogram (a 2-D network). Volumes
run as ``tomoseg segment`` (options after -- are passed on). Leaves a picture of each in
FOLDER, and beside.png with a simulated tomogram over a real one, and prints scores beside
those of a difference of Gaussians and of trivial maps.
"""

import argparse
import json
from pathlib import Path

import mrcfile
import numpy as np
from networks import split_arguments
from pictures import draw_beside, draw_rows
from scipy import ndimage
from scoring import (
    BASELINES,
    NETWORK,
    Results,
    data_folder,
    evaluate,
    load_2d,
    read_output,
    saliency_of_image,
    saliency_of_volume,
    segment,
    structures,
)
from skimage.io import imread

from tomoseg.config import Contrast
from tomoseg.evaluation.cases import home, normalised

VOLUMES: dict[str, tuple[str, str, Contrast]] = {
    "HIV-1 virions": ("emd_1155.mrc", "emd_1155_virions_approximate.mrc", "dark"),
    "microtubule": ("microtubule_13pf.mrc", "microtubule_13pf_wall_mask.mrc", "light"),
}
"""Tomogram, mask, and which side of the background the objects lie on."""

IMAGE = ("TS_001.133.tif", "TS_001.133_ground_truth.tif")
IMAGE_BLUR = 2.0
"""Sigma in pixels before the image is taken at every second one: it is finely sampled."""

SIMULATED, SIMULATED_SNR = 2, 0.5
"""Number and SNR of the home tomogram that is shown beside the real ones."""

Maps = dict[str, np.ndarray]


def read(path: Path) -> np.ndarray:
    with mrcfile.open(path, permissive=True) as file:
        return np.array(file.data)


def volume(
    name: str, folder: Path, weights: str, options: list[str]
) -> tuple[np.ndarray, Maps, Maps]:
    """Segment a volume as a user does; return its truth, every method's saliency, the picture."""
    source, truth, contrast = VOLUMES[name]
    output = folder / f"{name.split()[0].lower()}.zarr"
    flags = ["--contrast", contrast, "--weights", weights, "--overwrite", *options]
    segment(data_folder() / "real" / source, output, *flags)
    density = read(data_folder() / "real" / source)
    maps = {NETWORK: read_output(output)} | _baselines(normalised(density, contrast))
    mask, inside = read_output(output, "mask"), read(data_folder() / "real" / truth) != 0
    shown = _shown(density.astype(np.float32), maps, mask, inside)
    draw_rows(folder / f"{output.stem}.png", shown)
    return inside, maps, shown


def simulated(weights: str, options: list[str]) -> Maps:
    """Return the picture of a simulated tomogram of complexes that were not trained on."""
    made = home(SIMULATED_SNR).make(SIMULATED, structures())
    saliency = saliency_of_volume(made.density, made.voxel_size_angstrom, weights, *options)
    mask = (saliency >= 128).astype(np.uint8)
    return _shown(made.density, {NETWORK: saliency}, mask, made.truth)


def image(folder: Path, weights: str) -> tuple[np.ndarray, Maps]:
    """Run a 2-D network on half of the image's pixels along each axis."""
    raw, truth = (imread(data_folder() / "real" / name).astype(np.float32) for name in IMAGE)
    small = ndimage.gaussian_filter(raw, IMAGE_BLUR)[::2, ::2]
    intensities = normalised(small[None], smoothed=True)[0]
    saliency = saliency_of_image(load_2d(weights), intensities)
    maps = {NETWORK: saliency} | _baselines(intensities)
    inside = truth[::2, ::2] > 0
    mask = (saliency >= 0.5).astype(np.uint8)
    draw_rows(folder / "sars.png", _shown(small, maps, mask, inside))
    return inside, maps


def _baselines(intensities: np.ndarray) -> Maps:
    return {name: baseline(intensities) for name, baseline in BASELINES.items()}


def _shown(density: np.ndarray, maps: Maps, mask: np.ndarray, truth: np.ndarray) -> Maps:
    saliency = maps[NETWORK]
    levels = saliency if saliency.dtype == np.uint8 else np.rint(saliency * 255).astype(np.uint8)
    truth = truth.astype(np.uint8)
    return {"density": density, "saliency": levels, "mask": mask, "truth": truth}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", default="random:0")
    parser.add_argument("--weights-2d", default="random:0")
    parser.add_argument("--json", type=Path)
    own, rest = split_arguments()
    chosen = parser.parse_args(own)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    results = Results()
    beside = {"simulated": simulated(chosen.weights, rest)}
    for name in (*VOLUMES, "SARS-CoV-2, slice"):
        if name in VOLUMES:
            truth, maps, beside[name] = volume(name, chosen.folder, chosen.weights, rest)
        else:
            truth, maps = image(chosen.folder, chosen.weights_2d)
        for method, saliency in maps.items():
            results.add(name, method, evaluate(saliency, truth))
        print(results.table(name), flush=True)
    draw_beside(chosen.folder / "beside.png", beside)
    if chosen.json:
        record = {"weights": chosen.weights, "weights_2d": chosen.weights_2d, "options": rest}
        text = json.dumps(record | {"results": results.summary()}, indent=1)
        chosen.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
