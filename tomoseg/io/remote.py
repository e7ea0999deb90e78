"""Files behind http, https and s3, read by range, and never more of them than was asked for.

Knows no Zarr. Needs the extra ``remote``, which is loaded when the first byte is fetched.
"""

import asyncio
import functools
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from tomoseg.errors import InputError, StorageError, printable

logger = logging.getLogger(__name__)

SCHEMES = ("http", "https", "s3")

PAUSES = (0.5, 2.0)
"""Seconds before the second and the third attempt, where a server is busy or is gone."""

CONNECT_SECONDS, READ_SECONDS = 20.0, 60.0
"""That a server may take to be reached, and to send something more."""

_ABSENT = (404, 410)
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_REFUSED = (401, 403)


@dataclass(frozen=True)
class RemotePath:
    """A folder or a file behind a URL, joined with ``/`` as a path is.

    Parameters
    ----------
    url
        Without a slash at its end.
    """

    url: str

    def __truediv__(self, name: str) -> "RemotePath":
        escaped = name if self.url.startswith("s3://") else quote(name)
        return RemotePath(f"{self.url}/{escaped}") if name else self

    def __str__(self) -> str:
        return self.url


def is_url(path: object) -> bool:
    """Tell whether a path is meant to be remote."""
    return "://" in str(path)


def remote_path(url: str) -> RemotePath:
    """Return a URL as a path.

    Raises
    ------
    InputError
        For another scheme, and for a URL with a password or a query: it would be written
        into the provenance, and names no folder.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.netloc:
        raise InputError(
            f"{printable(url)}: expected a URL of {', '.join(SCHEMES)}.",
            "Download it, or mount it as a folder.",
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError(
            f"{parts.scheme}://{parts.hostname}{parts.path}: expected a plain URL, got one with a "
            "password, a query or a fragment.",
            "Credentials of S3 come from the environment, as for aws.",
        )
    return RemotePath(url.rstrip("/"))


@dataclass(frozen=True)
class Span:
    """A part of a file.

    Parameters
    ----------
    start
        First byte; negative for so many at the end.
    stop
        The byte after the last; None for the rest.
    """

    start: int
    stop: int | None = None

    @property
    def header(self) -> str:
        """The part as HTTP's Range."""
        if self.start < 0:
            return f"bytes={self.start}"
        return f"bytes={self.start}-{'' if self.stop is None else self.stop - 1}"


@dataclass(frozen=True)
class Limit:
    """The most bytes of one answer, and what to say of more.

    Parameters
    ----------
    most
        Bytes.
    what
        Of what, for a message.
    """

    most: int
    what: str


def fetch(
    file: RemotePath, limit: Limit, span: Span | None = None, *, probing: bool = False
) -> bytes | None:
    """Return a file or a part of it; None where there is none.

    Parameters
    ----------
    file
        Its URL.
    limit
        Of what is accepted; reading stops there.
    span
        The part; None for the whole.
    probing
        Whether a server that refuses an answer says that there is none: stores that
        may not be listed refuse what they do not have.

    Raises
    ------
    InputError
        Where it is too large, its server refuses, or sends no parts.
    StorageError
        Where the server cannot be reached, or fails three times.
    """
    get = _get_s3 if file.url.startswith("s3://") else _get_http
    for pause in (*PAUSES, None):
        try:
            return get(file, limit, span, probing)
        except _Busy as busy:
            if pause is None:
                raise StorageError(
                    f"Reading {file} failed: {busy}.",
                    "Check the address and the network, then run the command again.",
                ) from busy.__cause__
            logger.debug("%s: %s; once more in %s s", file, busy, pause)
            time.sleep(pause)
    raise AssertionError("unreachable")


def digest(data: bytes) -> dict[str, int | str]:
    """Return what tells one file from another, where there is no time of modification."""
    return {"bytes": len(data), "metadata_sha256": hashlib.sha256(data).hexdigest()}


