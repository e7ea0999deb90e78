"""SalGAN, trained here on simulated tomograms: a supervised rival, and labelled as one.

The published weights are of photographs and out of reach.
"""

from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tomoseg.evaluation.baselines.scale import Map
from tomoseg.pretrain.samples import Source
from tomoseg.saliency.lanes import lane_setup
from tomoseg.saliency.layers import CHANNELS_LAST, NORM
from tomoseg.saliency.weights import read_tensors, write_tensors

VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and convolutions of each block of the generator's encoder."""

CRITIC = ((32, 2), (64, 2), (64, 2))
"""Of the discriminator."""

WIDTH = 1 / 8
"""Share of the published channels: a CPU trains these in minutes; 1 is the published form."""

ALPHA = 0.05
"""Weight of the content loss against the adversarial one (Pan et al. 2017)."""

RATE, ADVERSARIAL_RATE = 1e-3, 1e-4
"""Of Adam, before and after the adversary joins: at the first it would undo what is learnt."""

WARM_UP = 0.75
"""Share of the steps with the content loss alone, as in the paper before the adversary."""

Network = TypeVar("Network", bound=nn.Module)

MULTIPLE = 2 ** (len(VGG16) - 1)
_KEY = "tomoseg_salgan"


class _Blocks(nn.Sequential):
    """Convolutions of kernel 3, each normalised, with ReLU.

    The published network starts from ImageNet's weights and needs no normalisation; from
    fresh ones and as narrow as this it learns nothing without. In use its statistics are
    fixed, so that a map does not hang on how large an image it is part of.
    """

    def __init__(self, dim: int, inputs: int, outputs: int, count: int) -> None:
        layer = nn.Conv3d if dim == 3 else nn.Conv2d
        parts: list[nn.Module] = []
        for _ in range(count):
            parts += [layer(inputs, outputs, 3, padding=1), NORM[dim](outputs), nn.ReLU()]
            inputs = outputs
        super().__init__(*parts)


