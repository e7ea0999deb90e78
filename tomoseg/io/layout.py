"""The layout of an OME-Zarr image as tomoseg writes it: shapes, scales, names; no I/O."""

from dataclasses import dataclass
from typing import Literal, get_args

from tomoseg.config import BLOCK, OmeVersion
from tomoseg.errors import RequestError
from tomoseg.geometry import Index, Lattice
from tomoseg.io.volume import Triple

Kind = Literal["image", "mask"]

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")
"""Dtypes that an image can have."""

_GROUPS: dict[Kind, str] = {"image": "", "mask": "labels/mask/"}


@dataclass(frozen=True)
class Layout:
    """One OME-Zarr image, with or without a mask beside it; pure, no I/O.

    Parameters
    ----------
    path
        Folder of the root group.
    shape
        Voxels of level 0 along z, y, x.
    voxel_size_angstrom
        Of level 0, along z, y, x; None writes a scale of 1 without a unit.
    origin_angstrom
        Position of the centre of voxel (0, 0, 0) along z, y, x.
    name
        Of the image.
    dtype
        Of the image, one of `DTYPES`; the mask is uint8, 0 or 1.
    label
        Whether ``labels/mask`` lies beside the image.
    chunk, shard
        Edges in voxels; the shard is a multiple of the chunk. Version 0.4 has no shard
        files, but a shard is owned and written the same way.
    version
        Of OME-Zarr: 0.5 is Zarr v3 with shards, 0.4 is Zarr v2.
    categorical
        Whether the image's values are names of things, not amounts: its levels are made by
        the maximum, not the mean.
    passing
        Whether the image is read once and removed: what is fast counts then, not what is small.
    """

    path: str
    shape: Index
    voxel_size_angstrom: Triple | None
    origin_angstrom: Triple = (0.0, 0.0, 0.0)
    name: str = "saliency"
    dtype: str = "uint8"
    label: bool = True
    chunk: int = BLOCK
    shard: int = 256
    version: OmeVersion = "0.5"
    categorical: bool = False
    passing: bool = False

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise RequestError(f"shape: expected three positive numbers, got {self.shape}.")
        if self.dtype not in DTYPES:
            raise RequestError(f"dtype: expected {', '.join(DTYPES)}, got {self.dtype}.")
        if self.chunk < 1 or self.shard < 1 or self.shard % self.chunk:
            raise RequestError(
                f"shard: expected a positive multiple of {self.chunk}, got {self.shard}."
            )
        if self.version not in get_args(OmeVersion):
            raise RequestError(f"OME-Zarr version: expected 0.5 or 0.4, got {self.version}.")

    @property
    def levels(self) -> int:
        """Number of levels: halved until no axis is longer than a chunk."""
        return 1 + (-(-max(self.shape) // self.chunk) - 1).bit_length()

    def level_shape(self, level: int) -> Index:
        """Return the shape of `level` in voxels: halved and rounded up, `level` times."""
        self._require_level(level)
        return tuple(-(-n // 2**level) for n in self.shape)

    def level_scale(self, level: int) -> Triple:
        """Return the voxel size of `level` in angstrom along z, y, x.

        An axis of which one voxel is left is not halved any more, so that a slab does not
        grow thick in the coarse levels.
        """
        self._require_level(level)
        sizes = self.voxel_size_angstrom or (1.0, 1.0, 1.0)
        z, y, x = (
            size * 2 ** min(level, (n - 1).bit_length())
            for size, n in zip(sizes, self.shape, strict=True)
        )
        return z, y, x

    def level_translation(self, level: int) -> Triple:
        """Return the position of the centre of voxel (0, 0, 0) of `level` in angstrom."""
        z, y, x = (
            origin + (coarse - fine) / 2
            for origin, coarse, fine in zip(
                self.origin_angstrom, self.level_scale(level), self.level_scale(0), strict=True
            )
        )
        return z, y, x

    def array_path(self, kind: Kind, level: int) -> str:
        """Return the path of an array within the root group."""
        self._require_level(level)
        if kind == "mask" and not self.label:
            raise ValueError(f"{self.path} has no mask")
        return f"{_GROUPS[kind]}{level}"

    def array_dtype(self, kind: Kind) -> str:
        """Return the numpy name of the dtype of the arrays of `kind`."""
        return "uint8" if kind == "mask" else self.dtype

    def kinds(self) -> tuple[Kind, ...]:
        """Return the kinds of arrays that there are."""
        return ("image", "mask") if self.label else ("image",)

    def shards(self, level: int) -> Lattice:
        """Return the lattice of the shards of `level`."""
        return Lattice(self.level_shape(level), self.shard)

    def _require_level(self, level: int) -> None:
        if not 0 <= level < self.levels:
            raise ValueError(f"expected a level below {self.levels}, got {level}")
