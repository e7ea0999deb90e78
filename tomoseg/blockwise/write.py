"""One shard computed, written whole and recorded: the order that loses nothing.

Knows arrays and the journal; what is written comes from the caller.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomoseg.blockwise.journal import JournalWriter, Turn, journal_folder
from tomoseg.errors import StorageError, TomosegError
from tomoseg.geometry import Box
from tomoseg.io.omezarr import ArrayStore, Kind, Layout

Saliency = NDArray[np.uint8]
Voxels = NDArray[Any]


@dataclass(frozen=True)
class ShardResult:
    """What became of one shard.

    Parameters
    ----------
    shard
        Its number.
    error
        Empty where it is done.
    seconds
        Wall time of reading and computing, and of writing.
    """

    shard: int
    error: str
    seconds: dict[str, float]


class ShardWriter:
    """Writes the shards of one layout and records them in the journal beside it.

    Parameters
    ----------
    layout
        Of an image that exists.
    run
        Number of this run in the journal.
    threshold
        Probability from which a voxel belongs to the mask, where the layout has one.
    """

    def __init__(self, layout: Layout, *, run: int, threshold: float = 0.5) -> None:
        self._shards = layout.shards(0)
        self._threshold = threshold
        self._stores = {kind: ArrayStore(layout, kind, 0) for kind in layout.kinds()}
        folder = journal_folder(Path(layout.path))
        self._journal, self._turn, self._run = JournalWriter(folder, run), Turn(folder), run

    def write(self, number: int, compute: Callable[[Box], Voxels]) -> ShardResult:
        """Compute, write and record one shard; a failure is recorded and returned.

        Parameters
        ----------
        number
            Of the shard.
        compute
            Returns the voxels of the image in a box.
        """
        with self._turn.writing(self._run):
            return self._recorded(number, compute)

    def _recorded(self, number: int, compute: Callable[[Box], Voxels]) -> ShardResult:
        self._journal.append(number, "begin")
        try:
            seconds = self._write(number, compute)
        except StorageError:
            raise  # no shard can be written or recorded: the run ends here
        except (TomosegError, OSError, RuntimeError, ValueError, MemoryError) as error:
            message = f"{type(error).__name__}: {error}"
            self._journal.append(number, "failed", error=message)
            return ShardResult(number, message, {})
        return ShardResult(number, "", seconds)

    def _write(self, number: int, compute: Callable[[Box], Voxels]) -> dict[str, float]:
        started = time.perf_counter()
        box = self._shards.cell(number)
        arrays: dict[Kind, Voxels] = {"image": compute(box)}
        if "mask" in self._stores:
            arrays["mask"] = binarise(arrays["image"], self._threshold)
        computed = time.perf_counter()
        outcome: dict[str, Any] = {}
        for kind, data in arrays.items():
            self._stores[kind].write_shard(box, data)
            nonzero = int(np.count_nonzero(data))
            digest = hashlib.sha256(data.data).hexdigest()
            outcome[kind] = {"sha256": digest, "empty": not nonzero, "nonzero": nonzero}
        seconds = {
            "compute": round(computed - started, 3),
            "write": round(time.perf_counter() - computed, 3),
        }
        self._journal.append(number, "done", arrays=outcome, seconds=seconds)
        return seconds

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()


def binarise(saliency: Saliency, threshold: float) -> Saliency:
    """Return the mask, uint8 0/1: voxels of at least `threshold` (a probability)."""
    mask: Saliency = (saliency >= np.ceil(threshold * 255)).astype(np.uint8)
    return mask
