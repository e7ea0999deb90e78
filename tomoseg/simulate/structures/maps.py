"""Density maps of a particle as sites: where there is density there is mass.

Knows volumes through `tomoseg.io`, no coordinates of atoms.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from tomoseg.errors import InputError, RequestError
from tomoseg.geometry import whole
from tomoseg.io.volume import Triple, Volume, open_volume
from tomoseg.simulate.structures.model import ANGSTROM3_PER_DALTON, Structure

_CELL_ANGSTROM = 4.0
"""Voxels finer than half of this are pooled: about a residue a site, as from coordinates."""

_DUST = 0.01
"""Pieces with a smaller part of the largest one's voxels are noise."""

_NOISE_LEVELS = 4.0
"""Standard deviations above the solvent, where the particle begins at the lowest."""

_MOST_VOXELS = 1024**3
"""More than any map of a single particle has."""


def load_density_map(
    path: Path,
    name: str,
    *,
    mass_kda: float | None,
    threshold: float | None,
    voxel_size_angstrom: float | None,
) -> Structure:
    """Read a density map, particle bright, as sites.

    Voxels above the threshold, but for specks of noise, are pooled into cells of at most
    4 angstrom. A cell's site lies at its centre of mass; mass is in proportion to the
    density above the background, which is the median of the voxels outside.

    Parameters
    ----------
    path
        A volume that `tomoseg.io.open_volume` reads: MRC, CCP4, Zarr.
    name
        Of the structure.
    mass_kda
        Of the particle; None estimates it from the volume above the threshold, at
        1.21 cubic angstrom a dalton.
    threshold
        In the map's unit; None chooses Otsu's, which parts the histogram into solvent and
        particle, or the median and four times the noise (from the median of absolute
        deviations) where that is higher.
    voxel_size_angstrom
        Instead of what the file says; None believes the file.

    Raises
    ------
    InputError
        Where the map cannot be read, shows no particle, or does not say its voxel size.
    RequestError
        Where the mass or the voxel size is not a positive number.
    """
    _require_positive(mass_kda=mass_kda, voxel_size_angstrom=voxel_size_angstrom)
    volume = open_volume(path)
    voxel_size = _voxel_size(volume, voxel_size_angstrom)
    density = _read(volume)
    level = _default_threshold(density, path) if threshold is None else threshold
    above = density > level
    if not above.any() or above.all():
        raise InputError(
            f"{path}: no voxel or every voxel lies above the threshold {level:.4g}.",
            f"Give one between {density.min():.4g} and {density.max():.4g}.",
        )
    above = _without_dust(above)
    sites_zyx, weights = _pool(density, above, voxel_size)
    volume_angstrom3 = np.count_nonzero(above) * float(np.prod(voxel_size))
    mass = volume_angstrom3 / ANGSTROM3_PER_DALTON if mass_kda is None else mass_kda * 1000
    return Structure.centred(name, sites_zyx, weights * (mass / weights.sum()))


def _require_positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not 0 < value < np.inf:
            raise RequestError(f"Expected a positive {name}, got {value}.", "Give another.")


def _voxel_size(volume: Volume, given: float | None) -> Triple:
    if given is not None:
        return (given, given, given)
    if volume.voxel_size_angstrom is None:
        raise InputError(
            f"{volume.path} does not tell its voxel size: {volume.voxel_size_note}.",
            "Give the voxel size in angstrom.",
        )
    return volume.voxel_size_angstrom


def _read(volume: Volume) -> NDArray[np.float32]:
    if np.prod(volume.shape, dtype=np.float64) > _MOST_VOXELS:
        raise InputError(
            f"{volume.path} has {volume.shape} voxels, more than a map of one particle has.",
            "Give the map of a particle, cut out or binned.",
        )
    with volume.reader() as reader:
        density = reader.read(whole(volume.shape)).astype(np.float32, copy=False)
    if not np.isfinite(density).all():
        raise InputError(f"{volume.path} holds values that are not numbers.", "Mend the map.")
    return density


def _default_threshold(density: NDArray[np.float32], path: Path) -> float:
    # one hot voxel must not decide
    low, median, high = np.percentile(density, (0.01, 50, 99.99))
    if low == high:
        raise InputError(f"{path} shows no particle: nearly all voxels are {low:.4g}.", "")
    if median - low > high - median:
        raise InputError(
            f"{path}: the density goes further below its median than above it.",
            "Invert a map whose particle is dark; give the threshold where it is bright.",
        )
    otsu = float(threshold_otsu(np.clip(density, low, high)))  # type: ignore[no-untyped-call]
    noise = 1.4826 * float(np.median(np.abs(density - median)))
    return max(otsu, float(median) + _NOISE_LEVELS * noise)


def _without_dust(above: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Leave out the pieces that are much smaller than the largest one."""
    pieces, _ = ndimage.label(above)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0  # outside of all
    kept: NDArray[np.bool_] = (sizes > _DUST * sizes.max())[pieces]
    return kept


def _pool(
    density: NDArray[np.float32], above: NDArray[np.bool_], voxel_size: Triple
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (N, 3) sites z, y, x in angstrom from voxel 0, and (N,) densities summed."""
    voxels = np.argwhere(above)
    weights = density[above].astype(np.float64) - float(np.median(density[~above]))
    factors = [max(1, int(_CELL_ANGSTROM / size)) for size in voxel_size]
    cells = np.ravel_multi_index(tuple((voxels // factors).T), density.shape)
    _, members = np.unique(cells, return_inverse=True)
    totals: NDArray[Any] = np.bincount(members, weights)
    moments = [np.bincount(members, weights * axis) / totals for axis in voxels.T]
    sites: NDArray[Any] = np.stack(moments, axis=1) * voxel_size
    return sites, totals
