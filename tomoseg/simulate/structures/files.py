"""A structure from wherever the user has it: a file, a map, or an entry's name."""

from pathlib import Path

from tomoseg.errors import InputError, RequestError
from tomoseg.simulate.structures.coordinates import load_coordinates
from tomoseg.simulate.structures.fetch import fetch_entry, is_entry_id
from tomoseg.simulate.structures.maps import load_density_map
from tomoseg.simulate.structures.model import Structure

COORDINATE_SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif")
"""Of files with atoms, plain or followed by .gz; any other file is taken as a density map."""


def load_structure(
    source: str,
    *,
    mass_kda: float | None = None,
    threshold: float | None = None,
    voxel_size_angstrom: float | None = None,
) -> Structure:
    """Read a structure.

    Parameters
    ----------
    source
        A PDB or mmCIF file, also with ``.gz``; a density map with the particle bright; or
        an entry of the Protein Data Bank such as ``4V5A``, taken from the cache
        (``$TOMOSEG_CACHE``) or fetched from RCSB.
    mass_kda
        Of the particle in a density map; None estimates it from the enclosed volume.
    threshold
        Of a density map, in its unit; None chooses one above solvent and noise.
    voxel_size_angstrom
        Of a density map; None believes the file.

    Returns
    -------
    Structure
        From atoms one site a residue, of the first biological assembly where one is
        described; from a map one site for each cell of at most 4 angstrom. Without a
        split, named after the entry or the file.

    Raises
    ------
    InputError
        Where there is nothing at `source` that can be read as a structure.
    RequestError
        Where a package of the `simulate` extra is missing, or where a setting of density
        maps is given for atoms.
    """
    path = Path(source)
    is_entry = not path.is_file() and is_entry_id(source)
    if not is_entry and not path.exists():
        raise InputError(
            f"{source} is neither a file nor an entry of the Protein Data Bank.",
            "Check the path, or give four characters such as 4V5A.",
        )
    name = source.upper() if is_entry else path.name.split(".")[0]
    if not is_entry and not _holds_atoms(path):
        return load_density_map(
            path,
            name,
            mass_kda=mass_kda,
            threshold=threshold,
            voxel_size_angstrom=voxel_size_angstrom,
        )
    if (mass_kda, threshold, voxel_size_angstrom) != (None, None, None):
        raise RequestError(
            f"{source} holds atoms, and mass, threshold and voxel size are for density maps.",
            "Leave them out.",
        )
    return load_coordinates(fetch_entry(source) if is_entry else path, name)


def _holds_atoms(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(COORDINATE_SUFFIXES)
