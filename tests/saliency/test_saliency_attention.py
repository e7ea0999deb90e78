import itertools

import pytest
import torch
from torch import Tensor

from tomoseg.saliency.architecture import Architecture
from tomoseg.saliency.attention import (
    GlobalAttention,
    averaging_matrix,
    local_attention,
    pool_to_grid,
)
from tomoseg.saliency.initialise import random_network
from tomoseg.saliency.lanes import lane_setup


def voxel_by_voxel(
    x: Tensor, looked: Tensor, weight: Tensor, bias: Tensor, kernel: int, dilation: int
) -> Tensor:
    """The definition, as a loop over voxels and neighbours."""
    out = torch.zeros_like(x)
    spatial = x.shape[2:]
    steps = [dilation * (i - kernel // 2) for i in range(kernel)]
    for n in range(len(x)):
        for voxel in itertools.product(*map(range, spatial)):
            weights = torch.softmax(weight @ looked[(n, slice(None), *voxel)] + bias, dim=0)
            for k, offset in enumerate(itertools.product(steps, repeat=len(spatial))):
                there = tuple(v + o for v, o in zip(voxel, offset, strict=True))
                if all(0 <= t < s for t, s in zip(there, spatial, strict=True)):
                    out[(n, slice(None), *voxel)] += weights[k] * x[(n, slice(None), *there)]
    return out


def ingredients(spatial: tuple[int, ...], kernel: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(3)
    k = kernel ** len(spatial)
    shapes = [(2, 3, *spatial), (2, 2, *spatial), (k, 2), (k,)]
    x, looked, weight, bias = (torch.randn(s, generator=g, dtype=torch.float64) for s in shapes)
    return x, looked, weight, bias


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize(("spatial", "kernel"), [((5, 7), 3), ((9, 4), 5), ((4, 3, 6), 3)])
def test_local_attention_is_the_loop_over_voxels(
    spatial: tuple[int, ...], kernel: int, dilation: int
) -> None:
    given = ingredients(spatial, kernel)
    expected = voxel_by_voxel(*given, kernel, dilation)
    got = local_attention(*given, kernel=kernel, dilation=dilation)
    torch.testing.assert_close(got, expected)


def test_slabs_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ingredients((7, 5, 6), 3)
    whole = local_attention(*given, kernel=3, dilation=2)
    monkeypatch.setitem(local_attention.__globals__["SLAB_VOXELS"], "cpu", 1)
    torch.testing.assert_close(local_attention(*given, kernel=3, dilation=2), whole)


def test_weights_of_local_attention_sum_to_one() -> None:
    x, looked, weight, bias = ingredients((9, 8, 9), 3)
    got = local_attention(torch.ones_like(x), looked, weight, bias, kernel=3, dilation=2)
    inner = got[:, :, 2:-2, 2:-2, 2:-2]
    torch.testing.assert_close(inner, torch.ones_like(inner))


@pytest.mark.parametrize(("spatial", "dilation"), [((4, 5), 2), ((3, 4, 3), 1)])
def test_gradients_of_local_attention(spatial: tuple[int, ...], dilation: int) -> None:
    given = [t.requires_grad_() for t in ingredients(spatial, 3)]
    assert torch.autograd.gradcheck(
        lambda *t: local_attention(*t, kernel=3, dilation=dilation), given, fast_mode=True
    )


@pytest.mark.parametrize(("cells", "length"), [(4, 4), (4, 6), (4, 2), (8, 20)])
def test_pooling_keeps_means(cells: int, length: int) -> None:
    matrix = averaging_matrix(cells, length)
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(cells))
    x = torch.randn(1, 2, length, length, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pool_to_grid(x, cells).mean(), x.mean())


def test_pooling_to_the_map_itself_changes_nothing() -> None:
    assert torch.equal(averaging_matrix(4, 4), torch.eye(4))


def test_global_attention_sees_the_far_corner_and_averages() -> None:
    lane_setup()
    network = random_network(Architecture(base_channels=4), seed=1)
    attention = network.cells[0].attention
    assert isinstance(attention, GlobalAttention)
    channels = 4 * 16
    with torch.no_grad():
        constant = torch.ones(1, channels, 4, 4, 4)
        torch.testing.assert_close(attention(constant), constant)  # weights sum to one
        x = torch.zeros(1, channels, 4, 4, 4)
        x[:, :, -1, -1, -1] = 5.0
        assert attention(x)[0, :, 0, 0, 0].abs().max() > 1e-3
