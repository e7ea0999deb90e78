"""Every error that tomoseg raises on purpose, as one tree; knows nothing else of tomoseg.

A message says what was expected and what was found; the hint says what to do. Each
class owns the exit code with which the command line ends::

    TomosegError              1   something failed
    ├── InputError            1   an input that cannot be read as a volume
    ├── StorageError          3   reading or writing broke down; resumable
    ├── Stopped               3   stopped on request, or partly done; resumable
    └── RequestError          2   the request itself cannot be met as it stands
        ├── ExecutorError     2   the workers asked for are not to be had
        ├── OutputExistsError 2   something is there already
        └── FingerprintError  2   an unfinished output belongs to another request
"""

from typing import ClassVar

_LONGEST = 200


class TomosegError(Exception):
    """Something that the user can understand and act on.

    Parameters
    ----------
    message
        What was expected and what was found, one sentence.
    hint
        What to do about it; empty where nothing can be done.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class InputError(TomosegError, ValueError):
    """A file or array cannot be read as a volume, or its metadata can't be trusted."""


class StorageError(TomosegError, OSError):
    """The file system refused: no space, no permission, a read error; what is done is kept."""

    exit_code = 3

    def __str__(self) -> str:
        return TomosegError.__str__(self)


class Stopped(TomosegError):
    """The work stopped before its end, cleanly; the same command goes on."""

    exit_code = 3


class RequestError(TomosegError, ValueError):
    """Flags or settings that can't be met as they stand."""

    exit_code = 2


class ExecutorError(RequestError):
    """The workers that were asked for are not to be had; nothing can run on them."""


class OutputExistsError(RequestError):
    """The output path holds something that would be overwritten, or another run holds it."""


class FingerprintError(RequestError):
    """An unfinished output was begun with other settings, input, weights or versions."""


def printable(text: object) -> str:
    """Return what a file says in a form that a message can show: short, one line, no escapes."""
    shown = text if isinstance(text, str) else f"{text!r}"
    if len(shown) > _LONGEST:
        shown = f"{shown[:_LONGEST]}..."
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown)
