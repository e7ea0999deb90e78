"""One training step, and everything that carries over to the next.

Arrays of windows in, a loss out; knows torch, no files and no clock. Groups of a batch
are computed by lanes and summed in their order: bits do not depend on how many lanes.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tomoseg.errors import TomosegError
from tomoseg.pretrain.recipe import Recipe
from tomoseg.pretrain.samples import Batch
from tomoseg.saliency.lanes import lane_setup, map_lanes
from tomoseg.saliency.usalnet import USalNet, deep_supervision_loss


class Learner:
    """A network in training: weights, their moving average, the optimiser's moments.

    Parameters
    ----------
    network
        Where training starts; not changed.
    recipe
        See `Recipe`.
    device
        ``cpu`` or ``cuda:N``. On CUDA a batch is one group. Training on a GPU has not been
        tried yet.
    lanes
        Groups that are computed at once on a CPU.
    """

    def __init__(self, network: USalNet, recipe: Recipe, *, device: str, lanes: int) -> None:
        lane_setup()
        self.recipe, self.device, self.lanes = recipe, torch.device(device), lanes
        self.network = copy.deepcopy(network).to(self.device).requires_grad_(True)
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        self._parameters = dict(self.network.named_parameters())
        self._optimiser = _optimiser(self._parameters, recipe)
        groups = 1 if self.device.type == "cuda" else recipe.batch // recipe.group
        self._replicas = [_replica(self.network) for _ in range(groups)]

    def step(self, step: int, batch: Batch) -> float:
        """Take optimiser step `step`, counted from 0, and return the loss before it.

        Raises
        ------
        TomosegError
            Where the loss is not finite.
        """
        self._prepare(step)
        images, truths = (torch.from_numpy(array).to(self.device) for array in batch)
        parts = zip(
            self._replicas,
            images.chunk(len(self._replicas)),
            truths.chunk(len(self._replicas)),
            strict=True,
        )
        results = map_lanes(lambda part: self._gradients(*part), parts, self.lanes)
        loss = sum(float(value) for value, _ in results) / len(results)
        if not -float("inf") < loss < float("inf"):
            raise TomosegError(
                f"training: expected a finite loss, got {loss} at step {step}.",
                "Try a lower learning rate.",
            )
        self._descend([gradients for _, gradients in results])
        self._share_statistics()
        self._follow(step)
        return loss

    def _prepare(self, step: int) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = self.recipe.rate_at(step)
        frozen = self.recipe.frozen_at(step)
        for replica in self._replicas:
            replica.train()
            for norm in _norms(replica):
                norm.train(not frozen)
                norm.momentum = self.recipe.norm_momentum_at(step)

    def _gradients(
        self, replica: USalNet, images: Tensor, truths: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        mixed = self.recipe.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=mixed):
            outputs = [logits.float() for logits in replica(images)]
        loss = deep_supervision_loss(outputs, truths, dice=self.recipe.dice)
        return loss.detach(), torch.autograd.grad(loss, list(self._parameters.values()))

    @torch.no_grad()
    def _descend(self, gradients: list[tuple[Tensor, ...]]) -> None:
        for parameter, parts in zip(
            self._parameters.values(), zip(*gradients, strict=True), strict=True
        ):
            parameter.grad = torch.stack(parts).mean(dim=0)
        if self.recipe.clip_norm:
            nn.utils.clip_grad_norm_(self._parameters.values(), self.recipe.clip_norm)
        self._optimiser.step()

    @torch.no_grad()
    def _share_statistics(self) -> None:
        """Give the network and all replicas the mean of the replicas' running statistics."""
        for norm, *others in zip(
            _norms(self.network), *(_norms(r) for r in self._replicas), strict=True
        ):
            for name in ("running_mean", "running_var"):
                mean = torch.stack([getattr(other, name) for other in others]).mean(dim=0)
                for module in (norm, *others):
                    getattr(module, name).copy_(mean)

    @torch.no_grad()
    def _follow(self, step: int) -> None:
        """Move the average on; its running statistics are those of the network."""
        share = 1 - self.recipe.average_at(step)
        for name, value in self.average.named_parameters():
            value.lerp_(self._parameters[name], share)
        for average, norm in zip(_norms(self.average), _norms(self.network), strict=True):
            for name in ("running_mean", "running_var"):
                getattr(average, name).copy_(getattr(norm, name))

    def state(self) -> dict[str, Tensor]:
        """Return every tensor that the next step depends on, on the CPU."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.named_parameters()}
        for name, parameter in self._parameters.items():
            moments = self._optimiser.state.get(parameter, {})
            tensors |= {f"optimiser.{name}.{k}": v for k, v in moments.items()}
        return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `state` returned, from a learner of the same recipe."""
        network = _below("network.", tensors)
        for module in (self.network, self.average, *self._replicas):
            module.load_state_dict(network)
        self.average.load_state_dict(network | _below("average.", tensors))
        moments = _below("optimiser.", tensors)
        state = {
            number: _below(f"{name}.", moments) for number, name in enumerate(self._parameters)
        }
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": state, "param_groups": groups})


def _replica(network: USalNet) -> USalNet:
    """Return a network with the same parameters and running statistics of its own."""
    shared = {id(parameter): parameter for parameter in network.parameters()}
    return copy.deepcopy(network, shared)


def _norms(network: nn.Module) -> list[_BatchNorm]:
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def _optimiser(parameters: Mapping[str, nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(
            parameters.values(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
    groups = [
        {"params": [p], "weight_decay": recipe.weight_decay if p.dim() > 1 else 0.0}
        for p in parameters.values()
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(recipe.momentum, 0.999))


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
