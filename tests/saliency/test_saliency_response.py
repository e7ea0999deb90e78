import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tomoseg.saliency import response as module
from tomoseg.saliency.response import Response, continuity, moments

CLASSES = 11
SPATIAL = (6, 7, 8)


@pytest.fixture
def features() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(1, 5, *SPATIAL, generator=generator) * 3 + 1
    return values.contiguous(memory_format=torch.channels_last_3d)


@pytest.fixture
def response() -> Response:
    made = Response(5, CLASSES, 0)
    with torch.no_grad():
        made.scale.copy_(torch.linspace(0.5, 2, CLASSES))
        made.shift.copy_(torch.linspace(-1, 1, CLASSES))
    return made


def whole_map(response: Response, features: Tensor) -> Tensor:
    """The map as torch makes it: a convolution and a batch normalisation in training."""
    weight = response.weight.view(*response.weight.shape, 1, 1, 1)
    made = functional.conv3d(features, weight.to(features.dtype))
    scale, shift = response.scale.to(made.dtype), response.shift.to(made.dtype)
    return functional.batch_norm(made, None, None, scale, shift, training=True)


@pytest.mark.parametrize("smooth", [0.0, 5.0])
@pytest.mark.parametrize("part", [CLASSES * 50, CLASSES * 1000, 1])
def test_loss_and_gradients_are_those_of_the_whole_map(
    response: Response,
    features: Tensor,
    smooth: float,
    part: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PART", part)
    target = np.random.default_rng(0).integers(0, CLASSES, SPATIAL).astype(np.int32)
    exact = features.double().requires_grad_()
    made = whole_map(response, exact)
    expected = functional.cross_entropy(made, torch.from_numpy(target)[None].long())
    for axis in (2, 3, 4):
        expected = expected + smooth * made.diff(dim=axis).abs().mean()
    parameters = [response.weight, response.scale, response.shift]
    wanted = torch.autograd.grad(expected, [exact, *parameters])

    loss, gradient = response.descend(features, moments([features]), target, smooth=smooth)
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-6, atol=0)
    for got, value in zip([gradient, *(p.grad for p in parameters)], wanted, strict=True):
        assert got is not None
        assert got.shape == value.shape
        assert float((got - value).abs().max()) < 1e-5 * float(value.abs().max())


def test_labels_and_the_folded_head_are_those_of_the_whole_map(
    response: Response, features: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART", CLASSES * 50)
    seen = moments([features])
    made = whole_map(response, features.double())
    np.testing.assert_array_equal(response.labels(features, seen), made.argmax(dim=1)[0])
    weight, bias = response.folded(seen)
    folded = torch.einsum("kc,nczyx->nkzyx", weight, features) + bias.view(-1, 1, 1, 1)
    torch.testing.assert_close(folded, made.detach().float(), rtol=1e-4, atol=1e-4)


def test_moments_of_several_windows_are_those_of_all_their_voxels(features: Tensor) -> None:
    rows = torch.cat([features, 2 * features]).double().movedim(1, -1).reshape(-1, 5)
    seen = moments([features, 2 * features])
    torch.testing.assert_close(seen.mean, rows.mean(dim=0))
    torch.testing.assert_close(seen.covariance, torch.cov(rows.T, correction=0))


def test_continuity_is_the_mean_difference_and_its_gradient_true() -> None:
    response = torch.randn(1, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    wanted = response.double().requires_grad_()
    expected = torch.stack([wanted.diff(dim=axis).abs().mean() for axis in (2, 3, 4)]).sum()
    (slope,) = torch.autograd.grad(expected, wanted)
    loss, gradient = continuity(response)
    torch.testing.assert_close(loss.double(), expected.detach())
    torch.testing.assert_close(gradient.double(), slope)
