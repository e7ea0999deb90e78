"""Looks that no training set has, on scenes of `scene`.

Projections are Radon transforms of slices across the tilt axis, counted as electrons;
reconstructions are scikit-image's, with other filters than the simulator's, or algebraic;
no contrast transfer function. One style never projects: it works on the volume in Fourier
space.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.restoration import denoise_tv_chambolle
from skimage.transform import iradon, iradon_sart, radon

from tomoseg.evaluation.elsewhere.scene import Array, Content, Scene, build
from tomoseg.geometry import Index
from tomoseg.simulate.structures import Structure

SHAPE = (96, 128, 128)

ABSORPTION = 7e-4
"""Contrast of one angstrom of protein against ice, in the exponent."""

ICE_PATH = 3000.0
"""Angstrom of ice after which 1/e of the electrons are left."""

Finish = Callable[[Array], Array]


@dataclass(frozen=True)
class Microscope:
    """How a tilt series is taken and reconstructed.

    Parameters
    ----------
    dose
        Electrons per square angstrom over the whole series.
    tilt, step
        Largest tilt and increment, degrees.
    filter_name
        Of scikit-image's filtered back-projection; ``sart`` for two algebraic iterations.
    drift
        Strength of uneven illumination, a share of the intensity.
    jitter
        Standard deviation of the alignment's errors across the tilt axis, voxels.
    """

    dose: float
    tilt: float = 60.0
    step: float = 3.0
    filter_name: str = "hann"
    drift: float = 0.02
    jitter: float = 0.3


@dataclass(frozen=True)
class Style:
    """A look: what is in the ice, how it is taken, and what is done to the volume."""

    content: Content
    microscope: Microscope | None
    voxel_size: float = 10.0
    resolution: float = 30.0
    finish: Finish | None = None


def denoised(volume: Array) -> Array:
    """Do what users do before they look: total variation, then sharpen edges again."""
    values = volume / volume.std()
    smooth = denoise_tv_chambolle(values, weight=0.9, max_num_iter=40)
    return smooth + 0.7 * (smooth - ndimage.gaussian_filter(smooth, 3.0))


def flattened(volume: Array) -> Array:
    """Subtract the local mean, then take medians."""
    return ndimage.median_filter(volume - ndimage.uniform_filter(volume, 41), 3)


STYLES: dict[str, Style] = {
    "sparse_clean": Style(
        Content(0.012, kinds=4, vesicles=1, filaments=1, bodies=3),
        Microscope(dose=5000, filter_name="hann", drift=0.005, jitter=0.1),
    ),
    "sparse_noisy": Style(
        Content(0.015, kinds=4, filaments=1, bodies=3, beads=1),
        Microscope(dose=90, tilt=57, filter_name="shepp-logan"),
        voxel_size=13.5,
        resolution=35,
    ),
    "dense_noisy": Style(
        Content(0.15, kinds=8, vesicles=1, filaments=1, bodies=2, beads=2),
        Microscope(dose=110, filter_name="cosine"),
    ),
    "dense_clean": Style(
        Content(0.16, kinds=8, vesicles=1, filaments=1, bodies=2),
        Microscope(dose=3000, tilt=66, filter_name="cosine", drift=0.005, jitter=0.1),
        voxel_size=8.0,
        resolution=24,
    ),
    "low_dose_sart": Style(
        Content(0.07, kinds=5, vesicles=1, filaments=2, beads=2),
        Microscope(dose=60, tilt=54, filter_name="sart", drift=0.05, jitter=0.5),
    ),
    "denoised": Style(
        Content(0.08, kinds=6, vesicles=1, filaments=1, bodies=2),
        Microscope(dose=120, filter_name="hamming"),
        finish=denoised,
    ),
    "volume_domain": Style(
        Content(0.06, kinds=6, vesicles=1, filaments=1, bodies=2, beads=1),
        None,
        voxel_size=13.5,
        resolution=40,
        finish=flattened,
    ),
    "empty": Style(Content(0.0), Microscope(dose=90, filter_name="shepp-logan")),
}
"""Every look by its name; ``empty`` has nothing in the ice and an empty truth."""


def make(
    style: str, seed: int, models: Sequence[Structure], shape: Index = SHAPE
) -> tuple[Array, Array]:
    """Make a tomogram: the same style, seed, models and shape give the same bits.

    Parameters
    ----------
    style
        One of `STYLES`.
    seed
        Of every random choice.
    models
        Complexes to draw from, none of them trained on.
    shape
        Voxels z, y, x.

    Returns
    -------
    density, truth
        float32, salient objects dark, as raw cryo-ET density is; uint8 0/1. The style has
        the voxel size.
    """
    chosen = STYLES[style]
    random = np.random.default_rng([zlib.crc32(style.encode()), seed])
    scene = build(
        chosen.content,
        models,
        random,
        shape=shape,
        voxel_size=chosen.voxel_size,
        resolution=chosen.resolution,
    )
    volume = image(scene, chosen, random)
    return volume.astype(np.float32), scene.truth


def image(scene: Scene, style: Style, random: np.random.Generator) -> Array:
    """Return the tomogram of a scene in a style, objects dark."""
    density = scene.density + scene.beads
    if style.microscope is None:
        volume = _volume_domain(density, random)
    else:
        volume = _tilt_series(density, style.microscope, style.voxel_size, random)
    return -(style.finish(volume) if style.finish else volume)


def _tilt_series(
    density: Array, microscope: Microscope, voxel_size: float, random: np.random.Generator
) -> Array:
    """Project, count electrons and reconstruct, slice by slice across the tilt axis (y)."""
    depth, _, width = density.shape
    # a square whose inscribed circle holds every slice at every tilt
    edge = 2 * int(np.ceil(np.hypot(depth, width) / 2)) + 2
    low = ((edge - depth) // 2, (edge - width) // 2)
    angles = np.arange(-microscope.tilt, microscope.tilt + 0.1, microscope.step)
    square = np.zeros((edge, edge))
    inner = np.s_[low[0] : low[0] + depth, low[1] : low[1] + width]
    sinograms = []
    for plane in np.moveaxis(density, 1, 0):
        square[inner] = plane
        sinograms.append(radon(square, angles, circle=True))
    paths = np.stack(sinograms) * voxel_size  # (y, detector, tilt), angstrom of protein
    measured = _detect(paths, angles, depth * voxel_size, voxel_size, microscope, random)
    planes = [_reconstruct(s, angles, microscope.filter_name)[inner] for s in measured]
    return np.stack(planes, 1)


def _detect(
    paths: Array,
    angles: Array,
    thickness: float,
    voxel_size: float,
    microscope: Microscope,
    random: np.random.Generator,
) -> Array:
    """Return what a counting detector gives for protein paths (y, detector, tilt).

    Electrons lost in ever more ice at high tilt, uneven light, errors of alignment,
    Poisson counts, a readout that spreads to neighbours and columns of uneven gain.
    """
    electrons = microscope.dose / len(angles) * voxel_size**2
    through = np.exp(-thickness / ICE_PATH / np.cos(np.radians(angles)))
    measured = np.empty_like(paths)
    columns: Array = 1 + 0.0006 * random.normal(size=paths.shape[1:2])
    for k, weight in enumerate(through):
        shifted = ndimage.shift(paths[..., k], (0, random.normal(0, microscope.jitter)), order=1)
        light = ndimage.gaussian_filter(random.normal(size=shifted.shape), 40, mode="nearest")
        light = 1 + microscope.drift * light / light.std()
        expected = electrons * weight * light.clip(0.2) * np.exp(-ABSORPTION * shifted)
        counts = random.poisson(expected).astype(float)
        readout = ndimage.gaussian_filter(random.normal(size=counts.shape), 1.0)
        counts += 0.3 * np.sqrt(expected.mean()) * readout / readout.std()
        values = -np.log((counts * columns[:, None].T).clip(1) / electrons)
        measured[..., k] = values - np.median(values)
    return measured


def _reconstruct(sinogram: Array, angles: Array, filter_name: str) -> Array:
    if filter_name == "sart":
        first = iradon_sart(sinogram, angles, relaxation=0.1)
        return iradon_sart(sinogram, angles, image=first, relaxation=0.1)
    return iradon(sinogram, angles, filter_name=filter_name, circle=True)


def _volume_domain(density: Array, random: np.random.Generator) -> Array:
    """Noise on the volume, then the missing wedge (48 degrees open each way) and a falloff."""
    scale = density.std()
    speckle = 1 + 0.4 * random.normal(size=density.shape)
    noisy = density * speckle + random.normal(0, 1.3 * scale, density.shape)
    background = ndimage.gaussian_filter(random.normal(size=density.shape), 18)
    noisy += 0.5 * scale * background / background.std()
    z, y, x = np.meshgrid(*map(np.fft.fftfreq, density.shape), indexing="ij")
    seen = np.abs(z) <= np.tan(np.radians(48)) * np.abs(x) + 0.5 / density.shape[0]
    falloff = np.exp(-(z**2 + y**2 + x**2) / (2 * 0.2**2))
    return np.fft.ifftn(np.fft.fftn(noisy) * seen * falloff).real
