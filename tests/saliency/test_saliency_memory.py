import subprocess
import sys

import pytest
from saliency_toys import FLAT

from tomoseg.saliency.architecture import Architecture
from tomoseg.saliency.initialise import random_network
from tomoseg.saliency.memory import forward_bytes, parameter_count, refine_bytes
from tomoseg.saliency.weights import state_of

MEASURE = """
import resource, sys
import numpy as np
from tomoseg.config import RefineConfig
from tomoseg.saliency.architecture import Architecture
from tomoseg.saliency.initialise import random_network
from tomoseg.saliency.predict import Predictor
from tomoseg.saliency.refine import refine

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

what, base, edge, count, classes = sys.argv[1], *map(int, sys.argv[2:])
tiny = random_network(Architecture(base_channels=1), 0)
Predictor(tiny).saliency(np.zeros((1, 16, 16, 16), np.float32))
windows = np.random.default_rng(0).standard_normal((count, edge, edge, edge)).astype(np.float32)
before = peak()
network = random_network(Architecture(base_channels=base), 0)
if what == "forward":
    for _ in range(2):  # freed memory is in pieces the second time
        Predictor(network, batch=count).saliency(windows)
else:
    config = RefineConfig(iterations=count + 1, classes=classes, compactness=2.0, tolerance=0.0)
    refine(network, list(windows), config, seed=0)
print(peak() - before)
"""


def measured(*arguments: object) -> int:
    command = [sys.executable, "-c", MEASURE, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.parametrize(
    "architecture",
    [Architecture(), FLAT, Architecture(base_channels=3, convolutions=(1, 2, 3, 1, 1))],
)
def test_parameters_are_counted_without_torch(architecture: Architecture) -> None:
    tensors = state_of(random_network(architecture, 0)).values()
    assert parameter_count(architecture) == sum(t.numel() for t in tensors)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in KiB on Linux")
@pytest.mark.parametrize(("base", "edge", "batch"), [(8, 64, 1), (8, 64, 2)])
def test_forward_bytes_bound_what_is_used(base: int, edge: int, batch: int) -> None:
    used = measured("forward", base, edge, batch, 0)
    bound = forward_bytes(Architecture(base_channels=base), (edge,) * 3, batch)
    assert used <= bound <= 1.5 * used


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in KiB on Linux")
@pytest.mark.parametrize(("base", "edge", "windows", "classes"), [(8, 48, 1, 16), (4, 48, 2, 40)])
def test_refine_bytes_bound_what_is_used(base: int, edge: int, windows: int, classes: int) -> None:
    used = measured("refine", base, edge, windows, classes)
    architecture = Architecture(base_channels=base)
    bound = refine_bytes(architecture, (edge,) * 3, classes=classes, windows=windows)
    assert used <= bound <= 1.5 * used
