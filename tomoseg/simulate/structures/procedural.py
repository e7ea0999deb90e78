"""Invented complexes, so that everything works on a fresh machine without data.

Spreads masses and families; knows nothing of their geometry.
"""

import numpy as np

from tomoseg.errors import RequestError
from tomoseg.simulate.structures.families import FAMILIES
from tomoseg.simulate.structures.model import Structure
from tomoseg.simulate.structures.shapes import SITE_MASS

LIGHTEST, HEAVIEST = 60e3, 4.5e6
"""Dalton, of the complexes that are made."""

_GOLDEN = (5**0.5 - 1) / 2
"""Steps of this length, modulo 1, spread evenly however many there are."""


def procedural(count: int, seed: int) -> list[Structure]:
    """Invent complexes of 60 kDa to 4.5 MDa, from globular proteins to capsids.

    Masses are spread evenly over their logarithm. The complex of an index depends on the
    seed and the index alone, so that a longer list begins with the shorter one.

    Parameters
    ----------
    count
        How many.
    seed
        Not negative.

    Returns
    -------
    list of Structure
        Of ``count`` complexes of at most about 41 000 sites, without a split. The axis of
        rings, barrels and rods is z.

    Raises
    ------
    RequestError
        Where the count or the seed is negative.
    """
    if count < 0 or seed < 0:
        raise RequestError(
            f"Expected a count and a seed of at least 0, got {count} and {seed}.",
            "Give larger ones.",
        )
    offset = np.random.default_rng(seed).random()
    return [
        _complex(seed, index, mass=LIGHTEST * (HEAVIEST / LIGHTEST) ** (share % 1))
        for index, share in enumerate(offset + _GOLDEN * np.arange(count))
    ]


def _complex(seed: int, index: int, mass: float) -> Structure:
    rng = np.random.default_rng((seed, index))
    families = [f for f in FAMILIES if f.lightest <= mass <= f.heaviest]
    weights = np.array([family.weight for family in families])
    family = families[rng.choice(len(families), p=weights / weights.sum())]
    sites_zyx, masses = family.make(rng, round(mass / SITE_MASS))
    return Structure.centred(f"{family.name}-{seed}-{index:04d}", sites_zyx, masses)
