"""Gabor filters in any dimension, built and applied in Fourier space.

Knows arrays only, and no saliency.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Vector = NDArray[np.float64]
Response = NDArray[np.complex64]

REACH = 2.0
"""Standard deviations of the envelope by which an array is mirrored at its faces."""


def directions(ndim: int) -> list[Vector]:
    """Return unit vectors along the axes and the diagonals between them, one of each pair.

    Four in 2-D, 45 degrees apart; thirteen in 3-D: 3 axes, 6 diagonals of faces and 4 of
    the cube.
    """
    steps = itertools.product((0, 1, -1), repeat=ndim)
    half = (step for step in steps if step > (0,) * ndim and _first(step) > 0)
    return [np.array(step) / np.linalg.norm(step) for step in half]


def _first(step: tuple[int, ...]) -> int:
    return next(k for k in step if k)


def responses(
    values: NDArray[np.float32], along: Iterable[Vector], *, wavelength: float, sigma: float
) -> Iterator[Response]:
    """Filter an array by complex Gabor filters of one wavelength, one direction at a time.

    Parameters
    ----------
    values
        Array of any shape; mirrored at its faces, where filters reach over them.
    along
        Unit vectors of waves, in the order of the array's axes.
    wavelength
        Voxels.
    sigma
        Standard deviation of the round Gaussian envelope, voxels.

    Yields
    ------
    ndarray
        complex64 of the shape of `values`: the real part is what the even filter (a cosine)
        gives, the imaginary part the odd one, the magnitude their energy.
    """
    pad = int(np.ceil(REACH * sigma))
    wide = [fft.next_fast_len(n + 2 * pad) for n in values.shape]
    pads = [(pad, w - n - pad) for n, w in zip(values.shape, wide, strict=True)]
    spectrum = fft.fftn(np.pad(values, pads, mode="symmetric"))
    inner = tuple(slice(pad, pad + n) for n in values.shape)
    for direction in along:
        transfer = _transfer(wide, direction / wavelength, sigma)
        yield fft.ifftn(spectrum * transfer, overwrite_x=True)[inner]


def _transfer(shape: list[int], wave: Vector, sigma: float) -> NDArray[np.float32]:
    """Return a Gaussian about `wave` (cycles a voxel), without the part that sees the mean."""
    about_zero = _gaussian(shape, np.zeros(len(shape)), sigma)
    leak = np.float32(np.exp(-2 * (np.pi * sigma) ** 2 * (wave @ wave)))
    return _gaussian(shape, wave, sigma) - leak * about_zero


def _gaussian(shape: list[int], centre: Vector, sigma: float) -> NDArray[np.float32]:
    """Return the Fourier transform of an envelope, moved to the frequency `centre`."""
    axes = (
        np.exp(-2 * (np.pi * sigma * (fft.fftfreq(n) - c)) ** 2).astype(np.float32)
        for n, c in zip(shape, centre, strict=True)
    )
    return functools.reduce(np.multiply, np.ix_(*axes))
