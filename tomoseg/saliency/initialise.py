"""Fresh networks whose every bit follows from a seed; touches no global generator."""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tomoseg.errors import RequestError
from tomoseg.saliency.architecture import LEVELS, Architecture
from tomoseg.saliency.attention import GlobalAttention, LocalAttention
from tomoseg.saliency.backbone import Level
from tomoseg.saliency.layers import ConvNorm, Join, Pointwise, Up
from tomoseg.saliency.usalnet import Cell, USalNet

PRIOR_PROBABILITY = 0.1
"""Saliency that fresh weights give to a voxel (RetinaNet's initialisation of the bias)."""

HEAD_GAIN = 1.0
"""Spreads the saliency of unit noise over some 5 to 150 of 255."""

RESIDUAL_GAIN = 0.5
"""Fresh residual branches are damped, lest the sums grow level by level."""

ATTENTION_GAIN = 0.1
"""Fresh attention is close to plain averaging."""


def blank_network(architecture: Architecture) -> USalNet:
    """Return a network in eval mode whose values are still to be filled in."""
    with torch.random.fork_rng(devices=()):  # on torch's device "meta" it would import SymPy
        network = USalNet(architecture)
    network.eval()
    return network


@torch.no_grad()
def random_network(architecture: Architecture, seed: int) -> USalNet:
    """Return a network in eval mode with He-initialised weights.

    Parameters
    ----------
    architecture
        See `Architecture`.
    seed
        Decides every bit, whatever ran before in the process.

    Notes
    -----
    Biases are zero but for those of the heads, which give a voxel the saliency
    `PRIOR_PROBABILITY`: exactly that in a window of zeros. Weights sum to zero per output,
    but for the first layer's, and residual branches are damped. On toy spheres, refined for
    24 steps, eight of nine seeds then reached a Dice above .7; without the damping six of
    the same nine, without the zero sums four of the first six.
    """
    network = blank_network(architecture)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        _fill(module, generator)
    for module in network.modules():
        if isinstance(module, Level) and module.residual and len(module.convolutions):
            damped = module.convolutions[-1]
            assert isinstance(damped, ConvNorm)  # as Level builds it
            damped.weight.mul_(RESIDUAL_GAIN)
        if isinstance(module, Cell):
            for convolution in module.convolutions:
                assert isinstance(convolution, ConvNorm)  # as Cell builds it
                convolution.weight.mul_(RESIDUAL_GAIN)
        if isinstance(module, GlobalAttention | LocalAttention):
            module.attend.weight.mul_(ATTENTION_GAIN)
    for head in (network.head, *network.sides):
        _quieten(head)
    return network


@torch.no_grad()
def deepened(network: USalNet, convolutions: tuple[int, ...]) -> USalNet:
    """Return a copy whose decoder has more convolutions and which computes the same.

    What is new has weights of zero: a residual convolution without weights is the
    identity (Chen, Goodfellow and Shlens 2016), but for its normalisation's epsilon.

    Parameters
    ----------
    network
        In eval mode.
    convolutions
        `decoder_convolutions` of the new architecture, none fewer than the old.

    Raises
    ------
    RequestError
        Where a level would lose convolutions.
    """
    old = network.architecture
    if any(n < m for n, m in zip(convolutions, old.decoder_convolutions, strict=True)):
        raise RequestError(
            f"decoder: expected at least {old.decoder_convolutions} convolutions a level, "
            f"got {convolutions}."
        )
    deeper = blank_network(dataclasses.replace(old, decoder_convolutions=convolutions))
    for name, tensor in deeper.state_dict().items():
        tensor.fill_(1 if name.endswith(("norm.weight", "running_var")) else 0)
    deeper.load_state_dict(network.state_dict(), strict=False)
    return deeper


