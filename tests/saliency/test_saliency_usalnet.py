import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from saliency_toys import FLAT, SMALL

from tomoseg.errors import RequestError
from tomoseg.saliency.architecture import SIDE_OUTPUTS, Architecture
from tomoseg.saliency.initialise import (
    PRIOR_PROBABILITY,
    deepened,
    random_network,
    widened,
    without_attention,
)
from tomoseg.saliency.lanes import lane_setup
from tomoseg.saliency.layers import convolve, pointwise
from tomoseg.saliency.usalnet import SIDE_LOSS_WEIGHTS, deep_supervision_loss
from tomoseg.saliency.weights import digest, state_of


@pytest.fixture(autouse=True)
def _lane() -> None:
    lane_setup()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("architecture", "window"),
    [
        (SMALL, (32, 48, 16)),
        (FLAT, (64, 16)),
        (SMALL, (16, 16, 16)),
        (dataclasses.replace(SMALL, finest_attention=1, convolutions=(1, 2, 1, 1, 1)), (16,) * 3),
        (dataclasses.replace(SMALL, attention=False), (32, 16, 16)),
        (dataclasses.replace(SMALL, finest_attention=3), (32, 16, 16)),
        (dataclasses.replace(FLAT, attention=False), (32, 16)),
    ],
)
def test_six_outputs_coarse_to_fine(architecture: Architecture, window: tuple[int, ...]) -> None:
    network = random_network(architecture, seed=0)
    with torch.no_grad():
        x = noise(2, 1, *window)
        outputs = network(x)
        shapes = [tuple(n // stride for n in window) for stride in (16, 8, 4, 2, 1, 1)]
        assert [tuple(o.shape) for o in outputs] == [(2, 1, *s) for s in shapes]
        assert torch.equal(outputs[-1], network.logits(x))
        assert network.features(x).shape == (2, architecture.base_channels, *window)
    whole = network.logits(x).detach()  # where it may learn, nothing goes slab by slab
    torch.testing.assert_close(outputs[-1], whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window", [(32, 32), (32, 32, 40), (0, 16, 16)])
def test_other_windows_are_refused(window: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match="multiple of 16"):
        random_network(SMALL, seed=0).logits(torch.zeros(1, 1, *window))


def test_seed_decides_every_bit_and_nothing_else_does() -> None:
    before = torch.get_rng_state()
    first = random_network(SMALL, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert digest(state_of(random_network(SMALL, seed=5))) == digest(state_of(first))
    assert digest(state_of(random_network(SMALL, seed=6))) != digest(state_of(first))


@pytest.mark.parametrize("seed", range(3))
def test_fresh_weights_say_little_of_nothing_and_something_of_noise(seed: int) -> None:
    network = random_network(Architecture(), seed)
    with torch.no_grad():
        empty = torch.sigmoid(network.logits(torch.zeros(1, 1, 32, 32, 32)))
        torch.testing.assert_close(empty, torch.full_like(empty, PRIOR_PROBABILITY))
        stored = (torch.sigmoid(network.logits(noise(1, 1, 48, 48, 48))) * 255).round()
    assert len(stored.unique()) > 30
    assert (stored >= 128).float().mean() < 0.001


def test_default_volume_weights_are_small_enough_to_ship() -> None:
    values = sum(t.numel() for t in state_of(random_network(Architecture(), 0)).values())
    assert values * 2 < 16 * 2**20


def test_normalisation_is_folded_without_changing_what_it_computes() -> None:
    """In eval mode the folded layers equal the plain ones with the same statistics."""
    network = random_network(SMALL, seed=0)
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
    x = noise(1, 1, 32, 32, 32)
    with torch.no_grad():
        folded = network.logits(x)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm3d):
                module.training = True  # takes the plain path ...
                module.forward = (  # ... but keeps its statistics
                    lambda y, m=module: torch.nn.functional.batch_norm(
                        y, m.running_mean, m.running_var, m.weight, m.bias, False, 0.0, m.eps
                    )
                )
        plain = network.logits(x)
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-4)


def test_training_reaches_every_weight_and_leaves_eval_alone() -> None:
    network = random_network(SMALL, seed=0)
    x = noise(2, 1, 16, 32, 16)
    truth = (x > 1).float()
    before = digest(state_of(network))
    loss = deep_supervision_loss(network(x), truth)
    assert digest(state_of(network)) == before  # eval: statistics stay
    network.train()
    losses = []
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(15):
        optimizer.zero_grad()
        loss = deep_supervision_loss(network(x), truth)
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    assert all(p.grad is not None for p in network.parameters())
    assert losses[-1] < 0.9 * losses[0]


def test_loss_weighs_six_outputs() -> None:
    assert len(SIDE_LOSS_WEIGHTS) == SIDE_OUTPUTS
    logits = [torch.zeros(1, 1, *[32 // s] * 3) for s in (16, 8, 4, 2, 1, 1)]
    loss = deep_supervision_loss(logits, torch.zeros(1, 1, 32, 32, 32))
    assert float(loss) == pytest.approx(sum(SIDE_LOSS_WEIGHTS) * np.log(2))


def test_architecture_survives_json_and_refuses_what_it_does_not_know() -> None:
    values = {**SMALL.to_dict(), "convolutions": list(SMALL.convolutions)}
    assert Architecture.from_dict(values) == SMALL
    with pytest.raises(RequestError, match="layers"):
        Architecture.from_dict({**values, "layers": 3})
    with pytest.raises(RequestError, match="dim"):
        Architecture(dim=4)
    with pytest.raises(RequestError, match="finest_attention"):
        Architecture(finest_attention=5)


def test_deepened_network_computes_the_same_and_can_learn_more() -> None:
    network = random_network(SMALL, seed=1)
    deeper = deepened(network, (2, 1, 0, 1, 1))
    assert deeper.architecture.decoder_convolutions == (2, 1, 0, 1, 1)
    x = noise(1, 1, 32, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(deeper.logits(x), network.logits(x), atol=1e-3, rtol=1e-3)
    new = deeper.requires_grad_(True).cells[-1].convolutions[0].weight
    (gradient,) = torch.autograd.grad(deeper.logits(x).sum(), [new])
    assert gradient.abs().max() > 0


def test_a_network_is_not_made_shallower() -> None:
    network = random_network(dataclasses.replace(SMALL, decoder_convolutions=(1, 0, 0, 0, 0)), 0)
    with pytest.raises(RequestError, match="at least"):
        deepened(network, (0, 2, 2, 2, 2))


@pytest.mark.parametrize(
    ("finest", "changes", "cells"),
    [(5, {"attention": False}, range(5)), (2, {"finest_attention": 2}, (3, 4))],
)
def test_attention_can_be_taken_out_and_nothing_else_goes(
    finest: int, changes: dict[str, object], cells: Sequence[int]
) -> None:
    network = random_network(SMALL, 0)
    plain = without_attention(network, finest)
    assert plain.architecture == dataclasses.replace(SMALL, **changes)  # type: ignore[arg-type]
    before, after = network.state_dict(), plain.state_dict()
    gone = {name.rpartition(".attention.")[0] for name in before.keys() - after.keys()}
    assert gone == {f"cells.{n}" for n in cells}
    assert all(torch.equal(before[name], value) for name, value in after.items())
    with torch.no_grad():
        x = noise(1, 1, 32, 32, 32)
        assert not torch.equal(network.logits(x), plain.logits(x))


def test_widened_network_computes_the_same_and_can_learn_more() -> None:
    network = random_network(SMALL, seed=1)
    channels = 2 * SMALL.base_channels
    wider = widened(network, channels, seed=2)
    assert wider.architecture == dataclasses.replace(SMALL, base_channels=channels)
    x = noise(1, 1, 32, 32, 32)
    with torch.no_grad():
        for now, before in zip(wider(x), network(x), strict=True):
            torch.testing.assert_close(now, before, atol=1e-4, rtol=1e-4)
    head = wider.requires_grad_(True).head.weight
    (gradient,) = torch.autograd.grad(wider.logits(x).sum(), [head])
    assert gradient[:, SMALL.base_channels :].abs().min() > 0


def test_a_network_is_not_made_narrower() -> None:
    with pytest.raises(RequestError, match="at least"):
        widened(random_network(SMALL, 0), SMALL.base_channels - 1, seed=0)


def test_gradient_of_a_thin_map_in_bfloat16_holds_nothing_that_nobody_wrote() -> None:
    weight = torch.zeros(8, 8, 3, 3, 3, requires_grad=True)
    for _ in range(8):
        spoilt = [torch.full((2**n,), torch.nan) for n in range(5, 21)]
        del spoilt  # what is allocated next may lie there
        with torch.autocast("cpu", torch.bfloat16):
            y = convolve(noise(2, 8, 2, 8, 8).bfloat16(), weight)
        (gradient,) = torch.autograd.grad(y.sum(), [weight])
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("edges", [(4, 6, 10), (6, 10)])
@pytest.mark.parametrize("outputs", [1, 5])
def test_a_kernel_of_one_learns_what_it_says(edges: tuple[int, ...], outputs: int) -> None:
    x, weight, bias = noise(2, 3, *edges), noise(outputs, 3), noise(outputs)
    learning = [tensor.clone().requires_grad_(True) for tensor in (x, weight, bias)]
    y = pointwise(*learning)
    gradients = torch.autograd.grad(y, learning, noise(*y.shape))
    with torch.no_grad():
        torch.testing.assert_close(pointwise(x, weight, bias), y)
    exact = [tensor.double().requires_grad_(True) for tensor in (x, weight, bias)]
    product = torch.einsum("ni...,oi->no...", exact[0], exact[1])
    product = product + exact[2].view(-1, *[1] * len(edges))
    wanted = torch.autograd.grad(product, exact, noise(*y.shape).double())
    for found, expected in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(found, expected.float())
