"""Recipes: what is drawn at random for each tomogram of a data set, and from where.

Variety is the point of `random_recipe`: a network trained on one look fails on another.
`standard_recipe` is one plain microscope, for tables. Pure; knows no files.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tomoseg.geometry import Index
from tomoseg.simulate.imaging import Correction, Filter, ImagingConfig
from tomoseg.simulate.scene import SceneConfig
from tomoseg.simulate.volume_imaging import VolumeImagingConfig

Look = Literal["random", "standard", "paper"]
Denoise = Literal["none", "median", "total variation"]

NATIVE = 1.15
"""Up to this ratio of voxel sizes a tomogram is taken as it is, beyond it is resampled."""


@dataclass(frozen=True)
class Recipe:
    """How one tomogram is made.

    Parameters
    ----------
    scene
        What it holds; its shape and voxel size are those of the simulated grid.
    imaging
        How it is imaged: a tilt series, or in the volume domain.
    denoise
        Edge-preserving filter of the finished tomogram, as users apply before they look.
    """

    scene: SceneConfig
    imaging: ImagingConfig | VolumeImagingConfig
    denoise: Denoise = "none"


def random_recipe(random: np.random.Generator, shape: Index, voxel_size: float) -> Recipe:
    """Draw a recipe over everything that differs between tomograms.

    Parameters
    ----------
    random
        Source of chance.
    shape, voxel_size
        Of the tomogram wanted (voxels z, y, x; angstrom). The simulated grid may be
        coarser; the tomogram is then resampled to what is wanted.
    """
    voxel = voxel_size * _voxel_ratio(random)
    simulated = shape
    if voxel / voxel_size > NATIVE:
        simulated = tuple(int(np.ceil(n * voxel_size / voxel)) + 1 for n in shape)
    scene = _random_scene(random, simulated, voxel)
    kinds: list[Denoise] = ["none", "median", "total variation"]
    denoise = kinds[random.choice(3, p=[0.86, 0.08, 0.06])]
    if random.uniform() < 0.22:
        return _seen(Recipe(scene, _random_volume_imaging(random), denoise))
    return _seen(Recipe(scene, _random_imaging(random, scene), denoise))


def standard_recipe(
    random: np.random.Generator, shape: Index, voxel_size: float, snr: float
) -> Recipe:
    """Draw a scene of ordinary crowding for one plain microscope (full tilt series, +-60).

    Parameters
    ----------
    random
        Source of chance.
    shape, voxel_size
        Of the tomogram, voxels z, y, x and angstrom.
    snr
        Of the tomogram.
    """
    scene = SceneConfig(
        shape=shape,
        voxel_size_angstrom=voxel_size,
        resolution_angstrom=30.0,
        crowding=random.uniform(0.05, 0.2),
        kinds=8,
        thickness=0.9,
        vesicles=int(random.integers(0, 2)),
        filaments=int(random.integers(0, 3)),
        beads=int(random.integers(0, 2)),
        texture=0.005,
    )
    return Recipe(scene, ImagingConfig(snr=snr, defocus=random.uniform(3, 6)))


def paper_recipe(
    random: np.random.Generator, shape: Index, voxel_size: float, snr: float
) -> Recipe:
    """Draw a packed scene of complexes alone, imaged in the volume domain (4 nm, +-60)."""
    scene = SceneConfig(
        shape=shape,
        voxel_size_angstrom=voxel_size,
        resolution_angstrom=40.0,
        crowding=random.uniform(0.1, 0.25),
        kinds=20,
        thickness=1.0,
        vesicles=0,
        filaments=0,
        beads=0,
        membrane_proteins=0.0,
    )
    return Recipe(scene, VolumeImagingConfig(snr=snr, defocus=random.uniform(2, 15)))


def without_objects(recipe: Recipe) -> Recipe:
    """Return a recipe of ice alone."""
    scene = replace(
        recipe.scene, crowding=0.0, vesicles=0, sheets=0, filaments=0, beads=0, carbon=False
    )
    return _seen(replace(recipe, scene=scene))


def _seen(recipe: Recipe) -> Recipe:
    """Give ice alone noise where there is none: of nothing at all there is no tomogram."""
    scene, imaging = recipe.scene, recipe.imaging
    objects = scene.vesicles + scene.sheets + scene.filaments + scene.beads + scene.carbon
    if imaging.snr is not None or objects or scene.crowding:
        return recipe
    return replace(recipe, imaging=replace(imaging, snr=1.0))


def _voxel_ratio(random: np.random.Generator) -> float:
    """Return the simulated voxel over the wanted one: mostly near 1, sometimes coarser."""
    if random.uniform() < 0.72:
        return float(random.uniform(0.88, 1.14))
    return float(random.uniform(1.2, 1.8))


def _log_uniform(random: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def _random_scene(random: np.random.Generator, shape: Index, voxel: float) -> SceneConfig:
    empty = random.uniform() < 0.08
    sparse_objects = random.uniform() < 0.5
    scene = SceneConfig(
        shape=shape,
        voxel_size_angstrom=voxel,
        resolution_angstrom=float(random.uniform(15, 45)),
        crowding=0.0 if random.uniform() < 0.07 else _log_uniform(random, 0.008, 0.27),
        kinds=int(_log_uniform(random, 1, 30)),
        thickness=float(np.clip(random.uniform(0.5, 1.3), 0, 1)),
        vesicles=0 if sparse_objects else int(random.integers(0, 4)),
        sheets=int(random.uniform() < 0.15),
        filaments=0 if sparse_objects and random.uniform() < 0.7 else int(random.integers(1, 8)),
        beads=int(random.integers(1, 9)) if random.uniform() < 0.45 else 0,
        carbon=bool(random.uniform() < 0.1),
        membrane_proteins=float(random.uniform(0, 0.5)),
        patchiness=float(random.uniform(0.2, 0.85)) if random.uniform() < 0.4 else 0.0,
        texture=_log_uniform(random, 0.002, 0.03) if random.uniform() < 0.6 else 0.0,
    )
    if not empty:
        return scene
    return replace(
        scene,
        crowding=0.0,
        vesicles=0,
        sheets=0,
        filaments=0,
        beads=scene.beads if random.uniform() < 0.5 else 0,
    )


def _random_snr(random: np.random.Generator) -> float | None:
    return None if random.uniform() < 0.07 else _log_uniform(random, 0.04, 8.0)


def _random_volume_imaging(random: np.random.Generator) -> VolumeImagingConfig:
    return VolumeImagingConfig(
        snr=_random_snr(random),
        tilt_max=float(random.choice([90.0, random.uniform(40, 70)], p=[0.1, 0.9])),
        defocus=None if random.uniform() < 0.4 else float(random.uniform(1.5, 15)),
        resolution_angstrom=float(random.uniform(15, 50)),
    )


def _random_imaging(random: np.random.Generator, scene: SceneConfig) -> ImagingConfig:
    half = random.uniform(40, 70)
    skew = random.uniform(-6, 6) if random.uniform() < 0.3 else 0.0
    filters: list[Filter] = ["ramp", "hamming", "hann", "sirt"]
    corrections: list[Correction] = ["none", "phase flip"]
    return ImagingConfig(
        snr=_random_snr(random),
        tilt_min=float(-half + skew),
        tilt_max=float(half + skew),
        tilt_step=float(random.choice([1.5, 2.0, 3.0, 4.0, 5.0], p=[0.1, 0.2, 0.4, 0.15, 0.15])),
        missing_tilts=float(random.uniform(0, 0.25)) if random.uniform() < 0.2 else 0.0,
        defocus=None if random.uniform() < 0.2 else float(random.uniform(1.0, 10)),
        defocus_deviation=float(random.uniform(0, 0.4)),
        correction=corrections[random.integers(2)],
        detector=float(random.uniform(0.2, 0.95)),
        dose=0.0 if random.uniform() < 0.2 else float(random.uniform(50, 150)),
        thickness_angstrom=scene.shape[0] * scene.voxel_size_angstrom * scene.thickness,
        structural_noise=float(random.uniform(0, 1)),
        shift_deviation=float(random.uniform(0, 1.0)),
        tilt_deviation=float(random.uniform(0, 0.4)),
        filter=filters[random.choice(4, p=[0.2, 0.3, 0.2, 0.3])],
        cutoff=float(random.uniform(0.3, 0.5)),
        sirt_iterations=int(_log_uniform(random, 4, 50)),
        lowpass_voxels=float(random.uniform(0.4, 2.2)) if random.uniform() < 0.45 else 0.0,
        highpass_voxels=float(random.uniform(15, 50)) if random.uniform() < 0.25 else 0.0,
    )