class Generator(nn.Module):
    """VGG16's convolutions, a decoder that mirrors them, and a sigmoid.

    Averages stand for maxima in pooling, whose backward pass has no fixed order in 3-D.

    Parameters
    ----------
    dim
        2 or 3.
    width
        Share of the published channels.
    """

    def __init__(self, dim: int, width: float = WIDTH) -> None:
        super().__init__()
        self.dim, self.width = dim, width
        channels = [max(2, round(width * c)) for c, _ in VGG16]
        counts = [count for _, count in VGG16]
        inputs = [1, *channels]
        self.encoder = nn.ModuleList(
            _Blocks(dim, a, b, n) for a, b, n in zip(inputs, channels, counts, strict=False)
        )
        outputs = [*channels[-2::-1], channels[0]]
        self.decoder = nn.ModuleList(
            _Blocks(dim, a, b, n)
            for a, b, n in zip(channels[::-1], outputs, counts[::-1], strict=True)
        )
        layer = nn.Conv3d if dim == 3 else nn.Conv2d
        self.head = layer(channels[0], 1, 1)
        # a third faster on a CPU; torch's own types don't know the argument
        self.to(memory_format=CHANNELS_LAST[dim])  # type: ignore[call-overload]

    def logits(self, x: Tensor) -> Tensor:
        """Map ``(N, 1, *spatial)``, edges multiples of 16, to logits of the same shape."""
        for number, block in enumerate(self.encoder):
            x = block(_pooled(x) if number else x)
        for number, block in enumerate(self.decoder):
            x = block(functional.interpolate(x, scale_factor=2) if number else x)
        found: Tensor = self.head(x)
        return found

    @torch.no_grad()
    def saliency(self, image: Map) -> Map:
        """Return the saliency of an image or a volume of any shape."""
        lane_setup()
        pads = [(0, -n % MULTIPLE) for n in image.shape]
        padded = torch.from_numpy(np.pad(image, pads, mode="symmetric"))[None, None]
        found = torch.sigmoid(self.logits(padded))[0, 0].numpy()
        return np.ascontiguousarray(found[tuple(slice(n) for n in image.shape)])

    def save(self, path: Path, card: dict[str, float]) -> None:
        """Write as safetensors with what is known of it."""
        values = {"dim": self.dim, "width": self.width, "card": card}
        write_tensors(
            path, {k: v.contiguous() for k, v in self.state_dict().items()}, {_KEY: values}
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            Where the file is something else.
        """
        tensors, values = read_tensors(path, _KEY)
        made = cls(values["dim"], values["width"])
        made.load_state_dict(tensors)
        return made.eval().requires_grad_(False)


class Discriminator(nn.Module):
    """Tells an image with its truth from one with a map that was generated."""

    def __init__(self, dim: int, width: float = WIDTH) -> None:
        super().__init__()
        channels = [max(2, round(width * c)) for c, _ in CRITIC]
        inputs = [2, *channels]
        self.blocks = nn.ModuleList(
            _Blocks(dim, a, b, n) for a, b, (_, n) in zip(inputs, channels, CRITIC, strict=False)
        )
        self.last = nn.Linear(channels[-1], 1)

    def forward(self, image: Tensor, saliency: Tensor) -> Tensor:
        """Map image and map, ``(N, 1, *spatial)`` each, to ``(N, 1)`` logits of being true."""
        x = torch.cat([image, saliency], 1)
        for number, block in enumerate(self.blocks):
            x = block(_pooled(x) if number else x)
        scores: Tensor = self.last(x.flatten(2).mean(2))
        return scores


def generator_loss(
    critic: Discriminator | None, image: Tensor, logits: Tensor, truth: Tensor
) -> Tensor:
    """Return the generator's loss: content, and where there is a critic, what it says.

    Notes
    -----
    J. Pan et al., SalGAN, 2017: alpha times the binary cross-entropy plus the
    cross-entropy of the critic's answer with "true".
    """
    content = functional.binary_cross_entropy_with_logits(logits, truth)
    if critic is None:
        return content
    answer = critic(image, torch.sigmoid(logits))
    fooled = functional.binary_cross_entropy_with_logits(answer, torch.ones_like(answer))
    return ALPHA * content + fooled


def critic_loss(critic: Discriminator, image: Tensor, saliency: Tensor, truth: Tensor) -> Tensor:
    """Return the discriminator's loss: the cross-entropy of its answers to both maps."""
    real, made = critic(image, truth), critic(image, saliency)
    return functional.binary_cross_entropy_with_logits(
        real, torch.ones_like(real)
    ) + functional.binary_cross_entropy_with_logits(made, torch.zeros_like(made))


def train_salgan(
    source: Source, dim: int, *, steps: int, seed: int, width: float = WIDTH
) -> Generator:
    """Train generator and discriminator in turn, after the content loss alone.

    Parameters
    ----------
    source
        Of windows with truth.
    dim
        Of the windows.
    steps
        In all.
    seed
        Of the fresh weights; decides every bit with the source.
    width
        Share of the published channels.
    """
    lane_setup()
    generator = torch.Generator().manual_seed(seed)
    model = _fresh(Generator(dim, width), generator)
    critic = _fresh(Discriminator(dim, width), generator)
    descent = torch.optim.Adam(model.parameters(), RATE)
    judging = torch.optim.Adam(critic.parameters(), ADVERSARIAL_RATE)
    for step in range(steps):
        image, truth = (torch.from_numpy(part) for part in source.batch(step))
        adversary = critic if step >= WARM_UP * steps else None
        descent.param_groups[0]["lr"] = ADVERSARIAL_RATE if adversary else RATE
        logits = model.logits(image)
        descent.zero_grad()
        torch.autograd.backward(generator_loss(adversary, image, logits, truth))
        descent.step()
        if adversary is not None:
            judging.zero_grad()
            saliency = torch.sigmoid(logits.detach())
            torch.autograd.backward(critic_loss(critic, image, saliency, truth))
            judging.step()
    return model.eval().requires_grad_(False)


def _fresh(network: Network, generator: torch.Generator) -> Network:
    """Draw a network's weights as torch does by default, but from a generator of their own."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
            bound = module.weight[0].numel() ** -0.5
            for parameter in module.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return network


def _pooled(x: Tensor) -> Tensor:
    return functional.avg_pool3d(x, 2) if x.dim() == 5 else functional.avg_pool2d(x, 2)
