"""What is done: an append-only record beside the arrays, one file per writer.

Order of one shard: ``begin``, unlink and write of its files, fsync, ``done``. A file's
existence proves nothing (an all-zero shard has none, a torn one exists), so only the
journal says what is finished. Knows shard numbers, not what a shard is.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tomoseg.errors import StorageError
from tomoseg.io.storage import storage_errors, temporary_sibling, try_lock

Event = Literal["begin", "done", "failed", "invalid"]

SCRATCH = ".tomoseg"
"""Folder in an output that holds journal, lock and refined weights."""


WAIT_SECONDS = 900.0
"""For the workers of a run whose driver died: as long as a shard may take."""


def journal_folder(output: Path) -> Path:
    """Return the folder of an output's journal."""
    return output / SCRATCH / "journal"


def model_folder(output: Path) -> Path:
    """Return where an output keeps saliency on the network's grid until it is placed."""
    return output / SCRATCH / "model"


@dataclass(frozen=True)
class Record:
    """One line of a journal.

    Parameters
    ----------
    run
        Number of the run that wrote it, rising with every run on one output.
    shard
        Number of the shard in the lexicographic order of the shard lattice.
    event
        ``begin`` before its files are touched, ``done`` after they are on disk,
        ``failed`` where it raised, ``invalid`` where its files were found damaged.
    details
        Of ``done``: sha256 and emptiness of each array, seconds. Of ``failed``: the error.
        Of all: the ``job`` of Slurm that wrote it, if one did.
    """

    run: int
    shard: int
    event: Event
    details: dict[str, Any] = field(default_factory=dict)


class JournalWriter:
    """Appends records to a file of its own; safe for the threads of one process.

    Parameters
    ----------
    folder
        The journal's folder, which exists.
    run
        Number of this run.
    """

    def __init__(self, folder: Path, run: int) -> None:
        name = f"{run:06d}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        self._path = folder / name
        job = os.environ.get("SLURM_JOB_ID")
        self._common = {"run": run} | ({"job": job} if job else {})
        self._lock = threading.Lock()
        self._descriptor: int | None = None

    def append(self, shard: int, event: Event, **details: Any) -> None:
        """Append one record; it is on disk when this returns.

        Raises
        ------
        StorageError
            Where the file system refuses.
        """
        record = {**self._common, "shard": shard, "event": event, **details}
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            try:
                if self._descriptor is None:
                    self._path.parent.mkdir(exist_ok=True)
                    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                    self._descriptor = os.open(self._path, flags, 0o644)
                    _sync_folder(self._path.parent)
                _write_all(self._descriptor, line)
                os.fsync(self._descriptor)
            except OSError as error:
                raise StorageError(
                    f"{self._path}: the journal cannot be written ({error.strerror}).",
                    "What is recorded is kept; mend the cause and run the same command again.",
                ) from error

    def close(self) -> None:
        """Close the file; a later `append` opens it again."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


def _write_all(descriptor: int, line: bytes) -> None:
    """Write a whole line, or cut what was written of it and raise."""
    start = os.fstat(descriptor).st_size
    try:
        written = 0
        while written < len(line):
            written += os.write(descriptor, line[written:])
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, start)
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Turn:
    """Whose turn it is to write: of runs that follow each other only the last one's.

    A driver may die while its workers live. The next one raises the number of the run
    before anything else, and waits for whoever still writes; a worker that is told of an
    earlier run afterwards writes nothing. Else its unlink could come after a later ``done``.

    Parameters
    ----------
    folder
        The journal's folder; made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._number, self._writers = folder / "turn", folder / "writers"

    def take(self, run: int, *, seconds: float = WAIT_SECONDS) -> None:
        """Make `run` the last run, and wait for the writers of earlier ones.

        Raises
        ------
        StorageError
            Where one of them has not ended after so many `seconds`.
        """
        with storage_errors("Writing", self._number):
            self._number.parent.mkdir(exist_ok=True)
            temporary = temporary_sibling(self._number)
            temporary.write_text(str(run))
            temporary.replace(self._number)
            deadline = time.monotonic() + seconds
            with self._writers.open("a") as file:
                while not try_lock(file):
                    if time.monotonic() > deadline:
                        raise StorageError(
                            f"{self._writers}: a worker of an earlier run still writes.",
                            "Stop it, then run the same command again.",
                        )
                    time.sleep(0.2)

    @contextlib.contextmanager
    def writing(self, run: int) -> Iterator[None]:
        """Hold off later runs while a shard is written.

        Raises
        ------
        StorageError
            Where a later run has begun.
        """
        with contextlib.ExitStack() as stack:
            with storage_errors("Locking", self._writers):
                self._writers.parent.mkdir(exist_ok=True)
                file = stack.enter_context(self._writers.open("a"))
                if not try_lock(file, shared=True) or self.last() > run:
                    raise StorageError(
                        f"{self._writers}: run {run} is over, a later one has begun.",
                        "Nothing is to be done: the later one computes this shard.",
                    )
            yield

    def last(self) -> int:
        """Return the number of the last run that took its turn, 0 where none did."""
        try:
            return int(self._number.read_text())
        except FileNotFoundError:
            return 0


@dataclass(frozen=True)
class State:
    """What a journal says in sum.

    Parameters
    ----------
    done
        The ``done`` record of every finished shard.
    failed
        The ``failed`` record of every shard whose last attempt raised.
    invalid
        Shards that were found damaged and not yet redone.
    last_run
        Number of the last run, 0 where there was none; of those that wrote a record and of
        those that took their turn.
    """

    done: dict[int, Record]
    failed: dict[int, Record]
    invalid: frozenset[int]
    last_run: int


def read_state(folder: Path) -> State:
    """Read every writer's file and decide for each shard whether it is finished.

    Only a shard's latest run counts. In it, the shard is finished if one writer says so
    and no writer that began it fell silent: a writer that died after unlinking what
    another one had written would otherwise leave a hole. At worst a shard is done twice.
    """
    attempts: dict[int, dict[str, Record]] = {}
    last_run = Turn(folder).last()
    for writer, record in _records(folder):
        last_run = max(last_run, record.run)
        latest = attempts.setdefault(record.shard, {})
        newest = max((r.run for r in latest.values()), default=0)
        if record.run > newest:
            latest.clear()
        if record.run >= newest:
            latest[writer] = record
    done, failed, invalid = {}, {}, set()
    for shard, latest in sorted(attempts.items()):
        by_event = {record.event: record for record in latest.values()}
        if "invalid" in by_event:
            invalid.add(shard)
        elif "failed" in by_event and "done" not in by_event:
            failed[shard] = by_event["failed"]
        elif "done" in by_event and "begin" not in by_event:
            done[shard] = by_event["done"]
    return State(done, failed, frozenset(invalid), last_run)


def _records(folder: Path) -> Iterator[tuple[str, Record]]:
    """Yield (writer, record); a torn last line, left by a killed writer, is not a record."""
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            try:
                values = json.loads(line)
                yield (
                    path.stem,
                    Record(values.pop("run"), values.pop("shard"), values.pop("event"), values),
                )
            except (ValueError, KeyError) as error:
                raise StorageError(
                    f"{path}: expected one JSON record a line, found {line[:60]!r}.",
                    "The journal is damaged: start again with --overwrite.",
                ) from error
