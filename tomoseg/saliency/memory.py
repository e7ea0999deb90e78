"""How many bytes a forward pass and a refinement step hold at their peak; no torch.

A model of the code in this package, calibrated by measurement: an upper bound, at most
one and a half times what is really used.
"""

from tomoseg.saliency.architecture import Architecture


def parameter_count(architecture: Architecture) -> int:
    """Return the number of values in the network's tensors."""
    raise NotImplementedError


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
    """
    raise NotImplementedError


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
    raise NotImplementedError
