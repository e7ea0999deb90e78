"""What particles in a tomogram are, whatever file they come from or go to; no I/O."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomoseg.geometry import Index
from tomoseg.io.volume import Triple


@dataclass(frozen=True)
class Picks:
    """Particles of one tomogram.

    Parameters
    ----------
    name
        Of the tomogram, as ``rlnTomoName`` has it.
    shape
        Voxels of the tomogram that was picked, z, y, x.
    voxel_size_angstrom
        Of that tomogram, z, y, x.
    origin_angstrom
        Position of the centre of voxel (0, 0, 0), z, y, x.
    centres
        ``(N, 3)`` voxels z, y, x: voxel (0, 0, 0) is the first, whole numbers are centres
        of voxels.
    columns
        More about each, by name: ``score`` (0 to 1), ``volume_angstrom3`` and so on.
    """

    name: str
    shape: Index
    voxel_size_angstrom: Triple
    origin_angstrom: Triple
    centres: NDArray[np.float64]
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.centres)

    @property
    def xyz(self) -> NDArray[np.float64]:
        """Centres as ``(N, 3)`` voxels x, y, z."""
        return self.centres[:, ::-1]

    @property
    def positions_angstrom(self) -> NDArray[np.float64]:
        """Centres as ``(N, 3)`` angstrom z, y, x, where the volume's metadata place them."""
        positions: NDArray[np.float64] = self.centres * self.voxel_size_angstrom
        return positions + self.origin_angstrom
