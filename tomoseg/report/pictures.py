"""Planes as small pictures that a page can hold: grey values as JPEG, outlines as PNG.

Arrays in, ``data:`` addresses out.
"""

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

LONGEST = 512
"""Pixels of the longer side of a picture, at most."""

OUTLINE = (255, 128, 0)
"""Colour of outlines: that of the mask in OME-Zarr's metadata."""

QUALITIES = (80, 65, 50, 35, 20)
"""Of JPEG, tried one after the other; noise is what does not compress."""


def grey_window(planes: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """Return the densities that become black and white: all but the outermost half per cent."""
    values = np.concatenate([plane[np.isfinite(plane)] for plane in planes])
    if not values.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    return low, high if high > low else low + 1.0


def to_grey(plane: NDArray[np.float32], window: tuple[float, float]) -> NDArray[np.uint8]:
    """Return a plane as grey values; what is not finite is mid-grey."""
    low, high = window
    scaled = (plane - low) * np.float32(255 / (high - low))
    clipped = np.nan_to_num(scaled, nan=128.0).clip(0, 255)
    return np.asarray(np.rint(clipped), np.uint8)


def encode_grey(
    planes: Sequence[NDArray[np.uint8]], shapes: Sequence[tuple[int, int]], most_bytes: int
) -> list[str]:
    """Encode grey pictures, all at the best quality at which they fit.

    Parameters
    ----------
    planes
        Pictures, rows from the top.
    shapes
        Height and width in pixels to bring each to.
    most_bytes
        Of all addresses together; the lowest quality is taken where none fits.

    Returns
    -------
    list of str
        ``data:image/jpeg`` addresses.
    """
    images = [_resized(plane, shape) for plane, shape in zip(planes, shapes, strict=True)]
    encoded: list[str] = []
    for quality in QUALITIES:
        encoded = [_address(image, "jpeg", quality=quality, optimize=True) for image in images]
        if sum(map(len, encoded)) <= most_bytes:
            break
    return encoded


def encode_outline(mask: NDArray[np.bool_], shape: tuple[int, int]) -> str:
    """Encode the outline of a mask as a transparent ``data:image/png`` address.

    Parameters
    ----------
    mask
        True inside, rows from the top.
    shape
        Height and width in pixels of the picture that it lies over.
    """
    large = np.asarray(_resized(mask.astype(np.uint8), shape, smooth=False), bool)
    inner = ndimage.binary_erosion(large, border_value=1)
    image = Image.fromarray((large & ~inner).astype(np.uint8), "P")
    image.putpalette((0, 0, 0, *OUTLINE))
    return _address(image, "png", transparency=0, bits=1, optimize=True)


def screen_shape(shape: tuple[int, int], sizes: tuple[float, float]) -> tuple[int, int]:
    """Return height and width in pixels that show a plane in its true proportions.

    Parameters
    ----------
    shape
        Pixels of the plane.
    sizes
        Size of one of them along both axes, in any unit.
    """
    extent = [n * size for n, size in zip(shape, sizes, strict=True)]
    height, width = (max(1, round(LONGEST * e / max(extent))) for e in extent)
    return height, width


def _resized(plane: NDArray[np.uint8], shape: tuple[int, int], smooth: bool = True) -> Image.Image:
    how = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return Image.fromarray(plane).resize((shape[1], shape[0]), how)


def _address(image: Image.Image, kind: str, **options: object) -> str:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
