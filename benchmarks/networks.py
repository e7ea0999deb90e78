"""What the benchmarks share: networks of chosen size, and the command line."""

import sys
from pathlib import Path

from tomoseg.saliency.architecture import Architecture
from tomoseg.saliency.weights import random_network, save


def weights_of(folder: Path, **architecture: int) -> Path:
    """Write random weights of an architecture and return their path."""
    network, card = random_network(Architecture(**architecture), seed=0)
    path = folder / f"{card.name.replace(':', '-')}-{'-'.join(map(str, architecture.values()))}"
    path = path.with_suffix(".safetensors")
    save(path, network, card)
    return path


def small_weights(folder: Path) -> Path:
    """Write a network that computes a block in about 0.1 s on one core."""
    return weights_of(folder, base_channels=1, generator_channels=1)


def tomoseg(*arguments: object) -> list[str]:
    """Return the command line as this interpreter's environment has it."""
    return [str(Path(sys.executable).parent / "tomoseg"), *map(str, arguments)]
