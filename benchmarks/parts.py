"""The parts that a run's time is made of, one by one, with a history: see `make bench`.

    pip install -c constraints.txt -e '.[bench]'
    pytest benchmarks/parts.py --benchmark-autosave --benchmark-compare

Each record lies in .benchmarks, by machine, with its commit; --benchmark-compare sets the last one
beside this. Rates of whole jobs are the other scripts' business.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from tomoseg.blockwise.blend import Parts, contribution
from tomoseg.errors import RequestError
from tomoseg.geometry import Box, Window, whole
from tomoseg.intensity import normalise, smooth
from tomoseg.io.layout import Layout
from tomoseg.io.omezarr import ArrayStore, create
from tomoseg.metrics import score
from tomoseg.saliency.lanes import lane_setup, require_precision
from tomoseg.saliency.predict import Predictor
from tomoseg.saliency.supervoxels import supervoxels
from tomoseg.saliency.usalnet import USalNet
from tomoseg.saliency.weights import load

SHARD, HALO, CORE = 256, 16, 128
WINDOW = CORE + 2 * HALO

Benchmark = Callable[..., Any]
Stored = tuple[ArrayStore, NDArray[Any]]


@pytest.fixture(autouse=True)
def _lane() -> None:
    lane_setup()


@pytest.fixture(scope="session")
def network() -> USalNet:
    return load("vnet3d")[0]


def noise(edge: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((edge,) * 3, np.float32)


@pytest.fixture(scope="session")
def saliency() -> NDArray[np.uint8]:
    """Blobs in a shard of what is mostly ice."""
    blobs = gaussian_filter(noise(SHARD), 4)
    scaled: NDArray[np.uint8] = np.clip(255 * (blobs / blobs.std() - 1), 0, 255).astype(np.uint8)
    return scaled


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_window_of_96(benchmark: Benchmark, network: USalNet, precision: Any) -> None:
    try:
        require_precision(precision, "cpu")
    except RequestError as error:
        pytest.skip(str(error))
    benchmark(Predictor(network, precision=precision).saliency, noise(96)[None])


def test_gradient_of_a_window_of_64(benchmark: Benchmark, network: USalNet) -> None:
    network.requires_grad_(True)
    parameters = [p for name, p in network.named_parameters() if not name.startswith("sides.")]
    window = torch.from_numpy(noise(64))[None, None]

    def lesson() -> None:
        torch.autograd.grad(network.logits(window).sum(), parameters)

    benchmark(lesson)
    network.requires_grad_(False)


def test_window_normalised(benchmark: Benchmark) -> None:
    benchmark(lambda values: normalise(smooth(values), 0.0, 0.4), noise(WINDOW))


def test_window_added(benchmark: Benchmark) -> None:
    shape, core = (2 * SHARD,) * 3, Box((CORE,) * 3, (2 * CORE,) * 3)
    window = Window(core, core.grow(HALO), (0,) * 3)
    benchmark(contribution, np.clip(noise(WINDOW), 0, 1), window, shape, HALO)


@pytest.fixture(params=["image", "mask", "part"])
def stored(request: pytest.FixtureRequest, tmp_path: Path, saliency: NDArray[np.uint8]) -> Stored:
    """An array of one shard, and what to write."""
    path = str(tmp_path / "x.zarr")
    if request.param == "part":
        layout = Parts((SHARD,) * 3, SHARD, HALO).layout(path)
        values: NDArray[Any] = np.resize(16 * saliency.astype(np.uint16), layout.shape)
    else:
        layout = Layout(path=path, shape=(SHARD,) * 3, voxel_size_angstrom=None)
        values = saliency if request.param == "image" else (saliency > 127).astype(np.uint8)
    create(layout, {})
    return ArrayStore(layout, "mask" if request.param == "mask" else "image", 0), values


def test_shard_written(benchmark: Benchmark, stored: Stored) -> None:
    store, values = stored
    benchmark(store.write_shard, whole(values.shape), values)


def test_shard_read(benchmark: Benchmark, stored: Stored) -> None:
    store, values = stored
    store.write_shard(whole(values.shape), values)
    benchmark(store.read, whole(values.shape))


def test_supervoxels_of_96(benchmark: Benchmark) -> None:
    benchmark(supervoxels, noise(96), edge=4, compactness=1.0, sigma=1.0)


def test_scores_of_128(benchmark: Benchmark, saliency: NDArray[np.uint8]) -> None:
    part = saliency[:128, :128, :128]
    benchmark(score, part.astype(np.float32) / 255, part > 100)
