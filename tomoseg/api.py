"""The Python door: what a notebook needs, and nothing of how it is done.

`tomoseg` itself offers these names and loads this module when one of them is first used.
"""

import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from tomoseg.blockwise.execute import Resources, open_executor
from tomoseg.blockwise.prepare import prepare
from tomoseg.blockwise.prepared import Request
from tomoseg.blockwise.run import segment as run
from tomoseg.config import Centre, PickConfig, Settings, configure
from tomoseg.geometry import Index
from tomoseg.io import particle_files
from tomoseg.io import volume as io_volume
from tomoseg.io.picks import Picks
from tomoseg.io.volume import Triple, Volume
from tomoseg.lazy import lazy_array
from tomoseg.particles.pick import pick as find_particles
from tomoseg.particles.target import open_target
from tomoseg.segmentation import Segmentation, open_segmentation

__all__ = [
    "PickConfig",
    "Picks",
    "Resources",
    "Segmentation",
    "Tomogram",
    "open_segmentation",
    "open_volume",
    "pick",
    "segment",
    "write_particles",
]

Progress = Callable[[str, int, int], object]
"""Called with the stage, how much of it is done, and how much there is; `print` will do."""


@dataclass(frozen=True)
class Tomogram:
    """A tomogram that stays on the disk; what is indexed of it is read.

    Parameters
    ----------
    description
        Path, format and header.
    voxels
        Dask array, z, y, x, of the file's dtype: ``voxels[10].compute()`` reads a slice.
    """

    description: Volume = field(repr=False)
    voxels: da.Array

    @property
    def path(self) -> str:
        """Absolute path or URL."""
        return self.description.path

    @property
    def shape(self) -> Index:
        """Voxels along z, y, x."""
        return self.description.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the voxels."""
        return np.dtype(self.description.dtype)

    @property
    def voxel_size_angstrom(self) -> Triple | None:
        """Along z, y, x; None where the file says nothing believable."""
        return self.description.voxel_size_angstrom

    @property
    def origin_angstrom(self) -> Triple:
        """Position of the centre of voxel (0, 0, 0) along z, y, x."""
        return self.description.origin_angstrom

    def __array__(
        self, dtype: np.dtype[Any] | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        """Read all of it: ``numpy.asarray(tomogram)``."""
        return np.asarray(self.voxels, dtype)


def open_volume(path: str | Path, *, array: str | None = None) -> Tomogram:
    """Open a tomogram without reading it.

    Parameters
    ----------
    path
        An MRC file, a Zarr array or an OME-Zarr image.
    array
        Path of the array or image within a Zarr hierarchy, where there are several.

    Raises
    ------
    InputError
        Where there is no volume that can be read; the message says what is there instead.

    Examples
    --------
    >>> import tomoseg
    >>> tomogram = tomoseg.open_volume("big.mrc")  # doctest: +SKIP
    >>> tomogram.voxels[tomogram.shape[0] // 2].compute()  # doctest: +SKIP
    """
    volume = io_volume.open_volume(path, array=array)
    return Tomogram(volume, lazy_array(volume))


def segment(
    input: str | Path,
    out: str | Path,
    *,
    array: str | None = None,
    overwrite: bool = False,
    resources: Resources | None = None,
    progress: Progress | None = None,
    **settings: Unpack[Settings],
) -> Segmentation:
    """Segment a tomogram, from where an earlier call for the same stopped.

    The result is that of ``tomoseg segment``, bit for bit. An interrupt (Ctrl-C, or a stopped
    cell of a notebook) keeps what is done.

    Parameters
    ----------
    input
        As for `open_volume`.
    out
        Folder ``NAME.zarr`` to write.
    array
        As for `open_volume`.
    overwrite
        Whether another output at `out` may go, once this one is finished.
    resources
        Where to compute, and on how much. A script that asks for several workers has its
        calls under ``if __name__ == "__main__":``, for each worker imports it.
    progress
        Called as the work goes on.
    settings
        Fields of `tomoseg.config.SegmentConfig` and `tomoseg.config.RefineConfig`, such as
        ``scope="none"`` or ``voxel_size_angstrom=13.5``; and ``preset``.

    Returns
    -------
    Segmentation
        ``saliency`` and ``mask`` are lazy Zarr arrays.

    Raises
    ------
    TomosegError
        Where it cannot be done; what to do is in its ``hint``.

    Examples
    --------
    >>> result = tomoseg.segment("big.mrc", "mask.zarr", scope="none")  # doctest: +SKIP
    >>> result.mask[10].mean(), result.summary["seam"]  # doctest: +SKIP
    """
    chosen = resources or Resources()
    request = Request(
        volume=io_volume.open_volume(input, array=array),
        output=Path(out),
        config=configure(**settings),
        resources=chosen,
        overwrite=overwrite,
        command=f"tomoseg.segment, from Python: {Path(sys.argv[0]).name}",
    )
    prepared = prepare(request)
    with open_executor(chosen, threading.Event()) as executor:
        run(prepared, executor, _Report(progress))
    return open_segmentation(out)


def pick(
    mask: str | Path,
    config: PickConfig | None = None,
    *,
    array: str | None = None,
    labels: str | Path | None = None,
    scratch: str | Path | None = None,
    overwrite: bool = False,
    resources: Resources | None = None,
    progress: Progress | None = None,
) -> Picks:
    """Find the particles in a mask, as ``tomoseg pick`` does.

    Parameters
    ----------
    mask
        An output of `segment`, or a mask of whole numbers (MRC, OME-Zarr, Zarr).
    config
        What is a particle; every component if not given.
    array
        Path of the mask within a Zarr hierarchy, where there are several.
    labels
        OME-Zarr to write with the number of each voxel's particle, from 1.
    scratch
        Folder in which what shards gave is kept, so that a repeated call goes on, and
        removed at the end; that of `mask` if not given.
    overwrite
        Whether something at `labels` may go.
    resources, progress
        As for `segment`.

    Returns
    -------
    Picks
        Best first: ``centres`` in voxels z, y, x, and what was measured in ``columns``.

    Raises
    ------
    TomosegError
        Where it cannot be done; what to do is in its ``hint``.

    Examples
    --------
    >>> wanted = tomoseg.PickConfig(diameter_angstrom=250)  # doctest: +SKIP
    >>> picks = tomoseg.pick("mask.zarr", wanted)  # doctest: +SKIP
    >>> tomoseg.write_particles(picks, "relion5:particles.star")  # doctest: +SKIP
    """
    chosen = resources or Resources()
    path = Path(mask).absolute()
    with open_executor(chosen, threading.Event()) as executor:
        return find_particles(
            open_target(str(mask), array=array),
            config or PickConfig(),
            executor,
            scratch=Path(scratch or path.parent) / f".{path.name}.picking",
            progress=_Report(progress),
            labels=Path(labels) if labels else None,
            overwrite=overwrite,
            memory_bytes=chosen.worker_memory(),
        )


def write_particles(
    picks: Picks | Sequence[Picks],
    out: str | Path,
    *,
    binning: float | None = None,
    centre: Centre = "half",
    overwrite: bool = False,
) -> None:
    """Write the particles of one or several tomograms to a file.

    Parameters
    ----------
    picks
        What `pick` found.
    out
        ``PATH`` or ``FORMAT:PATH``, with the suffixes and formats of ``tomoseg pick --out``.
    binning
        Unbinned pixels in a voxel, for STAR files; 1 if not given.
    centre
        Middle of RELION 5's coordinates.
    overwrite
        Whether a file at `out` may go.

    Raises
    ------
    TomosegError
        Where the format is unknown or holds one tomogram only, or a file is there.
    """
    several = [picks] if isinstance(picks, Picks) else list(picks)
    destination = particle_files.parse_destination(str(out))
    export = particle_files.Export(centre=centre, binning=binning)
    particle_files.write_particles(several, destination, export, overwrite=overwrite)


class _Report:
    """Passes progress on, whatever the caller's function returns."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(stage, done, total)
