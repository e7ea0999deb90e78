"""Pairs of an image and its mask from a folder, such as the ISIC case study of the paper."""

from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.io import imread

from tomoseg.errors import InputError
from tomoseg.evaluation.cases import Image, Pictures, Truth
from tomoseg.intensity import CLIP, robust_location_scale

EDGE = 256
"""Longest edge that images are brought to: lesions then have the size of an object."""

MASK = "_segmentation.png"


def load_pictures(folder: Path) -> dict[str, Pictures]:
    """Read every ``NAME.jpg`` with ``NAME_segmentation.png``, by name.

    Grey values are means over colours, in robust standard deviations of the image; what is
    dark (lesions are) comes out bright, as methods expect.

    Parameters
    ----------
    folder
        Holds at least one pair.

    Raises
    ------
    InputError
        Where there is no pair, or a file is no image or has another shape than its pair.
    """
    pairs = [(path, path.with_name(path.stem + MASK)) for path in sorted(folder.glob("*.jpg"))]
    pairs = [(image, mask) for image, mask in pairs if mask.is_file()]
    if not pairs:
        raise InputError(
            f"{folder}: expected pairs NAME.jpg and NAME{MASK}, found none.",
            "Give the folder that holds them.",
        )
    return {image.stem: Pictures([_pair(image, mask)]) for image, mask in pairs}


def _pair(image: Path, mask: Path) -> tuple[Image, Truth]:
    grey, inside = (_grey(path) for path in (image, mask))
    if grey.shape != inside.shape:
        raise InputError(f"{mask}: expected the shape {grey.shape} of {image}, got {inside.shape}.")
    factor = max(1.0, max(grey.shape) / EDGE)
    small = ndimage.zoom(ndimage.gaussian_filter(grey, factor / 2), 1 / factor, order=1)
    truth = ndimage.zoom(inside, 1 / factor, order=0) > 127
    middle, scale = robust_location_scale(small)
    values = np.clip((middle - small) / (scale or 1.0), -CLIP, CLIP)
    return values.astype(np.float32), truth.astype(np.uint8)


def _grey(path: Path) -> Image:
    try:
        values = np.asarray(imread(path), np.float32)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{path}: expected an image, got {error}.") from error
    return values.mean(-1) if values.ndim == 3 else values
