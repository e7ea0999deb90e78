"""Networks from files and seeds, each with a card that says what it is.

Files are safetensors: nothing is unpickled. Knows shipped names, paths and ``random:SEED``.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tomoseg.errors import InputError, RequestError, StorageError
from tomoseg.saliency.architecture import Architecture
from tomoseg.saliency.initialise import blank_network, random_network
from tomoseg.saliency.lanes import share_memory
from tomoseg.saliency.usalnet import USalNet

SUFFIX = ".safetensors"
RANDOM = "random:"
TRAINING_WINDOW = 64
_CARD = "tomoseg_card"
_COUNTER = "num_batches_tracked"


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
        Of the tensors as stored, see `digest`; `save` fills it in.
    trained
        Whether the weights were learnt; False for random ones.
    contrast
        ``light``: salient objects are expected bright after normalisation.
    smoothed
        Whether intensities are to be smoothed (`tomoseg.intensity.smooth`) before they are
        normalised.
    amplitude
        Robust standard deviations are multiplied by it before the network sees them.
    notes
        Provenance, in sentences: data, code version, licence.
    training
        The recipe, the data and the validation scores that led to trained weights.
    """

    name: str
    architecture: Architecture
    window: int = TRAINING_WINDOW
    voxel_size_angstrom: float | None = None
    sha256: str = ""
    trained: bool = False
    contrast: str = "light"
    smoothed: bool = False
    amplitude: float = 1.0
    notes: str = ""
    training: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, from which `from_dict` builds the same value."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from what `to_dict` returned; names from newer versions are ignored.

        Raises
        ------
        RequestError
            Where the architecture is out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        kept = {key: value for key, value in values.items() if key in known}
        architecture = Architecture.from_dict(kept.pop("architecture"))
        return cls(architecture=architecture, **kept)


def shipped() -> list[str]:
    """Return the names of the weights that come with tomoseg."""
    folder = resources.files("tomoseg") / "weights"
    if not folder.is_dir():
        return []
    names = (entry.name for entry in folder.iterdir())
    return sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))


def load(spec: str) -> tuple[USalNet, Card]:
    """Return a network in eval mode, on the CPU, and its card.

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
    share_memory()  # before torch allocates
    if spec.startswith(RANDOM):
        return _random(spec)
    if spec in shipped():
        with resources.as_file(resources.files("tomoseg") / "weights" / (spec + SUFFIX)) as path:
            return _load_file(path)
    path = Path(spec)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise RequestError(
            f"weights: expected a shipped name, a {SUFFIX} file or {RANDOM}SEED, "
            f"got {spec!r} ({found}).",
            f"Shipped: {', '.join(shipped()) or 'none'}.",
        )
    return _load_file(path)


def save(path: Path, network: USalNet, card: Card, *, half: bool = False) -> Card:
    """Write a network with its card: `path` and, beside it, the card as ``.json``.

    Parameters
    ----------
    path
        Ends in ``.safetensors``; replaced where it exists.
    network
        Of the card's architecture.
    card
        Its `sha256` is computed here.
    half
        Store as float16, half the size; loading gives float32 again.

    Returns
    -------
    Card
        As stored.
    """
    tensors = state_of(network)
    if half:
        tensors = {name: tensor.half() for name, tensor in tensors.items()}
    card = dataclasses.replace(card, sha256=digest(tensors))
    write_tensors(path, tensors, {_CARD: card.to_dict()})
    text = json.dumps(card.to_dict(), indent=2, sort_keys=True)
    path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    return card


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 of the tensors' bytes (little-endian, C order), sorted by name."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        sha.update(tensors[name].contiguous().view(-1).numpy().tobytes())
    return sha.hexdigest()


def state_of(network: USalNet) -> dict[str, Tensor]:
    """Return the tensors that decide what a network computes, by name, on the CPU."""
    state = network.state_dict()
    return {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in state.items()
        if not name.endswith(_COUNTER)
    }


def network_from(
    architecture: Architecture, tensors: Mapping[str, Tensor], source: object
) -> USalNet:
    """Return a network in eval mode with these tensors, as float32.

    Raises
    ------
    InputError
        Where a tensor is missing, unknown or of another shape; `source` is named.
    """
    network = blank_network(architecture)
    expected = state_of(network)
    _require_names(set(expected), set(tensors), source)
    for name, tensor in expected.items():
        if tensor.shape != tensors[name].shape:
            raise InputError(
                f"weights {source}: expected {name} of shape {tuple(tensor.shape)}, "
                f"got {tuple(tensors[name].shape)}."
            )
    with torch.no_grad():
        for name, tensor in network.state_dict(keep_vars=True).items():
            if name.endswith(_COUNTER):
                tensor.zero_()
            else:
                tensor.copy_(tensors[name])
    return network


def read_tensors(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a safetensors file, and what `write_tensors` stored as `key`.

    Raises
    ------
    InputError
        Where the file is no safetensors file or was not written by tomoseg.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"weights {path}: expected a safetensors file, got one that can't be read ({error}).",
            "Weights in other formats (.pt, .pth) are not read: they would run code.",
        ) from error
    try:
        values = json.loads(metadata[key])
    except (KeyError, ValueError) as error:
        raise InputError(
            f"weights {path}: expected {key!r} in the file's metadata, found none that is JSON.",
            "Only files that tomoseg wrote can be loaded.",
        ) from error
    return tensors, values


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write a safetensors file whose metadata values are JSON."""
    if path.suffix != SUFFIX:
        raise RequestError(f"weights: expected a path that ends in {SUFFIX}, got {path}.")
    texts = {key: json.dumps(value, sort_keys=True) for key, value in metadata.items()}
    try:
        save_file(tensors, path, texts)
    except (SafetensorError, OSError) as error:
        raise StorageError(f"weights {path}: could not be written ({error}).") from error


def _random(spec: str) -> tuple[USalNet, Card]:
    text = spec.removeprefix(RANDOM)
    if not (text.isascii() and text.isdigit() and int(text) < 2**63):
        raise RequestError(
            f"weights: expected {RANDOM}SEED with a whole number of 0 or more, got {spec!r}."
        )
    network = random_network(Architecture(), int(text))
    card = Card(
        name=spec,
        architecture=network.architecture,
        sha256=digest(state_of(network)),
        notes="Random weights: nothing was learnt. For tests and for refinement alone.",
    )
    return network, card


def _load_file(path: Path) -> tuple[USalNet, Card]:
    tensors, values = read_tensors(path, _CARD)
    try:
        card = Card.from_dict(values)
    except (RequestError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"weights {path}: the card can't be understood ({error}).") from error
    network = network_from(card.architecture, tensors, path)
    if digest(tensors) != card.sha256:
        raise InputError(
            f"weights {path}: expected sha256 {card.sha256}, got {digest(tensors)}.",
            "The file was changed or damaged after it was written; fetch it again.",
        )
    return network, card


def _require_names(expected: set[str], found: set[str], source: object) -> None:
    for names, what in ((expected - found, "missing"), (found - expected, "unknown")):
        if names:
            listed = ", ".join(sorted(names)[:3])
            raise InputError(f"weights {source}: {len(names)} tensors {what}: {listed}.")
