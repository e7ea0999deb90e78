"""Change what a training window looks like, without changing what is true of it.

Pure functions of arrays and a random generator. Intensities are in robust standard
deviations of the tomogram, salient objects bright.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tomoseg.intensity import CLIP

Image = NDArray[np.float32]
Truth = NDArray[np.uint8]
Change = Callable[[Image, np.random.Generator], Image]

AMPLITUDE = (0.2, 3.0)
"""Range of the factor on intensities, log-uniform: scale alone decides transfer."""

OFFSET = 0.2
"""Standard deviation of the shift of intensities."""


def turn(
    image: Image, truth: Truth, generator: np.random.Generator, *, quarter_turns: bool
) -> tuple[Image, Truth]:
    """Flip every axis at random, and turn the last two against each other.

    Parameters
    ----------
    image, truth
        Of one shape, any number of axes; the last two are y and x of the tomogram, or
        rows and columns of a slice.
    generator
        Source of chance.
    quarter_turns
        Whether the last two axes are alike. They are across the beam (y, x); with z
        among them only flips keep the missing wedge where it can occur.

    Returns
    -------
    tuple of ndarray
        Contiguous copies, changed alike.
    """
    flips = generator.integers(0, 2, image.ndim)
    swap = bool(generator.integers(0, 2)) and quarter_turns

    def apply(array: NDArray[np.generic]) -> NDArray[np.generic]:
        array = np.flip(array, tuple(np.flatnonzero(flips)))
        return np.ascontiguousarray(array.swapaxes(-1, -2) if swap else array)

    return apply(image).astype(np.float32), apply(truth).astype(np.uint8)


def vary(image: Image, generator: np.random.Generator) -> Image:
    """Vary intensities: resolution, noise, background, compression, amplitude, offset.

    Parameters
    ----------
    image
        Of any shape.
    generator
        Source of chance.

    Returns
    -------
    ndarray
        float32 of the same shape, within +-`CLIP`.
    """
    for probability, change in CHANGES:
        if generator.random() < probability:
            image = change(image, generator)
    amplitude = np.exp(generator.uniform(*np.log(AMPLITUDE)))
    offset = generator.normal(0, OFFSET)
    varied: Image = image * np.float32(amplitude) + np.float32(offset)
    return np.clip(varied, -CLIP, CLIP, out=varied)


def empty_ice(shape: tuple[int, ...], generator: np.random.Generator) -> Image:
    """Return a window without any object: noise as imaging and filters colour it.

    The spectrum is a power law between white and steep, of its own steepness along every
    axis, often with a wedge missing between the first and the last axis and a band limit;
    some noise is uneven in strength.

    Parameters
    ----------
    shape
        Of the window.
    generator
        Source of chance.

    Returns
    -------
    ndarray
        float32, robust standard deviation 1.
    """
    frequencies = np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij", sparse=True)
    stretch = np.exp(generator.normal(0, 0.25, len(shape)))
    squares = [(f * s) ** 2 for f, s in zip(frequencies, stretch, strict=True)]
    radius = np.sqrt(np.maximum(sum(squares), 1 / max(shape) ** 2))
    power: NDArray[np.float64] = radius ** generator.uniform(-1.5, 1)
    if generator.random() < 0.7:
        power *= np.exp(-((radius / generator.uniform(0.08, 0.5)) ** 2))
    if generator.random() < 0.7:
        steepest = np.tan(np.radians(generator.uniform(40, 75)))
        power *= np.abs(frequencies[0]) <= steepest * np.abs(frequencies[-1]) + 1 / shape[0]
    noise = np.fft.ifftn(np.fft.fftn(generator.standard_normal(shape)) * power).real
    if generator.random() < 0.3:
        rough = ndimage.gaussian_filter(generator.standard_normal(shape), max(shape) / 6)
        noise *= np.exp(0.3 * rough / rough.std())
    noise -= np.median(noise)
    noise /= 1.4826 * np.median(np.abs(noise))
    return noise.astype(np.float32)


def lower_resolution(image: Image, generator: np.random.Generator) -> Image:
    """Sample more coarsely by a factor of 1.3 to 2, and back."""
    factor = generator.uniform(1.3, 2)
    smooth = ndimage.gaussian_filter(image, 0.4 * factor)
    coarse = tuple(max(2, round(n / factor)) for n in image.shape)
    small = _resample(smooth, coarse)
    return _resample(small, image.shape)


def blur(image: Image, generator: np.random.Generator) -> Image:
    """Smooth by a Gaussian of up to 1.5 voxels."""
    smooth: Image = ndimage.gaussian_filter(image, generator.uniform(0, 1.5), truncate=3)
    return smooth


def add_noise(image: Image, generator: np.random.Generator) -> Image:
    """Add white noise of up to one standard deviation."""
    scale = np.float32(generator.uniform(0, 1))
    return image + scale * generator.standard_normal(image.shape, np.float32)


def add_coloured_noise(image: Image, generator: np.random.Generator) -> Image:
    """Add noise that is smooth over 0.7 to 2.5 voxels, of up to one standard deviation."""
    white = generator.standard_normal(image.shape, np.float32)
    noise: Image = ndimage.gaussian_filter(white, generator.uniform(0.7, 2.5), truncate=3)
    noise *= np.float32(generator.uniform(0, 1) / noise.std())
    return image + noise


def add_background(image: Image, generator: np.random.Generator) -> Image:
    """Add a plane and a bowl of up to one standard deviation at the faces."""
    axes = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in image.shape)]
    for axis in axes:
        slope, bend = generator.uniform(-1, 1, 2) / image.ndim
        image = image + (slope * axis + bend * axis**2).astype(np.float32)
    return image


def compress(image: Image, generator: np.random.Generator) -> Image:
    """Squeeze far intensities softly towards the middle, as a changed gamma does."""
    knee = np.float32(generator.uniform(1, 4))
    squeezed: Image = np.arcsinh(image / knee) * knee
    return squeezed


CHANGES: tuple[tuple[float, Change], ...] = (
    (0.15, lower_resolution),
    (0.3, blur),
    (0.3, add_noise),
    (0.2, add_coloured_noise),
    (0.15, add_background),
    (0.2, compress),
)
"""Probability and change, in the order in which they are applied."""


def _resample(image: Image, shape: tuple[int, ...]) -> Image:
    """Interpolate linearly to `shape`, axis by axis, corner on corner."""
    for axis, (old, new) in enumerate(zip(image.shape, shape, strict=True)):
        places = np.linspace(0, old - 1, new, dtype=np.float32)
        low = np.minimum(places.astype(np.intp), max(0, old - 2))
        share = (places - low.astype(np.float32)).reshape(
            [-1 if a == axis else 1 for a in range(image.ndim)]
        )
        first, second = image.take(low, axis), image.take(np.minimum(low + 1, old - 1), axis)
        image = first + (second - first) * share
    return image
