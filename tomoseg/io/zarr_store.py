"""The files of a Zarr hierarchy that is read, on a disk or behind a URL, and is not trusted.

Hands Zarr bytes of files within the hierarchy alone, and never more of them than an array
of such chunks can need.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Self

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import LocalStore

from tomoseg.errors import InputError
from tomoseg.io.remote import Limit, RemotePath, Span, fetch
from tomoseg.io.storage import size_within
from tomoseg.io.zarr_limits import ReadLimits
from tomoseg.io.zarr_nodes import MOST_JSON_BYTES, Root

_NO_KEYS: tuple[str, ...] = ()
_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


def input_store(root: Root, limits: ReadLimits) -> Store:
    """Return a store to read a hierarchy from."""
    return RemoteStore(root, limits) if isinstance(root, RemotePath) else InputStore(root, limits)


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
        most = _most(self._limits, key, byte_range)
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


class RemoteStore(Store):
    """A folder behind a URL to read from; nothing is listed, and each answer has its limit.

    Parameters
    ----------
    root
        Of the hierarchy.
    limits
        What is read at once at most; of metadata `MOST_JSON_BYTES`.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = False

    def __init__(self, root: RemotePath, limits: ReadLimits) -> None:
        super().__init__(read_only=True)
        self._root = root
        self._limits = limits

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteStore) and other._root == self._root

    def __hash__(self) -> int:
        return hash(self._root)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return bytes of a file; None where there is none."""
        data = await asyncio.to_thread(self._read, key, byte_range)
        if data is None:
            return None
        return (prototype or default_buffer_prototype()).buffer.from_bytes(data)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Return bytes of several files."""
        gets = (self.get(key, prototype, byte_range) for key, byte_range in key_ranges)
        return list(await asyncio.gather(*gets))

    def _read(self, key: str, byte_range: ByteRequest | None) -> bytes | None:
        most = _most(self._limits, key, byte_range)
        span = None if byte_range is None else _remote_span(byte_range)
        wanted = _length(byte_range)
        if wanted is not None and not 0 < wanted <= most:
            raise InputError(
                f"{self._root / key}: {wanted} bytes are to be read at once; expected 1 to {most}.",
                "The index of a shard is damaged; copy or write the array again.",
            )
        data = fetch(self._root / key, Limit(most, "a chunk"), span)
        if data is not None and isinstance(byte_range, RangeByteRequest) and len(data) != wanted:
            raise InputError(
                f"{self._root / key}: expected {wanted} bytes from {byte_range.start}, "
                f"got {len(data)}.",
                "The file or the index of a shard is damaged; copy or write the array again.",
            )
        return data

    async def exists(self, key: str) -> bool:
        """Tell whether there is a file."""
        return await self.get(key) is not None

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse: inputs are only read."""
        raise NotImplementedError("inputs are only read")

    async def delete(self, key: str) -> None:
        """Refuse: inputs are only read."""
        raise NotImplementedError("inputs are only read")

    async def list(self) -> AsyncIterator[str]:
        """Yield nothing: a server does not say what it holds."""
        for key in _NO_KEYS:
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield nothing."""
        for key in _NO_KEYS:
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield nothing."""
        for key in _NO_KEYS:
            yield key


def _most(limits: ReadLimits, key: str, byte_range: ByteRequest | None) -> int:
    if key.rpartition("/")[2] in _METADATA:
        return MOST_JSON_BYTES
    return limits.file if byte_range is None else limits.part


def _length(byte_range: ByteRequest | None) -> int | None:
    """Return how many bytes are asked for; None for all or the rest."""
    match byte_range:
        case RangeByteRequest(start, end):
            return end - start
        case SuffixByteRequest(suffix):
            return suffix
    return None


def _remote_span(byte_range: ByteRequest) -> Span:
    match byte_range:
        case RangeByteRequest(start, end):
            return Span(start, end)
        case SuffixByteRequest(suffix):
            return Span(-suffix)
        case OffsetByteRequest(offset):
            return Span(offset)
    raise ValueError(f"unknown part {byte_range}")


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
