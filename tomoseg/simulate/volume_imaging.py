"""The short form of imaging that acts on the volume: no projections, no reconstruction.

The Xu lab's: low-pass, half of the noise, one contrast transfer in three dimensions, the
other half, low-pass, missing wedge. For comparison with the paper, and as one more look.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomoseg.geometry import Index
from tomoseg.simulate.imaging import ImagingConfig, Tomogram, contrast_transfer
from tomoseg.simulate.scene import Scene

Density = NDArray[np.float32]


@dataclass(frozen=True)
class VolumeImagingConfig:
    """Imaging in the volume domain.

    Parameters
    ----------
    snr
        Nominal: variance of the low-passed signal over that of the noise that is added in
        two halves; what the filters after it leave is recorded as realised. None for no
        noise.
    tilt_max
        Degrees on both sides; the wedge beyond is empty.
    defocus
        Micrometres of underfocus; None for no contrast transfer.
    resolution_angstrom
        Of the two low-pass filters (Gaussian).
    """

    snr: float | None = 1.0
    tilt_max: float = 60.0
    defocus: float | None = 5.0
    resolution_angstrom: float = 40.0


def image_volume(
    scene: Scene, config: VolumeImagingConfig, random: np.random.Generator
) -> Tomogram:
    """Image a scene in the volume domain; see `tomoseg.simulate.imaging.image_scene`."""
    voxel = scene.config.voxel_size_angstrom
    shape = scene.density.shape
    f2 = _square_frequency(shape)
    sigma = 0.225 * config.resolution_angstrom / voxel
    lowpass = np.exp(-2 * np.pi**2 * sigma**2 * f2).astype(np.float32)
    before = lowpass
    after = lowpass * wedge_mask(shape, config.tilt_max)
    transfer = _transfer(config, f2, voxel)

    def filtered(volume: Density, response: Density) -> Density:
        result = np.fft.irfftn(np.fft.rfftn(volume) * response, shape, axes=(0, 1, 2))
        return np.asarray(result, np.float32)

    signal = filtered(scene.density - scene.density.mean(), before * transfer * after)
    gold = np.zeros_like(signal)
    if scene.gold.any():
        gold = filtered(scene.gold - scene.gold.mean(), before * transfer * after)
    tilts = (-config.tilt_max, config.tilt_max)
    if config.snr is None:
        return Tomogram(signal + gold, np.inf, np.inf, tilts)
    first, second = random.standard_normal((2, *shape), np.float32)
    variance = float(filtered(scene.density, before).var()) or 1.0
    half = np.float32(np.sqrt(variance / config.snr / 2))
    noise = filtered(first * half, transfer * after) + filtered(second * half, after)
    return Tomogram(
        np.asarray(signal + gold + noise, np.float32),
        float(signal.var() / noise.var()),
        float("nan"),
        tilts,
    )


def wedge_mask(shape: Index, tilt_max: float) -> NDArray[np.float32]:
    """Return 1 where tilts up to `tilt_max` degrees about y measure, as ``rfftn`` orders.

    The plane x = z = 0 of the tilt axis is always measured.
    """
    fz = np.abs(np.fft.fftfreq(shape[0]))[:, None, None]
    fx = np.fft.rfftfreq(shape[2])[None, None]
    measured = fz <= fx * np.tan(np.deg2rad(tilt_max)) + 1e-9
    return np.broadcast_to(measured, (*shape[:2], shape[2] // 2 + 1)).astype(np.float32)


def _square_frequency(shape: Index) -> NDArray[np.float64]:
    fz, fy = (np.fft.fftfreq(n) ** 2 for n in shape[:2])
    fx = np.fft.rfftfreq(shape[2]) ** 2
    return np.asarray(fz[:, None, None] + fy[None, :, None] + fx[None, None])


def _transfer(
    config: VolumeImagingConfig, f2: NDArray[np.float64], voxel: float
) -> NDArray[np.float32]:
    """Return the contrast transfer as a function of the 3-D frequency alone."""
    if config.defocus is None:
        return np.ones_like(f2, np.float32)
    size = 2048
    row = contrast_transfer(config.defocus, ImagingConfig(), (2, size), voxel)[0]
    f = np.fft.rfftfreq(size)
    return np.asarray(np.interp(np.sqrt(f2), f, row), np.float32)
