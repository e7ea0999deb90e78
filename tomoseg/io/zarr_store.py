"""The files of a Zarr hierarchy that is read, and is not trusted.

Hands Zarr bytes of files within the hierarchy alone, and never more of them than an array
of such chunks can need.
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from tomoseg.errors import InputError
from tomoseg.io.storage import size_within
from tomoseg.io.zarr_limits import ReadLimits
from tomoseg.io.zarr_nodes import MOST_JSON_BYTES

_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


class InputStore(LocalStore):
    """A folder to read from; every read is checked before it is made.

    Parameters
    ----------
    root
        Of the hierarchy.
    limits
        What is read at once at most; of metadata `MOST_JSON_BYTES`.
    """

    def __init__(self, root: Path, limits: ReadLimits) -> None:
        super().__init__(root, read_only=True)
        self._limits = limits

    def with_read_only(self, read_only: bool = False) -> Self:
        """Return the store, which is never written to."""
        if not read_only:
            raise NotImplementedError("inputs are only read")
        return self

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return bytes of a file; None where there is none."""
        await asyncio.to_thread(self._require_readable, key, byte_range)
        return await super().get(key, prototype, byte_range)

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return bytes of a file; None where there is none."""
        self._require_readable(key, byte_range)
        return super().get_sync(key, prototype=prototype, byte_range=byte_range)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Return bytes of several files."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    def _require_readable(self, key: str, byte_range: ByteRequest | None) -> None:
        file = self.root / key
        size = size_within(self.root, file)
        if size is None:
            return
        if file.name in _METADATA:
            most = MOST_JSON_BYTES
        else:
            most = self._limits.file if byte_range is None else self._limits.part
        wanted = _wanted(byte_range, size)
        if not 0 <= wanted <= min(most, size):
            raise InputError(
                f"{file} has {size} bytes, of which {wanted} are to be read at once; "
                f"expected at most {most}.",
                "A chunk or the index of a shard is damaged; copy or write the array again.",
            )


def _wanted(byte_range: ByteRequest | None, size: int) -> int:
    match byte_range:
        case RangeByteRequest(start, end):
            return end - start if end <= size else max(end, size + 1)
        case SuffixByteRequest(suffix):
            return min(suffix, size)
        case OffsetByteRequest(offset):
            return size - offset
    return size
