"""Durable files: atomic JSON, flushed folders, temporary siblings, refusals made readable.

Knows the file system and no formats.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import socket
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tomoseg.errors import (
    InputError,
    OutputExistsError,
    RequestError,
    StorageError,
    TomosegError,
    printable,
)

_HINTS = {
    errno.ENOSPC: "Free some space and run the same command again; what is done is kept.",
    errno.EDQUOT: "Free some of your quota and run the same command again; what is done is kept.",
    errno.EACCES: "Check the permissions of the folder, or choose another place.",
    errno.EPERM: "Check the permissions of the folder, or choose another place.",
    errno.EROFS: "The file system is read-only; choose another place.",
    errno.EIO: "The disk or the network failed; check it and run the same command again.",
    errno.ESTALE: "The network file system failed; run the same command again.",
}

ZARR_METADATA = ("zarr.json", ".zgroup", ".zarray")
"""Files that make a folder a node of a Zarr hierarchy."""


@contextlib.contextmanager
def storage_errors(doing: str, path: str | Path) -> Iterator[None]:
    """Turn what the operating system refuses into a `StorageError` that says what to do.

    Parameters
    ----------
    doing
        What was being done, as the beginning of a sentence: ``"Writing"``.
    path
        To what.

    Raises
    ------
    StorageError
        For every OSError within, with the operating system's ``errno`` kept.
    """
    try:
        yield
    except TomosegError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        hint = _HINTS.get(error.errno or 0, "Check the file system, then run the command again.")
        failure = StorageError(f"{doing} {path} failed: {reason}.", hint)
        failure.errno = error.errno
        raise failure from error


@contextlib.contextmanager
def library_errors(kind: type[TomosegError], message: str, hint: str) -> Iterator[None]:
    """Turn whatever Zarr or a codec raises into one error of ours.

    Parameters
    ----------
    kind
        Class of the error.
    message
        What failed; what the library said is added.
    hint
        What to do about it.

    Raises
    ------
    TomosegError
        Of `kind`, for everything but what is ours already or the operating system's.
    """
    try:
        yield
    except TomosegError:
        raise
    except Exception as error:  # damaged metadata and chunks fail in every way there is
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the operating system's; those of gzip and bz2 have no number
        said = printable(str(error) or type(error).__name__)
        raise kind(f"{message}: {said.rstrip('.')}.", hint) from error


def size_within(root: Path, path: Path) -> int | None:
    """Return the bytes of a file of a hierarchy; None where there is none.

    Parameters
    ----------
    root
        Folder of the hierarchy.
    path
        Below it.

    Raises
    ------
    InputError
        Where links lead out of the hierarchy, so that another's file would be read, or the
        file is a pipe or a device, which may have no end.
    OSError
        Where the operating system refuses.
    """
    real = os.path.realpath(path)
    if not Path(real).is_relative_to(os.path.realpath(root)):
        raise InputError(
            f"{path} leads out of {root}, which is not followed.",
            "Copy the hierarchy with what its links stand for: cp -RL.",
        )
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(f"{path} is a link to itself.", "Copy the hierarchy again.") from error
        raise
    if stat.S_ISDIR(status.st_mode):
        return None
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path} is no regular file.", "Copy or write the hierarchy again.")
    return status.st_size


def fsync(path: Path) -> None:
    """Flush a file or a folder to the disk; a file that is not there is passed over."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file so that readers see the old or the new content, never a part.

    Raises
    ------
    StorageError
        Where the file system refuses.
    """
    text = json.dumps(content, indent=2, allow_nan=False)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    with storage_errors("Writing", path):
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fsync(path.parent)


@contextlib.contextmanager
def lock(path: Path, folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of an output; the system gives it back when this process ends, however.

    Parameters
    ----------
    path
        The output, as messages name it.
    folder
        Where the file ``lock`` lies; made where it is missing, but not what is above it.
    shared
        Whether others that ask for it so may hold it too.

    Raises
    ------
    OutputExistsError
        Where another process holds it.
    StorageError
        Where the file system refuses.
    """
    with contextlib.ExitStack() as stack:
        with storage_errors("Locking", path):
            folder.mkdir(exist_ok=True)
            descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o664)
            file = stack.enter_context(os.fdopen(descriptor, "a+"))
            if not try_lock(file, shared=shared):
                file.seek(0)
                raise OutputExistsError(
                    f"{path}: another run works on it ({file.read().strip() or 'unknown'}).",
                    "Wait for its end, or choose another --out.",
                ) from None
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        yield


def try_lock(file: IO[Any], *, shared: bool = False) -> bool:
    """Lock an open file until it is closed; tell whether that could be done at once."""
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def temporary_sibling(path: Path) -> Path:
    """Return a new name beside `path`, on the same file system, that renames onto it."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")


def require_writable(path: Path, *, overwrite: bool) -> None:
    """Refuse a destination that holds something which must not be replaced.

    Parameters
    ----------
    path
        The destination.
    overwrite
        Whether a file, or a folder that is Zarr, may be replaced.

    Raises
    ------
    OutputExistsError
        Where something is there and `overwrite` is false.
    RequestError
        Where a folder is there that is no Zarr hierarchy: that is never replaced.
    """
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise OutputExistsError(
            f"{path} exists already.", "Choose another name, or pass --overwrite."
        )
    if path.is_dir() and not any((path / name).exists() for name in ZARR_METADATA):
        raise RequestError(
            f"{path} is a folder and not a Zarr hierarchy; it is not replaced.",
            "Choose another name.",
        )


def publish(temporary: Path, destination: Path, *, overwrite: bool) -> None:
    """Rename finished output to its name; what was there is removed only afterwards.

    Raises
    ------
    OutputExistsError
        Where something appeared under the name meanwhile.
    StorageError
        Where the file system refuses.
    """
    require_writable(destination, overwrite=overwrite)
    with storage_errors("Writing", destination):
        if not destination.is_dir() or destination.is_symlink():
            temporary.replace(destination)
        else:
            old = temporary_sibling(destination)
            destination.rename(old)
            temporary.rename(destination)
            shutil.rmtree(old)
        fsync(destination.parent)


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there; used on temporary output only."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
