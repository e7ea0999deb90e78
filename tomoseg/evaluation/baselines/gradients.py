"""Saliency as what a network's answer hangs on: gradients and their kin, in any dimension.

Knows a target, a function from a window to a number, and nothing of what stands behind it.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tomoseg.evaluation.baselines.scale import Map, min_max

Target = Callable[[Tensor], Tensor]
"""From ``(1, 1, *spatial)`` to a scalar that autograd can follow."""

Attribution = Callable[[Target, Map], NDArray[np.float64]]
"""Signed attribution of each voxel."""

NOISE = 0.15
"""Standard deviation of the noise of SmoothGrad, as a share of the input's range."""

COPIES, STEPS = 50, 50
"""Noisy copies (Smilkov et al. 2017), and steps of a path (captum's default)."""

PERCENTILE = 99.0
"""Above which attributions are cut: single voxels are far larger than all others."""


def as_map(attribution: NDArray[np.float64]) -> Map:
    """Return \\|attribution\\|, cut at its 99th percentile, stretched to [0, 1]."""
    size = np.abs(attribution)
    return min_max(np.minimum(size, np.percentile(size, PERCENTILE)))


def gradient(target: Target, image: Map) -> NDArray[np.float64]:
    """Return the derivative of the target by each voxel ("VA").

    Parameters
    ----------
    target
        See `Target`.
    image
        ``(z, y, x)`` or ``(y, x)`` intensities.

    Notes
    -----
    K. Simonyan, A. Vedaldi, A. Zisserman, Deep inside convolutional networks, ICLR 2014.
    """
    x = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None, None].requires_grad_()
    (found,) = torch.autograd.grad(target(x), x)
    result: NDArray[np.float64] = found[0, 0].numpy().astype(np.float64)
    return result


def integrated(target: Target, image: Map, *, steps: int = STEPS) -> NDArray[np.float64]:
    """Return integrated gradients from solvent, all zeros, to the image ("IG").

    Their sum is the target of the image less that of zeros (completeness).

    Parameters
    ----------
    target, image
        As for `gradient`; intensities are normalised, so 0 is solvent.
    steps
        Nodes of the Gauss-Legendre quadrature along the straight path.

    Notes
    -----
    M. Sundararajan, A. Taly, Q. Yan, Axiomatic attribution for deep networks, ICML 2017,
    equation 1.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    total = np.zeros(image.shape)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        total += weight * gradient(target, image * np.float32(node))
    return total * image


def smoothed(
    attribution: Attribution, target: Target, image: Map, *, copies: int = COPIES, seed: int = 0
) -> NDArray[np.float64]:
    """Return the mean attribution of noisy copies ("SVA" of `gradient`, "SIG" of `integrated`).

    Parameters
    ----------
    attribution
        Of a single copy.
    target, image
        As for `gradient`.
    copies
        How many.
    seed
        Of the noise.

    Notes
    -----
    D. Smilkov et al., SmoothGrad: removing noise by adding noise, 2017: noise of 15 % of
    the range.
    """
    generator = np.random.default_rng(seed)
    scale = np.float32(NOISE * np.ptp(image))
    total = np.zeros(image.shape)
    for _ in range(copies):
        noise = scale * generator.standard_normal(image.shape, np.float32)
        total += attribution(target, image + noise)
    return total / copies


def visual_backprop(
    maps: Sequence[Tensor], kernel: int, stride: int, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return the product of a network's activations, from its last layer to its input ("VBP").

    Parameters
    ----------
    maps
        Rectified maps of each convolution, ``(1, channels, *spatial)``, first to last; each
        is the result of a convolution of `kernel` and `stride`, padded by half a kernel.
    kernel, stride
        Of every convolution.
    shape
        Of the input.

    Notes
    -----
    M. Bojarski et al., VisualBackProp, ICRA 2018: channels are averaged, the deeper mask is
    brought to the size of the layer before by a transposed convolution of ones, and the two
    are multiplied; masks are stretched to [0, 1] layer by layer, as in its code.
    """
    averages = [layer.detach().mean(1, keepdim=True) for layer in maps]
    sizes = [shape, *(tuple(layer.shape[2:]) for layer in maps)]
    mask = averages[-1]
    for number in range(len(averages) - 1, -1, -1):
        mask = _upscaled(_stretched(mask), kernel, stride, sizes[number])
        if number:
            mask = mask * _stretched(averages[number - 1])
    result: NDArray[np.float64] = mask[0, 0].numpy().astype(np.float64)
    return result


def _stretched(mask: Tensor) -> Tensor:
    low, high = mask.min(), mask.max()
    return (mask - low) / (high - low).clamp(min=1e-12)


def _upscaled(mask: Tensor, kernel: int, stride: int, shape: tuple[int, ...]) -> Tensor:
    dim = mask.dim() - 2
    function = functional.conv_transpose3d if dim == 3 else functional.conv_transpose2d
    padding = kernel // 2
    extra = [
        n - ((m - 1) * stride - 2 * padding + kernel)
        for n, m in zip(shape, mask.shape[2:], strict=True)
    ]
    ones = torch.ones(1, 1, *[kernel] * dim)
    return function(mask, ones, None, stride, padding, extra)