class _Busy(Exception):
    """An attempt failed in a way that another may not."""


class _Body(Protocol):
    async def read(self, amount: int) -> bytes:
        """Return some bytes, at most `amount`; none at the end."""


async def _read(body: _Body, file: RemotePath, limit: Limit) -> bytes:
    """Read an answer to its end, or refuse it where it goes on for too long."""
    pieces, size = [], 0
    while piece := await body.read(1 << 20):
        pieces.append(piece)
        size += len(piece)
        if size > limit.most:
            raise InputError(
                f"{file} sends more than {limit.most} bytes of {limit.what}.",
                "It is damaged, or no Zarr hierarchy; copy or write it again.",
            )
    return b"".join(pieces)


def _get_http(file: RemotePath, limit: Limit, span: Span | None, probing: bool) -> bytes | None:
    filesystem = _filesystem_for(file, "http")
    import aiohttp
    from yarl import URL

    async def get() -> bytes | None:
        session = await filesystem.set_session()
        headers = {"Accept-Encoding": "identity"} | ({"Range": span.header} if span else {})
        async with session.get(URL(file.url, encoded=True), headers=headers) as answer:
            status = answer.status
            if status in _ABSENT or (probing and status in _REFUSED):
                return None
            if status in _BUSY:
                raise _Busy(f"the server answered {status} {answer.reason}")
            if span is not None and status == 200:
                raise InputError(
                    f"{file}: its server sends no parts of files, which this array needs.",
                    "Download the hierarchy, or use a server that knows Range requests.",
                )
            if status not in (200, 206):
                raise InputError(
                    f"{file}: the server answered {status} {printable(answer.reason)}.",
                    "Check the address, and whether it may be read without a password.",
                )
            return await _read(answer.content, file, limit)

    failures = (aiohttp.ClientError, asyncio.TimeoutError, OSError)
    return _run(filesystem, get, failures)


def _get_s3(file: RemotePath, limit: Limit, span: Span | None, probing: bool) -> bytes | None:
    filesystem = _filesystem_for(file, "s3")
    bucket, _, key = file.url.removeprefix("s3://").partition("/")

    async def get() -> bytes | None:
        part = {"Range": span.header} if span else {}
        try:
            answer = await filesystem._call_s3("get_object", Bucket=bucket, Key=key, **part)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            if probing:
                return None
            raise InputError(
                f"{file}: the store refuses it ({printable(str(error))}).",
                "Credentials come from the environment, as for aws.",
            ) from error
        async with answer["Body"] as body:
            return await _read(body, file, limit)

    from botocore.exceptions import BotoCoreError

    return _run(filesystem, get, (BotoCoreError, asyncio.TimeoutError, OSError))


def _run(
    filesystem: Any,
    get: Callable[[], Awaitable[bytes | None]],
    failures: tuple[type[BaseException], ...],
) -> bytes | None:
    """Run a request on the loop that fsspec keeps for them, from any thread."""
    from fsspec.asyn import sync

    try:
        data: bytes | None = sync(filesystem.loop, get)
    except (InputError, _Busy):
        raise
    except failures as error:
        raise _Busy(printable(str(error) or type(error).__name__).rstrip(".")) from error
    return data


def _filesystem_for(file: RemotePath, kind: str) -> Any:
    try:
        return _filesystem(kind)
    except ImportError as error:
        raise InputError(
            f"{file} is a URL, which is read with the extra 'remote'.",
            "Get it with: pip install 'tomoseg[remote]'",
        ) from error


@functools.cache
def _filesystem(kind: str) -> Any:
    """Return fsspec's file system, of which each process needs one."""
    import aiohttp
    import fsspec

    if kind == "s3":
        import botocore.session

        known = botocore.session.get_session().get_credentials() is not None
        return fsspec.filesystem("s3", anon=not known)
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS
    )
    return fsspec.filesystem("http", client_kwargs={"trust_env": True, "timeout": timeout})
