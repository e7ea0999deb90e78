"""A small tomogram with known objects, made in seconds: geometry, blur, noise.

For tests of the engine, not a simulation of imaging: no projection, no
contrast transfer, no missing wedge.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tomoseg.geometry import Index


@dataclass(frozen=True)
class Phantom:
    """A phantom tomogram.

    Parameters
    ----------
    density
        float32, axes z, y, x; objects are darker than the ice, as in raw cryo-ET density.
    truth
        uint8 0/1, same shape: voxels that belong to an object.
    """

    density: NDArray[np.float32]
    truth: NDArray[np.uint8]


def phantom(shape: Index, *, seed: int, snr: float = 1.0) -> Phantom:
    """Make particles, a vesicle's membrane and filaments in noise.

    Parameters
    ----------
    shape
        Voxels along z, y, x.
    seed
        Of positions, sizes and noise.
    snr
        Variance of the blurred objects over variance of the noise.

    Returns
    -------
    Phantom
        Particles are balls of radius 5 to 8 voxels, one for about every 25,000 voxels;
        the membrane is a shell 4 voxels thick; filaments are rods of radius 3.
    """
    random = np.random.default_rng(seed)
    truth = np.zeros(shape, bool)
    for _ in range(max(1, truth.size // 25_000)):
        _add_ball(truth, random.uniform(0, shape), random.uniform(5, 8))
    centre, radius = np.array(shape) / 2, min(shape) * 0.35
    distance = _distance(shape, centre)
    truth[np.abs(distance - radius) < 2] = True
    for _ in range(2):
        _add_rod(truth, random.uniform(0, shape), random.normal(size=len(shape)), radius=3.0)
    objects = ndimage.gaussian_filter(truth.astype(np.float32), 1.0)
    sigma = float(objects.std()) / np.sqrt(snr)
    noise = random.normal(0, sigma, shape).astype(np.float32)
    return Phantom(density=noise - objects, truth=truth.astype(np.uint8))


def _distance(shape: Index, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each voxel's distance from a point, in voxels."""
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    square = sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True))
    return np.asarray(np.sqrt(square))


def _add_ball(truth: NDArray[np.bool_], centre: NDArray[np.float64], radius: float) -> None:
    low = np.maximum(0, np.floor(centre - radius)).astype(int)
    high = np.minimum(truth.shape, np.ceil(centre + radius) + 1).astype(int)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    truth[box] |= _distance(tuple(high - low), centre - low) < radius


def _add_rod(
    truth: NDArray[np.bool_],
    point: NDArray[np.float64],
    direction: NDArray[np.float64],
    radius: float,
) -> None:
    direction = direction / np.linalg.norm(direction)
    length = np.linalg.norm(truth.shape)
    for step in np.arange(-length, length, radius / 2):
        centre = point + step * direction
        if np.all(centre > -radius) and np.all(centre < np.array(truth.shape) + radius):
            _add_ball(truth, centre, radius)
