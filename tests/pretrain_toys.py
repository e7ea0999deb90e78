"""A small data set to learn from."""

import numpy as np
from numpy.typing import NDArray

from tomoseg.geometry import Box


class Balls:
    """Bright balls in white noise, with the interface of a simulated data set."""

    voxel_size_angstrom = 10.0

    def __init__(self, split: str, *, count: int = 3, shape: tuple[int, ...] = (40, 48, 40)):
        self.split, self.count, self.shape = split, count, shape
        self.reads = 0

    def __len__(self) -> int:
        return self.count

    def image(self, index: int, box: Box) -> NDArray[np.float32]:
        self.reads += 1
        noise = np.random.default_rng([index, len(self.split)]).standard_normal(self.shape)
        return (2.5 * self._truth(index) + noise).astype(np.float32)[box.slices]

    def salient(self, index: int, box: Box) -> NDArray[np.uint8]:
        return self._truth(index).astype(np.uint8)[box.slices]

    def _truth(self, index: int) -> NDArray[np.bool_]:
        generator = np.random.default_rng([index, len(self.split), 1])
        grid = np.indices(self.shape)
        truth = np.zeros(self.shape, bool)
        for _ in range(6):
            centre = generator.uniform(0, self.shape)[:, None, None, None]
            truth |= ((grid - centre) ** 2).sum(axis=0) < generator.uniform(5, 8) ** 2
        return truth
