import os
import subprocess
import sys

import pytest
from saliency_toys import FLAT

from tomoseg.saliency.architecture import Architecture
from tomoseg.saliency.initialise import random_network
from tomoseg.saliency.memory import (
    FRAGMENTATION,
    PER_CLASS,
    SELF_TRAINING,
    forward_bytes,
    parameter_count,
    refine_bytes,
)
from tomoseg.saliency.weights import state_of

MEASURE = """
import sys
import numpy as np
import torch._dynamo  # an optimiser imports it: part of a worker before its first shard
from tomoseg.config import RefineConfig
from tomoseg.saliency.architecture import Architecture
from tomoseg.saliency.initialise import random_network
from tomoseg.saliency.predict import Predictor
from tomoseg.saliency.refine import refine

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

what, base, edge, count, classes, finest = sys.argv[1], *map(int, sys.argv[2:7])
rule, _, unify = what.partition(" ")
more = tuple(map(int, sys.argv[7:])) or (0,) * 5
tiny = random_network(Architecture(base_channels=1), 0)
Predictor(tiny).saliency(np.zeros((1, 16, 16, 16), np.float32))
windows = np.random.default_rng(0).standard_normal((count, edge, edge, edge)).astype(np.float32)
before = peak()
architecture = Architecture(
    base_channels=base, decoder_convolutions=more, finest_attention=finest
)
network = random_network(architecture, 0)
if what == "forward":
    for _ in range(2):  # freed memory is in pieces the second time
        Predictor(network, batch=count).saliency(windows)
else:
    config = RefineConfig(
        rule=rule,
        unify=unify or "supervoxels",
        iterations=count + 1,
        classes=classes,
        compactness=2.0,
        tolerance=0.0,
    )
    refine(network, list(windows), config, seed=0)
print(peak() - before)
"""


def measured(*arguments: object, living: bool) -> int:
    """Peak bytes of a fresh process; with `living`, of what is allocated and not yet freed."""
    # A fixed threshold makes the allocator give every large piece back at once.
    tight = {"MALLOC_MMAP_THRESHOLD_": str(2**17)} if living else {}
    command = [sys.executable, "-c", MEASURE, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, **tight}
    )
    return int(done.stdout)


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture(),
        FLAT,
        Architecture(attention=False),
        Architecture(
            base_channels=3, convolutions=(1, 2, 3, 1, 1), decoder_convolutions=(2, 1, 0, 1, 3)
        ),
    ],
)
def test_parameters_are_counted_without_torch(architecture: Architecture) -> None:
    tensors = state_of(random_network(architecture, 0)).values()
    assert parameter_count(architecture) == sum(t.numel() for t in tensors)


glibc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and glibc")


@glibc
@pytest.mark.parametrize(
    ("base", "edge", "batch", "finest"), [(8, 64, 2, 0), (16, 64, 1, 2), (16, 96, 1, 2)]
)
def test_forward_bytes_are_those_alive_and_an_allowance(
    base: int, edge: int, batch: int, finest: int
) -> None:
    used = measured("forward", base, edge, batch, 0, finest, living=True)
    architecture = Architecture(base_channels=base, finest_attention=finest)
    bound = forward_bytes(architecture, (edge,) * 3, batch)
    assert used <= bound / FRAGMENTATION <= 1.5 * used


@glibc
@pytest.mark.parametrize("more", [(0, 0, 0, 0, 0), (2, 2, 1, 1, 0)])
@pytest.mark.parametrize(
    ("rule", "base", "windows", "classes", "beside"),
    [
        ("majority", 4, 2, 100, 0),
        ("majority continuity", 4, 2, 40, 40 * PER_CLASS),
        ("teacher", 8, 2, 0, SELF_TRAINING),
    ],
)
def test_refine_bytes_are_those_alive_and_an_allowance(
    rule: str, base: int, windows: int, classes: int, beside: float, more: tuple[int, ...]
) -> None:
    used = measured(rule, base, 48, windows, max(2, classes), 0, *more, living=True)
    architecture = Architecture(base_channels=base, decoder_convolutions=more)
    bound = refine_bytes(architecture, (48,) * 3, beside=beside, windows=windows)
    assert used <= bound / FRAGMENTATION <= 1.5 * used


@glibc
@pytest.mark.parametrize(("base", "finest"), [(8, 0), (16, 2)])
def test_the_allowance_covers_the_usual_heap(base: int, finest: int) -> None:
    used = measured("forward", base, 96, 1, 0, finest, living=False)
    architecture = Architecture(base_channels=base, finest_attention=finest)
    assert used <= forward_bytes(architecture, (96,) * 3)
