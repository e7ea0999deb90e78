"""From a scene to a tomogram: a tilt series of a microscope, and its reconstruction.

The specimen is projected at each tilt, the microscope's contrast transfer, detector and
noise act on the projections, and a weighted back-projection makes the volume. Every step
is linear in the density, so that signal and noise are carried side by side and the SNR of
the result is known exactly. The tilt axis is y, the beam runs along z.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from tomoseg.errors import RequestError
from tomoseg.geometry import Index
from tomoseg.simulate.scene import Scene

Filter = Literal["ramp", "hamming", "hann", "sirt"]
Correction = Literal["none", "phase flip"]

USUAL_VARIANCE = 4e-4
"""Of the signal of an ordinary scene: what the noise of an empty one is measured by."""

MEAN_FREE_PATH = 3100.0
"""Angstrom of ice that an electron of 300 kV crosses on average without energy loss."""


@dataclass(frozen=True)
class ImagingConfig:
    """A microscope, a tilt scheme and a reconstruction.

    Parameters
    ----------
    snr
        Variance of the signal over that of the noise in the tomogram, before
        `lowpass_voxels` and `highpass_voxels`; None for no noise.
    tilt_min, tilt_max, tilt_step
        Degrees.
    missing_tilts
        Share of the tilts that are left out at random.
    defocus
        Micrometres of underfocus; None for a microscope without contrast transfer.
    defocus_deviation
        Standard deviation over the tilts, micrometres.
    correction
        What the reconstruction does about the contrast transfer.
    voltage, spherical_aberration, amplitude_contrast
        Kilovolt, millimetres, fraction.
    detector
        Fall-off of the detector: its modulation transfer at the Nyquist frequency.
    dose
        Electrons per square angstrom of the whole series; damages fine detail in the
        late (high) tilts. 0 for none.
    thickness_angstrom
        Of the ice: noise grows with the path through it at high tilts.
    structural_noise
        Share of the noise's variance that passes the microscope's contrast transfer.
    shift_deviation, tilt_deviation
        Misalignment: standard deviations in voxels and in degrees.
    filter
        Weighting of the back-projection: ``ramp``, the same with a Hamming or Hann
        window, or ``sirt``, the ramp of so many iterations of SIRT.
    cutoff
        Frequency at which the window ends, in cycles per voxel.
    sirt_iterations
        Of filter ``sirt``; fewer are smoother.
    lowpass_voxels, highpass_voxels
        Gaussian sigma of filters of the finished tomogram; 0 for none.
    """

    snr: float | None = 1.0
    tilt_min: float = -60.0
    tilt_max: float = 60.0
    tilt_step: float = 3.0
    missing_tilts: float = 0.0
    defocus: float | None = 5.0
    defocus_deviation: float = 0.2
    correction: Correction = "phase flip"
    voltage: float = 300.0
    spherical_aberration: float = 2.7
    amplitude_contrast: float = 0.07
    detector: float = 0.5
    dose: float = 100.0
    thickness_angstrom: float = 1500.0
    structural_noise: float = 0.5
    shift_deviation: float = 0.3
    tilt_deviation: float = 0.1
    filter: Filter = "hamming"
    cutoff: float = 0.5
    sirt_iterations: int = 15
    lowpass_voxels: float = 0.0
    highpass_voxels: float = 0.0

    def __post_init__(self) -> None:
        if not -90 < self.tilt_min <= 0 <= self.tilt_max < 90 or self.tilt_step <= 0:
            raise RequestError(
                "tilts: expected -90 < minimum <= 0 <= maximum < 90 and a positive step, got "
                f"{self.tilt_min} to {self.tilt_max} in steps of {self.tilt_step} degrees."
            )
        if self.snr is not None and self.snr <= 0:
            raise RequestError(f"snr: expected a number above 0, got {self.snr}.")
        if self.filter not in get_args(Filter):
            raise RequestError(f"filter: expected one of {get_args(Filter)}, got {self.filter}.")


@dataclass(frozen=True, eq=False)
class Tomogram:
    """A simulated tomogram.

    Parameters
    ----------
    values
        float32, axes z, y, x; objects positive, in the units of the scene's density.
    snr
        Realised: variance of the signal over that of the noise in `values`, beads and
        their streaks left out; 0 without objects, infinite without noise.
    snr_projections
        The same in the projections, mean over the tilts.
    tilts
        Degrees, those that were taken.
    """

    values: NDArray[np.float32]
    snr: float
    snr_projections: float
    tilts: tuple[float, ...]


def image_scene(scene: Scene, config: ImagingConfig, random: np.random.Generator) -> Tomogram:
    """Take a tilt series of a scene and reconstruct it.

    Parameters
    ----------
    scene
        What is in the ice.
    config
        How it is imaged.
    random
        The only source of chance.
    """
    shape, voxel = scene.density.shape, scene.config.voxel_size_angstrom
    tilts = choose_tilts(config, random)
    true_tilts = tilts + random.normal(size=len(tilts)) * config.tilt_deviation
    has_gold = bool(scene.gold.any())
    volumes = [scene.density, scene.gold] if has_gold else [scene.density]
    projections = [project(volume - volume.mean(), true_tilts) for volume in volumes]
    _, rows, width = projections[0].shape
    transfer = _Transfer(config, tilts, (rows, width), voxel, random)
    signal = [transfer.apply(p) for p in projections]
    noise = transfer.noise(random) if config.snr is not None else None
    if noise is not None:
        projected = float(signal[0].var(axis=(1, 2)).mean() / noise.var(axis=(1, 2)).mean())
    else:
        projected = np.inf
    stack = [*signal, *([] if noise is None else [noise])]
    back = [back_project(weigh(image, config), tilts, shape) for image in stack]
    clean = back[0]
    result = clean + back[1] if has_gold else clean.copy()
    realised = np.inf
    if noise is not None:
        # without objects the noise keeps the size that it would have in a full scene
        variance = float(clean.var()) if scene.salient.any() else USUAL_VARIANCE
        factor = np.float32(np.sqrt(variance / (config.snr or 1.0) / float(back[-1].var())))
        grain = _post(back[-1] * factor, config)
        realised = float(_post(clean, config).var() / grain.var())
        projected /= float(factor) ** 2
        result = _post(result, config) + grain
    else:
        result = _post(result, config)
    return Tomogram(result, realised, projected, tuple(float(t) for t in tilts))


def choose_tilts(config: ImagingConfig, random: np.random.Generator) -> NDArray[np.float64]:
    """Return the tilts that are taken, in degrees, ascending; at least two."""
    tilts = np.arange(config.tilt_min, config.tilt_max + 1e-6, config.tilt_step)
    kept = random.uniform(size=len(tilts)) >= config.missing_tilts
    return tilts[kept] if kept.sum() >= 2 else tilts


# Geometry -----------------------------------------------------------------------------


def projector(shape: Index, tilts: NDArray[np.floating]) -> sparse.csr_matrix:
    """Return the matrix that projects a plane of constant y at every tilt.

    Parameters
    ----------
    shape
        Of the volume, z, y, x.
    tilts
        ``(T,)`` degrees about y.

    Returns
    -------
    scipy.sparse.csr_matrix
        ``(T * width, z * x)`` float32. A voxel at x, z from the centre falls on the
        detector at ``x cos(tilt) + z sin(tilt)`` and is shared by the two pixels around
        it; `width` is the volume's diagonal, so that nothing falls beside the detector.
        Its transpose back-projects.
    """
    depth, _, across = shape
    width = detector_width(shape)
    z = np.arange(depth) - (depth - 1) / 2
    x = np.arange(across) - (across - 1) / 2
    voxels = np.arange(depth * across, dtype=np.int32)
    rows, columns, weights = [], [], []
    for number, tilt in enumerate(np.deg2rad(tilts)):
        position = (x[None] * np.cos(tilt) + z[:, None] * np.sin(tilt)).ravel() + (width - 1) / 2
        pixel = np.floor(position).astype(np.int32)
        fraction = position - pixel
        for offset, weight in ((0, 1 - fraction), (1, fraction)):
            rows.append(number * width + np.minimum(pixel + offset, width - 1))
            columns.append(voxels)
            weights.append(weight)
    entries = (
        np.concatenate(weights).astype(np.float32),
        (np.concatenate(rows), np.concatenate(columns)),
    )
    return sparse.csr_matrix(entries, shape=(len(tilts) * width, depth * across))


def detector_width(shape: Index) -> int:
    """Return the detector's pixels across the tilt axis: the diagonal of a plane, even."""
    return 2 * int(np.ceil(np.hypot(shape[0], shape[2]) / 2)) + 2


