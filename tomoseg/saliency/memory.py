"""How many bytes a forward pass and a refinement hold at their peak; no torch.

A model of the code in this package, fitted to measured peaks of volumes on a CPU: an upper
bound, at most one and a half times what is really used (tested). Change it with the code.
"""

import math

from tomoseg.saliency.architecture import LEVELS, Architecture

FLOAT = 4
SLACK = 1.05

# Values held per voxel of a window, by what they are for: (per base channel, alone).
FORWARD = (8.0, 32.0)
REFINE = (44.0, 22.0)
PER_CLASS = 4.0
PER_SAMPLED_WINDOW = 20.0

FIRST_OF_BATCH = 0.5
"""Share of a single window's memory that further windows of a batch do not add."""

# Copies of the parameters in a refinement: the starting network, its refined copy,
# gradients, momentum, the last sound state and one being made.
REFINE_COPIES = 6
REFINE_FIXED_BYTES = 32 * 2**20
"""Held whatever the window: what SLIC's first call loads, small buffers."""


def parameter_count(architecture: Architecture) -> int:
    """Return the number of values in the network's tensors, statistics included."""
    total: int = 0
    for level in range(LEVELS):
        total += _encoder(architecture, level) + _cell(architecture, level)
        total += _side(architecture.channels(level))
    base = architecture.base_channels
    return total + _conv_norm(base, base, 3**architecture.dim) + _side(base)


def forward_bytes(architecture: Architecture, window: tuple[int, ...], batch: int = 1) -> int:
    """Return the peak bytes of one lane's forward pass, parameters included.

    Parameters
    ----------
    architecture
        Of the network.
    window
        Edges of the window in voxels.
    batch
        Windows per forward pass.

    Notes
    -----
    Lanes of one process share the parameters; counting them once per lane errs on the
    safe side.
    """
    per_base, alone = FORWARD
    per_voxel = per_base * architecture.base_channels + alone + architecture.generator_channels
    windows = FIRST_OF_BATCH + (1 - FIRST_OF_BATCH) * batch
    activations = SLACK * per_voxel * math.prod(window) * windows
    return math.ceil(FLOAT * (activations + parameter_count(architecture)))


def refine_bytes(
    architecture: Architecture, window: tuple[int, ...], *, classes: int, windows: int = 1
) -> int:
    """Return the peak bytes of one refinement, parameters and optimiser included.

    Parameters
    ----------
    architecture
        Of the network.
    window
        Edges of a window in voxels.
    classes
        Classes of the response map.
    windows
        Windows in the sample.
    """
    per_base, alone = REFINE
    per_voxel = per_base * architecture.base_channels + alone + architecture.generator_channels
    per_voxel += PER_CLASS * classes + PER_SAMPLED_WINDOW * (windows - 1)
    activations = SLACK * per_voxel * math.prod(window)
    parameters = REFINE_COPIES * parameter_count(architecture)
    return math.ceil(FLOAT * (activations + parameters)) + REFINE_FIXED_BYTES


def _conv_norm(inputs: int, outputs: int, taps: int) -> int:
    return inputs * outputs * taps + 4 * outputs


def _encoder(architecture: Architecture, level: int) -> int:
    taps, channels = 3**architecture.dim, architecture.channels(level)
    more = architecture.convolutions[level]
    if level == 0:
        enter, more = _conv_norm(1, channels, taps), more - 1
    else:
        enter = _conv_norm(channels // 2, channels, 2**architecture.dim)
    return enter + more * _conv_norm(channels, channels, taps)


def _cell(architecture: Architecture, level: int) -> int:
    channels = architecture.channels(level)
    square: int = channels * channels
    leave = 2 * square + 5 * channels
    if level == LEVELS - 1:
        enter = square + channels
    else:
        up = 2**architecture.dim * 2 * square + channels
        enter = up + 2 * square + channels
    return enter + _attention(architecture, level) + leave


def _attention(architecture: Architecture, level: int) -> int:
    dim, channels = architecture.dim, architecture.channels(level)
    from_below = LEVELS - 1 - level
    if from_below < len(architecture.global_grids):
        hidden = max(1, channels // 4)
        positions: int = architecture.global_grids[from_below] ** dim
        sizes = [channels] + [2 * hidden] * (dim - 1)
        sweeps = sum(8 * hidden * (size + hidden + 2) for size in sizes)
        return sweeps + (2 * hidden + 1) * positions
    generator = architecture.generator_channels
    look: int = 3**dim * channels * generator + generator
    neighbours: int = architecture.local_kernel**dim
    return look + (generator + 1) * neighbours


def _side(channels: int) -> int:
    return channels + 1
