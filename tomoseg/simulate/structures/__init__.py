"""What is put into a simulated tomogram: complexes as sites with masses.

From a folder of site models, from files and the Protein Data Bank, or invented on the
spot; knows nothing of densities, scenes and imaging.
"""

from tomoseg.simulate.structures.files import load_structure
from tomoseg.simulate.structures.library import SPLITS, load_library
from tomoseg.simulate.structures.model import ANGSTROM3_PER_DALTON, Structure
from tomoseg.simulate.structures.procedural import procedural

__all__ = [
    "ANGSTROM3_PER_DALTON",
    "SPLITS",
    "Structure",
    "load_library",
    "load_structure",
    "procedural",
]
