"""A tomogram as the network sees it: on the network's grid, normalised.

Knows how to get there from the input; knows nothing of shards, windows and networks.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomoseg.blockwise.contrast import Decision, decide
from tomoseg.blockwise.resample import Lanes, Resampling, regrid
from tomoseg.blockwise.statistics import Statistics, measure, sample_bricks
from tomoseg.config import ContrastRequest
from tomoseg.geometry import Box, Index
from tomoseg.intensity import smooth
from tomoseg.io.volume import Volume

_DIGITS = 4
"""Decimals, in standard deviations, that tell values apart on a resampled grid: rounding
must not hide that padding is a single value."""

_PLANES = 8
"""Of a window, normalised at a time."""


@dataclass(frozen=True)
class Source:
    """What a window is made from; picklable, nothing open.

    Parameters
    ----------
    volume
        The input.
    resampling
        From the input's grid to the network's; None where they are the same.
    raw
        Statistics of the input. Where it is resampled its intensities are held to their
        range first, so that the halo of a gold bead does not ring.
    statistics
        What normalises a window: statistics on the network's grid, for resampling changes
        the noise. Where nothing is resampled these are `raw`; elsewhere their unit is
        `raw.scale`.
    contrast
        Which side of the background the objects lie on, and who says so.
    smoothed
        Whether windows are smoothed first, as the network expects; `statistics` are of
        smoothed intensities then, in units of `raw.scale`.
    amplitude
        What standard deviations are multiplied by, as the network expects.
    """

    volume: Volume
    resampling: Resampling | None
    raw: Statistics
    statistics: Statistics
    contrast: Decision
    smoothed: bool = False
    amplitude: float = 1.0

    @property
    def shape(self) -> Index:
        """Shape of the network's grid."""
        return self.resampling.target if self.resampling else self.volume.shape

    def reader(self) -> "SourceReader":
        """Open it; use once in a process."""
        return SourceReader(self.volume, self.resampling, self.raw)

    def normalise(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return what `SourceReader.read` returned in standard deviations, objects positive.

        A few planes at a time, with those beside them where they are smoothed, and to the same
        bits: no temporary is as large as a window.
        """
        contrast, margin = self.contrast.contrast, int(self.smoothed)
        result = np.empty(values.shape, np.float32)
        for start in range(0, len(values), _PLANES):
            before = min(start, margin)
            part = values[start - before : start + _PLANES + margin]
            if self.smoothed:
                part = smooth(self._held(part))
            into = result[start : start + _PLANES]
            into[:] = self.statistics.normalise(
                part[before : before + len(into)], contrast, self.amplitude
            )
        return result

    def _held(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return values held to the range of the input, as resampling has done already."""
        return self.raw.normalise(values, "light") if self.resampling is None else values


class SourceReader:
    """Reads boxes of the network's grid; safe to call from several threads.

    Parameters
    ----------
    volume, resampling, raw
        As in `Source`.
    """

    def __init__(self, volume: Volume, resampling: Resampling | None, raw: Statistics) -> None:
        self._reader = volume.reader()
        self._resampling = resampling
        self._raw = raw

    def read(self, box: Box, lanes: Lanes = map) -> NDArray[Any]:
        """Return the voxels of a box within the network's grid, not yet normalised."""
        if self._resampling is None:
            return self._reader.read(box)
        return regrid(
            self._resampling,
            box,
            self._reader.read,
            lambda values: self._raw.normalise(values, "light"),
            lanes,
        )

    def close(self) -> None:
        """Release what it holds."""
        self._reader.close()


def describe_source(
    volume: Volume,
    resampling: Resampling | None,
    contrast: ContrastRequest,
    seed: int,
    *,
    smoothed: bool = False,
    amplitude: float = 1.0,
) -> Source:
    """Measure what a source needs on a seeded sample.

    Parameters
    ----------
    volume, resampling, smoothed, amplitude
        As in `Source`.
    contrast
        As asked for.
    seed
        Of the sample.

    Raises
    ------
    InputError
        Where the sample holds no finite value.
    """
    bricks = _sample(volume, seed)
    raw = statistics = measure(bricks, volume.path)
    if resampling is not None:
        resampled = SourceReader(volume, resampling, raw)
        bricks = sample_bricks(resampling.target, resampled.read, seed)
        bricks = [np.round(brick, _DIGITS) for brick in bricks]
        resampled.close()
        statistics = measure(bricks, volume.path)
    decision = decide(contrast, bricks, statistics)
    source = Source(volume, resampling, raw, statistics, decision, smoothed, amplitude)
    if not smoothed:
        return source
    inner = [_without_faces(smooth(source._held(brick))) for brick in bricks]
    return dataclasses.replace(source, statistics=measure(inner, volume.path))


def _without_faces(brick: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the voxels that were smoothed with all their neighbours, where there are any."""
    return brick[tuple(slice(1, -1) if n > 2 else slice(None) for n in brick.shape)]


def identity(volume: Volume, sample_sha256: str) -> dict[str, Any]:
    """Return what tells an input from any other; plain JSON values."""
    return {
        "shape": list(volume.shape),
        "dtype": volume.dtype,
        "array": volume.array,
        "sample_sha256": sample_sha256,
        **volume.stamp(),
    }


def identity_now(volume: Volume, seed: int) -> dict[str, Any]:
    """Return the `identity` that an input has now, its voxels sampled again.

    Raises
    ------
    InputError
        Where it is gone, or the sample holds no finite value.
    """
    return identity(volume, measure(_sample(volume, seed), volume.path).sample_sha256)


def _sample(volume: Volume, seed: int) -> list[NDArray[Any]]:
    with volume.reader() as reader:
        return sample_bricks(volume.shape, reader.read, seed)