def project(volume: NDArray[np.float32], tilts: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return ``(T, y, width)`` sums along the beam, in units of the volume times voxels."""
    depth, rows, across = volume.shape
    planes = np.ascontiguousarray(volume.transpose(0, 2, 1)).reshape(depth * across, rows)
    images = projector(volume.shape, tilts) @ planes
    return np.ascontiguousarray(images.reshape(len(tilts), -1, rows).transpose(0, 2, 1))


def back_project(
    images: NDArray[np.float32], tilts: NDArray[np.floating], shape: Index
) -> NDArray[np.float32]:
    """Smear images back along the beam.

    Parameters
    ----------
    images
        ``(T, y, width)``, weighted (see `weigh`).
    tilts
        ``(T,)`` degrees.
    shape
        Of the volume, z, y, x.

    Returns
    -------
    numpy.ndarray
        float32 volume. Of ramp-weighted projections over all tilts from -90 to 90 degrees
        it is the density again.
    """
    columns = np.ascontiguousarray(images.transpose(0, 2, 1)).reshape(-1, images.shape[1])
    planes = projector(shape, tilts).T @ columns
    volume = planes.reshape(shape[0], shape[2], shape[1]).transpose(0, 2, 1)
    step = np.deg2rad(np.ptp(tilts)) / (len(tilts) - 1)
    return np.ascontiguousarray(volume * np.float32(step))


def weigh(images: NDArray[np.float32], config: ImagingConfig) -> NDArray[np.float32]:
    """Weight projections ``(T, y, width)`` for back-projection (ramp and window)."""
    width = images.shape[-1]
    padded = 2 ** int(np.ceil(np.log2(2 * width)))
    f = np.fft.rfftfreq(padded)
    filtered = np.fft.irfft(np.fft.rfft(images, padded) * _weights(f, config), padded)
    return filtered[..., :width].astype(np.float32)


def _weights(f: NDArray[np.floating], config: ImagingConfig) -> NDArray[np.float64]:
    """Return the weight of each frequency, in cycles per voxel."""
    inside = f <= config.cutoff
    phase = np.pi * f / config.cutoff
    if config.filter == "hamming":
        return np.asarray(f * inside * (0.54 + 0.46 * np.cos(phase)))
    if config.filter == "hann":
        return np.asarray(f * inside * (0.5 + 0.5 * np.cos(phase)))
    if config.filter == "sirt":
        # each iteration mends a share of the error that falls with frequency as 1/f
        share = np.minimum(1.0, 0.02 / np.maximum(f, 0.02))
        return np.asarray(f * inside * (1 - (1 - share) ** config.sirt_iterations))
    return np.asarray(f * inside)


# The microscope -----------------------------------------------------------------------


class _Transfer:
    """What a microscope does to each projection of a series, as filters in Fourier space."""

    def __init__(
        self,
        config: ImagingConfig,
        tilts: NDArray[np.floating],
        image_shape: tuple[int, int],
        voxel_size_angstrom: float,
        random: np.random.Generator,
    ) -> None:
        self.config, self.tilts, self.shape = config, tilts, image_shape
        fy = np.fft.fftfreq(image_shape[0])[:, None]
        fx = np.fft.rfftfreq(image_shape[1])[None]
        self.fy, self.fx, self.f = fy, fx, np.sqrt(fy**2 + fx**2)
        count = len(tilts)
        detector = config.detector ** (2 * self.f)
        self.detector = detector.astype(np.float32)
        self.optics = self._optics(voxel_size_angstrom, random)
        self.damage = self._damage(voxel_size_angstrom)
        self.shifts = random.normal(size=(count, 2)) * config.shift_deviation

    def _optics(
        self, voxel_size_angstrom: float, random: np.random.Generator
    ) -> list[NDArray[np.float32]]:
        config = self.config
        if config.defocus is None:
            return [np.ones_like(self.f, np.float32)] * len(self.tilts)
        defoci = config.defocus + random.normal(size=len(self.tilts)) * config.defocus_deviation
        result = []
        for defocus in np.maximum(0.2, defoci):
            actual = contrast_transfer(float(defocus), config, self.shape, voxel_size_angstrom)
            if config.correction == "phase flip":
                actual = np.abs(actual)
            result.append(actual)
        return result

    def _damage(self, voxel_size_angstrom: float) -> list[NDArray[np.float32]]:
        """Return the attenuation by accumulated dose (Grant and Grigorieff 2015, eq. 3)."""
        config = self.config
        if config.dose <= 0:
            return [np.ones_like(self.f, np.float32)] * len(self.tilts)
        f = np.maximum(self.f / voxel_size_angstrom, 1e-3)
        critical = 0.245 * f**-1.665 + 2.81
        order = np.argsort(np.argsort(np.abs(self.tilts), kind="stable"))
        doses = (order + 0.5) / len(self.tilts) * config.dose
        return [np.exp(-dose / (2 * critical)).astype(np.float32) for dose in doses]

    def apply(self, projections: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the images of projections ``(T, y, width)``, in their units."""
        images = np.empty_like(projections)
        for number, projection in enumerate(projections):
            dy, dx = self.shifts[number]
            shift = np.exp(-2j * np.pi * (self.fy * dy + self.fx * dx))
            spectrum = np.fft.rfft2(projection) * self.optics[number] * self.damage[number]
            images[number] = np.fft.irfft2(spectrum * self.detector * shift, self.shape)
        return images

    def noise(self, random: np.random.Generator) -> NDArray[np.float32]:
        """Return noise ``(T, y, width)``: one part before the optics, one after, of unit sum.

        Its variance grows with the path through the ice, 1 / cos(tilt).
        """
        config = self.config
        images = np.empty((len(self.tilts), *self.shape), np.float32)
        for number, tilt in enumerate(np.deg2rad(self.tilts)):
            before, after = random.standard_normal((2, *self.shape), np.float32)
            spectrum = np.fft.rfft2(before) * self.optics[number] * self.detector
            structural = np.fft.irfft2(spectrum, self.shape)
            structural *= np.sqrt(config.structural_noise) / max(float(structural.std()), 1e-6)
            path = config.thickness_angstrom / MEAN_FREE_PATH * (1 / np.cos(tilt) - 1)
            size = np.exp(path / 2)
            images[number] = (structural + np.sqrt(1 - config.structural_noise) * after) * size
        return images


def contrast_transfer(
    defocus: float,
    config: ImagingConfig,
    image_shape: tuple[int, int],
    voxel_size_angstrom: float,
) -> NDArray[np.float32]:
    """Return the contrast transfer function of an image, positive at frequency 0.

    Parameters
    ----------
    defocus
        Micrometres of underfocus.
    config
        Of the microscope.
    image_shape
        y, x.
    voxel_size_angstrom
        Of a pixel.

    Returns
    -------
    numpy.ndarray
        ``(y, x // 2 + 1)`` float32, as numpy's ``rfft2`` orders frequencies.
    """
    from torch_ctf import calculate_ctf_2d

    values = calculate_ctf_2d(
        defocus=defocus,
        astigmatism=0.0,
        astigmatism_angle=0.0,
        voltage=config.voltage,
        spherical_aberration=config.spherical_aberration,
        amplitude_contrast=config.amplitude_contrast,
        phase_shift=0.0,
        pixel_size=voxel_size_angstrom,
        image_shape=image_shape,
        rfft=True,
        fftshift=False,
    )
    return np.asarray(values.numpy(), np.float32)


# The finished tomogram ----------------------------------------------------------------


def _post(volume: NDArray[np.float32], config: ImagingConfig) -> NDArray[np.float32]:
    if config.lowpass_voxels > 0:
        volume = ndimage.gaussian_filter(volume, config.lowpass_voxels, mode="nearest")
    if config.highpass_voxels > 0:
        volume = volume - ndimage.gaussian_filter(volume, config.highpass_voxels, mode="nearest")
    return np.asarray(volume, np.float32)
