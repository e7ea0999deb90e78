"""PDB and mmCIF files as residue-level sites; knows gemmi, imported on use.

One rule for complexes of any size: every residue, nucleotide or ligand becomes one site.
It lies at the centre of mass of the atoms that the file holds, without hydrogens, and
weighs what the whole residue weighs, so that side chains which were not resolved, and
files of alpha carbons alone, do not make a complex lighter. A residue that gemmi has no
weight for weighs the sum of its atoms. Waters and all but the first of alternative
conformations are left out.
"""

from pathlib import Path
from typing import Any

import numpy as np

from tomoseg.errors import InputError
from tomoseg.simulate.structures.extra import optional
from tomoseg.simulate.structures.model import Structure

_WATER_DALTON = 18.015
"""Lost by each residue where a chain is linked."""

_Site = tuple[float, float, float, float]
"""z, y, x in angstrom, and the mass in dalton."""


def load_coordinates(path: Path, name: str) -> Structure:
    """Read a PDB or mmCIF file, also one compressed by gzip.

    Parameters
    ----------
    path
        The suffix decides between the formats.
    name
        Of the structure.

    Returns
    -------
    Structure
        The first biological assembly where the file describes one, the first model as it
        is otherwise.

    Raises
    ------
    InputError
        Where the file cannot be read or holds nothing but waters.
    RequestError
        Where gemmi is not installed.
    """
    gemmi = optional("gemmi", "to read PDB and mmCIF files")
    try:
        model = _first_assembly(gemmi, path)
    except LookupError as error:  # of an empty mmCIF file
        raise _unreadable(path, "it holds no data") from error
    except (RuntimeError, ValueError, OSError) as error:
        raise _unreadable(path, str(error)) from error
    sites = [
        _site(gemmi, residue)
        for chain in model or ()
        for residue in chain
        if len(residue) and not residue.is_water()
    ]
    if not sites:
        raise _unreadable(path, "it holds no atoms, waters and hydrogens aside")
    table = np.array(sites)
    if not np.isfinite(table).all():
        raise _unreadable(path, "some coordinates are not numbers")
    if not np.ptp(table[:, :3], axis=0).any():  # what gemmi makes of columns out of place
        raise _unreadable(path, "all its residues lie at one point")
    return Structure.centred(name, table[:, :3], table[:, 3])


def _first_assembly(gemmi: Any, path: Path) -> Any:
    """Return a gemmi model without hydrogens, or None where the file holds no model."""
    structure = gemmi.read_structure(str(path))
    structure.remove_alternative_conformations()
    structure.remove_hydrogens()
    if not len(structure):
        return None
    if not structure.assemblies:
        return structure[0]
    return gemmi.make_assembly(
        structure.assemblies[0], structure[0], gemmi.HowToNameCopiedChain.Dup
    )


def _site(gemmi: Any, residue: Any) -> _Site:
    weights = [max(atom.element.weight, 1.0) for atom in residue]  # pseudo-atoms weigh nothing
    z, y, x = np.average([atom.pos.tolist() for atom in residue], axis=0, weights=weights)[::-1]
    known = gemmi.find_tabulated_residue(residue.name)
    if not known.weight:
        return z, y, x, sum(weights)
    linked = known.is_amino_acid() or known.is_nucleic_acid()
    return z, y, x, known.weight - (_WATER_DALTON if linked else 0)


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(
        f"{path} cannot be read as a structure: {reason}.",
        "Give a PDB or mmCIF file with the atoms of a complex.",
    )
