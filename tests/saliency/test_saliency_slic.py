import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from saliency_toys import spheres
from scipy import ndimage

from tomoseg.errors import RequestError
from tomoseg.evaluation.partition import score_partition
from tomoseg.intensity import CLIP
from tomoseg.saliency.lanes import map_lanes
from tomoseg.saliency.slic import Cells, _first_largest, slic
from tomoseg.saliency.supervoxels import reference_supervoxels

SETTINGS = {"edge": 4, "compactness": 1.0, "sigma": 1.0}


def labels(window: NDArray[np.float32], **changed: float) -> NDArray[np.int32]:
    return slic(torch.from_numpy(window)[None], **(SETTINGS | changed))[0].numpy()


def plain(
    window: NDArray[np.float32], *, edge: int, compactness: float, sigma: float
) -> NDArray[np.int64]:
    """The same in float64, without cells, chunks and whole numbers."""
    smooth = ndimage.gaussian_filter(np.clip(window, -CLIP, CLIP).astype(float), sigma)
    value = smooth.ravel() * edge / compactness
    where = np.indices(window.shape).reshape(window.ndim, -1).T
    grid = np.array(window.shape) // edge
    cell, local = where // edge, where % edge
    steps = np.array(list(itertools.product((-1, 0, 1), repeat=window.ndim)))
    around = cell[:, None] + steps
    outside = ((around < 0) | (around >= grid)).any(-1)
    around = np.ravel_multi_index(tuple(np.moveaxis(around, -1, 0)), grid, mode="clip")
    label, points = np.ravel_multi_index(tuple(cell.T), grid), np.column_stack([where, value])
    seeds = np.array([points[label == k].mean(0) for k in range(grid.prod())])

    def choose() -> NDArray[np.int64]:
        squares = ((points[:, None] - seeds[around]) ** 2).sum(-1)
        nearest = np.where(outside, np.inf, squares).argmin(1)
        return around[np.arange(len(around)), nearest]

    for update in range(edge + 2):
        turns = max(1, edge // 2) if window.ndim == 3 else 1
        seen = local[:, :-1].sum(1) % turns == update % turns
        label = choose()
        for k in np.unique(label[seen]):
            seeds[k] = points[seen & (label == k)].mean(0)
    return choose().reshape(window.shape)


@pytest.mark.parametrize(
    ("shape", "edge", "sigma"),
    [((16, 12, 20), 4, 1.0), ((16, 8, 24), 8, 0.0), ((6, 4, 10), 2, 0.7), ((24, 40), 4, 1.0),
     ((4, 16, 4), 4, 0.0), ((3, 4, 5), 1, 0.0)],
)  # fmt: skip
def test_it_is_slic_written_plainly(shape: tuple[int, ...], edge: int, sigma: float) -> None:
    window = np.random.default_rng(0).normal(0, 2, shape).astype(np.float32)
    settings = {"edge": edge, "compactness": 2.0, "sigma": sigma}
    found = labels(window, **settings)
    assert (found.shape, found.dtype) == (shape, np.int32)
    assert (found == plain(window, **settings)).mean() > 0.999  # equally near but for rounding


def test_the_largest_cells_hold_their_sums() -> None:
    """All voxels at either end of the range: counts and sums are the largest that there are."""
    window = np.full((64, 64, 64), CLIP, np.float32)
    window[:32] = -CLIP
    cells = Cells(16, (1, 4, 4, 4), torch.device("cpu"))
    lattice = cells.join(torch.arange(64).expand(256, 16, 64).contiguous())[0]
    np.testing.assert_array_equal(labels(window, edge=16, sigma=0.0), lattice)


@pytest.mark.parametrize("dim", [2, 3])
def test_no_bit_depends_on_the_batch_lanes_or_chunks(dim: int) -> None:
    windows = torch.from_numpy(np.stack([spheres(24, seed=k, dim=dim)[0] for k in range(4)]))
    alone = torch.cat([slic(window[None], **SETTINGS) for window in windows])
    for group in (2, 4):
        assert torch.equal(torch.cat([slic(w, **SETTINGS) for w in windows.split(group)]), alone)
    in_lanes = map_lanes(lambda window: slic(window[None], **SETTINGS), windows, lanes=2)
    assert torch.equal(torch.cat(in_lanes), alone)
    assert torch.equal(slic(windows, chunk=20_000, **SETTINGS), alone)


def test_overlapping_windows_agree_away_from_their_rims() -> None:
    """What a rim decides reaches two cells further inside with every update, and no further."""
    image, _ = spheres(320, seed=0, count=60, dim=2)
    first, second = labels(image[:, :256], sigma=0.0), labels(image[:, 64:], sigma=0.0)
    left, right = first[:, 128:192], second[:, 64:128]
    rows, columns = 256 // 4, 64 // 4
    np.testing.assert_array_equal(left // rows, right // rows)
    np.testing.assert_array_equal(left % rows, right % rows + columns)


def test_of_equally_near_seeds_the_first_is_chosen() -> None:
    near = np.random.default_rng(0).integers(-3, 3, (5, 4, 27, 70)).astype(np.float32)
    near[..., 9:, :7] = -np.inf
    np.testing.assert_array_equal(_first_largest(torch.from_numpy(near)), near.argmax(2))


def test_a_constant_window_is_the_lattice_and_gold_is_held() -> None:
    window = np.zeros((16, 16, 16), np.float32)
    lattice = np.arange(64).reshape(4, 4, 4).repeat(4, 0).repeat(4, 1).repeat(4, 2)
    np.testing.assert_array_equal(labels(window), lattice)
    np.testing.assert_array_equal(labels(window + np.float32(1e6)), lattice)
    gold = window.copy()
    gold[8, 8, 8] = 1e6
    held = np.minimum(gold, np.float32(CLIP))
    np.testing.assert_array_equal(labels(gold), labels(held))


def test_it_is_as_good_as_scikit_image_s() -> None:
    volume, truth = spheres(48, seed=3)
    settings = SETTINGS | {"compactness": 2.0}
    ours, theirs = (
        score_partition(found, truth)
        for found in (labels(volume, **settings), reference_supervoxels(volume, **settings))
    )
    assert ours.achievable_accuracy > 0.99 * theirs.achievable_accuracy
    assert ours.boundary_recall > 0.99 * theirs.boundary_recall
    assert ours.undersegmentation < 1.01 * theirs.undersegmentation
    assert ours.boundary_share < 1.01 * theirs.boundary_share


@pytest.mark.parametrize(("shape", "edge"), [((16, 16), 3), ((16, 18), 4), ((64, 64), 32)])
def test_edges_that_do_not_fit_are_refused(shape: tuple[int, ...], edge: int) -> None:
    with pytest.raises(RequestError, match="divides a window"):
        slic(torch.zeros(1, *shape), edge=edge, compactness=1.0, sigma=0.0)
