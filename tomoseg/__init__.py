"""Annotation-free salient-object segmentation of large cryo-electron tomograms.

From Python: `segment`, `pick`, `open_volume` and the others of `__all__`. They load what they
need when they are first used; importing the package loads nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tomoseg.api import (
        PickConfig,
        Picks,
        Resources,
        Segmentation,
        Tomogram,
        open_segmentation,
        open_volume,
        pick,
        segment,
        write_particles,
    )

__version__ = "0.1.0"

__all__ = [
    "PickConfig",
    "Picks",
    "Resources",
    "Segmentation",
    "Tomogram",
    "__version__",
    "open_segmentation",
    "open_volume",
    "pick",
    "segment",
    "write_particles",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tomoseg import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
