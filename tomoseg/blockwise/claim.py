"""Whose an output is: creating it whole, locking it, going on with it, replacing it.

Knows attributes and folders; knows nothing of shards. An output appears under its name
only with all its metadata, and a finished one is replaced only by a finished one.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomoseg.blockwise.journal import SCRATCH
from tomoseg.blockwise.plan import check_fingerprint
from tomoseg.errors import OutputExistsError
from tomoseg.io.omezarr import read_attributes
from tomoseg.io.storage import lock, publish, remove, storage_errors


@dataclass(frozen=True)
class Claim:
    """An output that this process alone may write to.

    Parameters
    ----------
    path
        Where the arrays are written now.
    final
        Where the user wants them: `path`, or a finished output that it will replace.
    resumed
        Whether `path` was there already, begun by the same request.
    """

    path: Path
    final: Path
    resumed: bool

    def publish(self) -> None:
        """Put the finished output where the user wants it."""
        if self.path != self.final:
            publish(self.path, self.final, overwrite=True)


@contextlib.contextmanager
def claim(
    final: Path,
    *,
    create: Callable[[Path], None],
    fingerprint: dict[str, Any],
    overwrite: bool,
    shared: bool = False,
) -> Iterator[Claim]:
    """Create an output, or take up one that the same request began; locked while open.

    Parameters
    ----------
    final
        The output's path.
    create
        Called with a path where nothing is, creates the output there, all of it or
        nothing; its attributes hold `fingerprint`.
    fingerprint
        Of this request.
    overwrite
        Whether something else at `final` may go. A finished output goes only when its
        successor is finished.
    shared
        Whether other processes that ask for it so may work on it too.

    Raises
    ------
    OutputExistsError
        Where `final` holds something else, or another process works on it.
    FingerprintError
        Where another request began it.
    """
    _finish_replacing(final)
    path = final
    if overwrite and _attributes(final).get("complete"):
        path = _successor(final)
    with contextlib.ExitStack() as stack:
        resumed = False
        if shared and not os.path.lexists(path):
            with contextlib.suppress(OutputExistsError):  # another one may be quicker
                create(path)
        if os.path.lexists(path):
            stack.enter_context(_locked(_own(path), shared=shared))
            resumed = _same_request(path, fingerprint, overwrite)
            if not resumed:
                stack.close()
                with storage_errors("Removing", path):
                    shutil.rmtree(path)
        if not resumed:
            create(path)
            stack.enter_context(_locked(path))
        if not shared:
            for leftover in path.parent.glob(f".{path.name}.*.partial"):
                remove(leftover)  # of a run that was killed while it created or replaced
        yield Claim(path, final, resumed)


def _same_request(path: Path, fingerprint: dict[str, Any], overwrite: bool) -> bool:
    found = _attributes(path).get("fingerprint", {})
    if overwrite and found != fingerprint:
        return False
    check_fingerprint(found, fingerprint)
    return True


def _attributes(path: Path) -> dict[str, Any]:
    return (path.is_dir() and read_attributes(path)) or {}


def _own(path: Path) -> Path:
    """Refuse a path that holds something which tomoseg segment did not make."""
    if "fingerprint" not in _attributes(path):
        raise OutputExistsError(
            f"{path}: expected nothing there or an output of tomoseg segment, found neither.",
            "Choose another --out; what tomoseg did not make it does not remove.",
        )
    return path


def _successor(final: Path) -> Path:
    return final.with_name(f".{final.name}.replacing")


def _finish_replacing(final: Path) -> None:
    """End a replacement that was killed between its two renames."""
    successor = _successor(final)
    if not final.exists() and _attributes(successor).get("complete"):
        successor.rename(final)


def _locked(path: Path, *, shared: bool = False) -> contextlib.AbstractContextManager[None]:
    return lock(path, path / SCRATCH, shared=shared)
