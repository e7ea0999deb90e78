"""How many bytes a forward pass and a refinement hold at their peak; no torch.

A model of the code in this package, fitted to measured peaks of volumes on a CPU: what is
alive is known within a third (tested), and the heap's fragmentation is allowed for on top.
Change it with the code.
"""

import math

from tomoseg.saliency.architecture import LEVELS, Architecture

FLOAT = 4
SLACK = 1.05

FRAGMENTATION = 1.7
"""Resident over living bytes at most: pieces too small to go back to the system stay."""

FORWARD_FIXED_BYTES = 5 * 2**20
REFINE_FIXED_BYTES = 44 * 2**20
"""Alive whatever the window: small buffers, parts of a response map, what SLIC's first call
loads."""

# Values alive per voxel of a window, for each base channel and alone; the generator's
# channels, classes and further windows of a sample come on top.
FORWARD = (3.6, 5.0)
REFINE = (18.0, 0.0)

FORWARD_IN_SLABS = (1.75, 1.0)
"""As `FORWARD`, where the finest level doesn't attend: nothing else comes on top."""

PARAMETER_COPIES = 1.5
"""Of the parameters in a forward pass: normalisation is folded into copies of the largest."""

PER_CONVOLUTION = 2.0
"""Values that a refinement keeps for each convolution of the decoder, of its level's."""

PER_CLASS = 6.0
"""Values of a response map that is there as a whole, as the continuity loss has it."""

PER_SAMPLED_WINDOW = 2.0

SELF_TRAINING = 66.0
"""Values for each voxel that self-training holds at its peak, beside what any refinement does."""

FURTHER_OF_BATCH = 0.7
"""What each further window of a batch adds, as a share of the first."""

# Copies of the parameters in a refinement: the starting network, its refined copy,
# gradients, and momentum, the last sound state and one being made, or Adam's two moments.
REFINE_COPIES = 6


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
    if architecture.dim == 3 and not architecture.attends(0):
        (per_base, alone), generator = FORWARD_IN_SLABS, 0
    else:
        (per_base, alone), generator = FORWARD, architecture.generator_channels
    per_voxel = per_base * architecture.base_channels + alone + generator
    windows = 1 + FURTHER_OF_BATCH * (batch - 1)
    activations = SLACK * per_voxel * math.prod(window) * windows
    values = activations + PARAMETER_COPIES * parameter_count(architecture)
    return math.ceil(FRAGMENTATION * (FLOAT * values + FORWARD_FIXED_BYTES))


def refine_bytes(
    architecture: Architecture, window: tuple[int, ...], *, beside: float = 0.0, windows: int = 1
) -> int:
    """Return the peak bytes of one refinement, parameters and optimiser included.

    Parameters
    ----------
    architecture
        Of the network.
    window
        Edges of a window in voxels.
    beside
        Values for each voxel that come on top: `SELF_TRAINING` under rule ``teacher``, `PER_CLASS`
        for each class under the continuity loss.
    windows
        Windows in the sample.
    """
    per_base, alone = REFINE
    for level, convolutions in enumerate(architecture.decoder_convolutions):
        share = 2**level / 2 ** (architecture.dim * level)  # more channels, fewer voxels
        per_base += PER_CONVOLUTION * convolutions * share
    per_voxel = per_base * architecture.base_channels + alone + architecture.generator_channels
    per_voxel += beside + PER_SAMPLED_WINDOW * (windows - 1)
    activations = SLACK * per_voxel * math.prod(window)
    values = activations + REFINE_COPIES * parameter_count(architecture)
    return math.ceil(FRAGMENTATION * (FLOAT * values + REFINE_FIXED_BYTES))


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
    more = architecture.decoder_convolutions[level]
    leave += more * _conv_norm(channels, channels, 3**architecture.dim)
    if level == LEVELS - 1:
        enter = square + channels
    else:
        up = 2**architecture.dim * 2 * square + channels
        enter = up + 2 * square + channels
    return enter + _attention(architecture, level) + leave


def _attention(architecture: Architecture, level: int) -> int:
    if not architecture.attends(level):
        return 0
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
