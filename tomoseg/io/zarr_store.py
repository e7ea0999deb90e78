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
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import LocalStore

from tomoseg.errors import InputError
from tomoseg.io.storage import size_within
from tomoseg.io.zarr_limits import ReadLimits
from tomoseg.io.zarr_nodes import MOST_JSON_BYTES

_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


class InputStore(LocalStore):
    """A folder to read from; every read is judged first.

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
        return await asyncio.to_thread(self._read, key, prototype, byte_range)

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return bytes of a file; None where there is none."""
        return self._read(key, prototype, byte_range)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Return bytes of several files."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    def _read(
        self, key: str, prototype: BufferPrototype | None, byte_range: ByteRequest | None
    ) -> Buffer | None:
        file = self.root / key
        size = size_within(self.root, file)
        if size is None:
            return None
        if file.name in _METADATA:
            most = MOST_JSON_BYTES
        else:
            most = self._limits.file if byte_range is None else self._limits.part
        start, stop = _span(byte_range, size)
        if not (0 <= start <= stop <= size and stop - start <= most):
            raise InputError(
                f"{file} has {size} bytes; to be read at once are {start} to {stop}, "
                f"expected at most {most}.",
                "A chunk or the index of a shard is damaged; copy or write the array again.",
            )
        with file.open("rb") as stream:
            stream.seek(start)
            data = stream.read(stop - start)
        return (prototype or default_buffer_prototype()).buffer.from_bytes(data)


def _span(byte_range: ByteRequest | None, size: int) -> tuple[int, int]:
    """Return the first byte asked for and the one after the last; not those that are there."""
    match byte_range:
        case RangeByteRequest(start, end):
            return start, end
        case SuffixByteRequest(suffix):
            return max(0, size - suffix), size
        case OffsetByteRequest(offset):
            return offset, size
    return 0, size
