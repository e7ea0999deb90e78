"""What the benchmarks share: networks of chosen size, and the command line."""

import sys
from pathlib import Path

from tomoseg.saliency.architecture import Architecture
from tomoseg.saliency.initialise import random_network
from tomoseg.saliency.weights import Card, save


def weights_of(folder: Path, **architecture: int) -> Path:
    """Write random weights of an architecture and return their path."""
    shape = Architecture(**architecture)
    path = folder / "network.safetensors"
    save(path, random_network(shape, seed=0), Card("network", shape))
    return path


def small_weights(folder: Path) -> Path:
    """Write a network that computes a block in about 0.1 s on one core."""
    return weights_of(folder, base_channels=2, generator_channels=2)


def split_arguments() -> tuple[list[str], list[str]]:
    """Return this command's arguments before ``--``, and those after it."""
    arguments = sys.argv[1:]
    middle = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:middle], arguments[middle + 1 :]


def tomoseg(*arguments: object) -> list[str]:
    """Return the command line as this interpreter's environment has it."""
    return [str(Path(sys.executable).parent / "tomoseg"), *map(str, arguments)]