@torch.no_grad()
def widened(network: USalNet, base_channels: int, seed: int) -> USalNet:
    """Return a copy with more channels at every level, which computes the same.

    What was there reads nothing new, and the outputs neither: the new channels, random in
    what they read, start without effect (as Net2Net, Chen, Goodfellow and Shlens 2016,
    asks of a wider network, but with no two channels alike).

    Parameters
    ----------
    network
        In eval mode.
    base_channels
        Of the new architecture, no fewer than the old.
    seed
        Of the new channels.

    Raises
    ------
    RequestError
        Where the network would lose channels.
    """
    old = network.architecture
    if base_channels < old.base_channels:
        raise RequestError(
            f"channels: expected at least the {old.base_channels} of the weights, "
            f"got {base_channels}.",
            "Weights can be made wider (--base-channels), not narrower.",
        )
    wider = random_network(dataclasses.replace(old, base_channels=base_channels), seed)
    values = network.state_dict()
    for name, tensor in wider.state_dict().items():
        value, (rows, columns) = values[name], _blocks(name)
        if not tensor.dim():  # a count of batches
            continue
        blocks = [rows] + [columns] * (tensor.dim() - 1)
        places = list(map(_kept, value.shape, tensor.shape, blocks))
        tensor[places[0]] = 0
        tensor[torch.meshgrid(*places, indexing="ij")] = value
    return wider


def _blocks(name: str) -> tuple[int, int]:
    """Return in how many equal parts the rows and the columns of a tensor are laid out."""
    if ".sweeps." in name:  # four gates; both directions of the axis before
        return 4, 1 if ".axes.0." in name or "weight_hh" in name else 2
    return 1, 2 if ".attention.attend.weight" in name else 1


def _kept(old: int, new: int, blocks: int) -> Tensor:
    """Return the places that `old` channels have among `new`: the first ones of each block."""
    if old == new:
        return torch.arange(new)
    return torch.arange(new).view(blocks, -1)[:, : old // blocks].flatten()


def without_attention(network: USalNet, finest: int = LEVELS) -> USalNet:
    """Return a copy without attention, all other weights as they are; it wants training.

    Parameters
    ----------
    network
        In eval mode.
    finest
        The finest level that still attends, no finer than before; none by default.
    """
    if finest < LEVELS:
        changes: dict[str, Any] = {"finest_attention": finest}
    else:
        changes = {"attention": False}
    plain = blank_network(dataclasses.replace(network.architecture, **changes))
    kept = plain.state_dict().keys()
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if k in kept})
    return plain


def _quieten(head: nn.Module) -> None:
    assert isinstance(head, Pointwise)  # as USalNet builds it
    _centre(head.weight)
    head.weight.mul_(HEAD_GAIN)
    head.bias.fill_(-math.log(1 / PRIOR_PROBABILITY - 1))


def _fill(module: nn.Module, generator: torch.Generator) -> None:
    """Fill the tensors that `module` itself holds, in the order of their definition."""
    for name, buffer in module.named_buffers(recurse=False):
        buffer.fill_(1 if name == "running_var" else 0)
    for name, parameter in module.named_parameters(recurse=False):
        if "bias" in name:
            parameter.zero_()
        elif isinstance(module, _BatchNorm):
            parameter.fill_(1)
        elif isinstance(module, nn.LSTM):
            bound = 1 / math.sqrt(module.hidden_size)
            parameter.uniform_(-bound, bound, generator=generator)
        else:
            inputs = _inputs(module, parameter)
            parameter.normal_(0, math.sqrt(2 / inputs), generator=generator)
            if parameter.shape[1] > 1:  # not where the window itself is read
                _centre(parameter)


def _centre(weight: nn.Parameter) -> None:
    """Make the weights of each output sum to zero.

    Rectified maps share a large positive part, which otherwise grows level by level and
    drowns what differs between voxels (weight standardisation, Brock 2021).
    """
    rows = weight.flatten(1)
    rows.sub_(rows.mean(dim=1, keepdim=True))


def _inputs(module: nn.Module, weight: nn.Parameter) -> int:
    """Return how many values one output value is the weighted sum of."""
    if isinstance(module, Join):
        return module.first.shape[1] + module.second.shape[1]
    if isinstance(module, Up):
        return weight.shape[-1]  # kernel and stride are equal: one tap per input channel
    return weight[0].numel()
