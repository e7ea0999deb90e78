import time

import pytest
import torch
from engine import CASES, config, digests, run, write_volume

from tomoseg.saliency.architecture import Architecture
from tomoseg.saliency.initialise import random_network
from tomoseg.saliency.weights import Card, save


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A network like the real one, of two channels, that computes a block in 0.1 s."""
    architecture = Architecture(base_channels=2, generator_channels=2)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save(
        path,
        random_network(architecture, seed=3),
        Card("tiny", architecture, voxel_size_angstrom=10.0),
    )
    return path


@pytest.fixture(scope="session")
def volume(tmp_path_factory):
    torch.set_num_threads(1)
    return write_volume(tmp_path_factory.mktemp("volume") / "volume.zarr")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, volume, weights):
    """The bits of every case and its seconds, from one run in this process with one lane."""
    folder = tmp_path_factory.mktemp("expected")
    found = {}
    for case in CASES:
        started = time.monotonic()
        run(volume, folder / f"{case}.zarr", config(weights, case), threads=1)
        found[case] = digests(folder / f"{case}.zarr"), time.monotonic() - started
    return found


@pytest.fixture(scope="session")
def expected(undisturbed):
    """The bits of every case."""
    return {case: bits for case, (bits, _) in undisturbed.items()}
