"""Networks from files and seeds, each with a card that says what it is.

Files are safetensors: nothing is unpickled. Knows shipped names, paths and ``random:SEED``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tomoseg.saliency.architecture import Architecture
from tomoseg.saliency.usalnet import USalNet


@dataclass(frozen=True)
class Card:
    """What a network is, where it comes from and what it expects.

    Parameters
    ----------
    name
        Short name, the file's stem.
    architecture
        Of the network.
    window
        Edge of the training windows in voxels; other windows work as well.
    voxel_size_angstrom
        Of the training data; None where nothing was trained.
    sha256
        Of the tensors as stored, see `digest`.
    trained
        Whether the weights were learnt; False for random ones.
    contrast
        ``light``: salient objects are expected bright after normalisation.
    notes
        Provenance, in sentences: data, code version, licence.
    """

    name: str
    architecture: Architecture
    window: int
    voxel_size_angstrom: float | None
    sha256: str
    trained: bool
    contrast: str = "light"
    notes: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        raise NotImplementedError

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from what `to_dict` returned."""
        raise NotImplementedError


def load(spec: str) -> tuple[USalNet, Card]:
    """Return a network in eval mode, and its card.

    Parameters
    ----------
    spec
        Name of shipped weights, path of a ``.safetensors`` file, or ``random:SEED``.

    Raises
    ------
    RequestError
        Where nothing goes by that name.
    InputError
        Where the file is not weights that `save` wrote, or was changed since.
    """
    raise NotImplementedError


def save(path: Path, network: USalNet, card: Card) -> None:
    """Write a network with its card: ``path`` and, beside it, the card as ``.json``."""
    raise NotImplementedError
