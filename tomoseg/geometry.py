"""Boxes, the block lattice and windows: integer arithmetic in voxels, axes z, y, x.

Knows no files, no arrays' contents and no physics. Boxes are half-open, lattices
start at voxel 0, and every number here is a Python int.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

Index = tuple[int, ...]


@dataclass(frozen=True, order=True)
class Box:
    """A half-open box ``[start, stop)`` of voxels.

    Parameters
    ----------
    start, stop
        First voxel, and the voxel after the last, along each axis (z, y, x).
    """

    start: Index
    stop: Index

    def __post_init__(self) -> None:
        if len(self.start) != len(self.stop):
            raise ValueError(f"expected start and stop of one length, got {self}")

    @property
    def shape(self) -> Index:
        """Number of voxels along each axis; zero where the box is empty."""
        return tuple(max(0, b - a) for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Number of voxels in the box."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as an index into an array whose first voxel is voxel 0."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def grow(self, voxels: int) -> "Box":
        """Return the box with `voxels` more on every side; it may leave the volume."""
        return Box(tuple(a - voxels for a in self.start), tuple(b + voxels for b in self.stop))

    def shift(self, offset: Index) -> "Box":
        """Return the box moved by `offset` voxels."""
        return Box(
            tuple(a + o for a, o in zip(self.start, offset, strict=True)),
            tuple(b + o for b, o in zip(self.stop, offset, strict=True)),
        )

    def relative_to(self, other: "Box") -> "Box":
        """Return the box in coordinates whose zero is the first voxel of `other`."""
        return self.shift(tuple(-a for a in other.start))

    def intersect(self, other: "Box") -> "Box":
        """Return what both boxes hold; of size 0 where they do not meet."""
        start = tuple(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = tuple(min(a, b) for a, b in zip(self.stop, other.stop, strict=True))
        return Box(start, tuple(max(a, b) for a, b in zip(start, stop, strict=True)))

    def contains(self, other: "Box") -> bool:
        """Tell whether every voxel of `other` lies in this box."""
        return self.intersect(other).size == other.size


def whole(shape: Index) -> Box:
    """Return the box of a whole volume of `shape` voxels."""
    return Box((0,) * len(shape), shape)


@dataclass(frozen=True)
class Lattice:
    """Cubes of one edge that tile a volume from voxel 0; those at its far faces are cut.

    Blocks, network cores and shards are all lattices; a coarser one whose edge is a
    multiple of a finer one's holds whole cells of it.

    Parameters
    ----------
    shape
        Shape of the volume in voxels (z, y, x).
    edge
        Edge of a cell in voxels.
    """

    shape: Index
    edge: int

    def __post_init__(self) -> None:
        if self.edge < 1 or min(self.shape) < 1:
            raise ValueError(f"expected a positive shape and edge, got {self}")

    @property
    def cells_per_axis(self) -> Index:
        """Number of cells along each axis."""
        return tuple(-(-n // self.edge) for n in self.shape)

    def __len__(self) -> int:
        return math.prod(self.cells_per_axis)

    def __iter__(self) -> Iterator[Box]:
        """Yield the cells lexicographically (z slowest)."""
        return (self.cell(number) for number in range(len(self)))

    def cell(self, number: int) -> Box:
        """Return cell `number` of the lexicographic order, cut at the volume's faces."""
        if not 0 <= number < len(self):
            raise IndexError(f"expected a cell below {len(self)}, got {number}")
        position = []
        for count in reversed(self.cells_per_axis):
            number, index = divmod(number, count)
            position.append(index)
        start = tuple(index * self.edge for index in reversed(position))
        stop = tuple(min(a + self.edge, n) for a, n in zip(start, self.shape, strict=True))
        return Box(start, stop)

    def number_at(self, voxel: Index) -> int:
        """Return the number of the cell that owns `voxel`."""
        number = 0
        for index, count in zip(voxel, self.cells_per_axis, strict=True):
            number = number * count + index // self.edge
        return number

    def numbers_in(self, box: Box) -> list[int]:
        """Return the numbers of the cells that meet `box`, in lexicographic order."""
        box = box.intersect(whole(self.shape))
        if box.size == 0:
            return []
        ranges = [
            range(a // self.edge, -(-b // self.edge))
            for a, b in zip(box.start, box.stop, strict=True)
        ]
        return [
            self.number_at(tuple(i * self.edge for i in position))
            for position in itertools.product(*ranges)
        ]


@dataclass(frozen=True)
class Window:
    """What the network sees to decide one core: always of the same shape.

    Wherever it can it lies in the volume, and is a function of the volume alone, not of
    the shard that reads it.

    Parameters
    ----------
    core
        The voxels that this window decides, cut at the volume's faces.
    valid
        The part of the window that lies in the volume.
    pad
        Voxels to reflect after `valid`, along each axis, where the volume is too short.
    """

    core: Box
    valid: Box
    pad: Index

    def inside(self, box: Box) -> Box:
        """Return a box of the volume in coordinates whose zero is the window's first voxel."""
        return box.relative_to(self.valid)


def window_around(core: Box, *, volume: Index, shape: Index, halo: int, step: int) -> Window:
    """Return the window of a core of a lattice: around it, or moved back into the volume.

    A network takes a window's faces as it takes those of the windows that it learnt from:
    what is cut there is cut. What is made up beyond the faces of the volume, it believes.

    Parameters
    ----------
    core
        A cell of a lattice over the volume.
    volume
        Shape of the volume.
    shape
        Of the window: along each axis a core and two halos that no face cuts, or the volume's
        length and what is to be reflected.
    halo
        Neighbouring voxels around the core.
    step
        A window that is moved begins at a multiple of it, with fewer voxels to reflect.
    """
    last = (max(0, -(-(n - edge) // step) * step) for n, edge in zip(volume, shape, strict=True))
    start = tuple(min(max(0, a - halo), b) for a, b in zip(core.start, last, strict=True))
    full = Box(start, tuple(a + n for a, n in zip(start, shape, strict=True)))
    valid = full.intersect(whole(volume))
    pad = tuple(a - b for a, b in zip(full.stop, valid.stop, strict=True))
    return Window(core=core, valid=valid, pad=pad)
