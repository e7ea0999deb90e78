"""What became of an output: how far it is, what failed, whether its bits are still right."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomoseg.blockwise.journal import (
    JournalWriter,
    Record,
    State,
    journal_folder,
    model_folder,
    read_state,
)
from tomoseg.blockwise.source import identity_now
from tomoseg.errors import InputError, StorageError
from tomoseg.io.omezarr import ArrayStore, Kind, Layout, read_attributes
from tomoseg.io.volume import open_volume


@dataclass(frozen=True)
class Status:
    """State of one output; plain JSON values by `dataclasses.asdict`.

    Parameters
    ----------
    output
        Its path.
    complete
        Whether a run finished it and nothing has been found damaged since.
    shards, done
        Shards in all, and those that are finished. Until the output is complete, those on
        the network's own grid count as well, before those of the output.
    failed
        Error of every shard whose last attempt failed, by number.
    damaged
        Shards whose voxels are not those that were written.
    input_changed
        What of the input is no longer as it was segmented, or why it cannot be opened.
    command
        The command that goes on with it.
    summary
        What the run gave back that finished it; empty before.
    """

    output: str
    complete: bool
    shards: int
    done: int
    failed: dict[int, str]
    damaged: list[int]
    input_changed: list[str]
    command: str
    summary: dict[str, Any]


def layout_of(path: Path) -> tuple[Layout, dict[str, Any]]:
    """Return layout and attributes of an output of `segment`.

    Raises
    ------
    InputError
        Where `path` is none.
    """
    attributes = (path.is_dir() and read_attributes(path)) or {}
    if "layout" not in attributes:
        raise InputError(
            f"{path}: expected an output of tomoseg segment, found none.",
            "Give the path that was given as --out.",
        )
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in attributes["layout"].items()
    }
    return Layout(path=str(path), **values), attributes


def read_status(
    path: Path, *, verify: bool = False, progress: Callable[[str, int, int], None] | None = None
) -> Status:
    """Read the status of an output, and where asked compare every finished shard.

    With `verify`, shards whose voxels differ from what was written are recorded as
    invalid, so that the same ``segment`` command computes them again; and the input is
    compared with what was segmented.
    """
    _, attributes = layout_of(path)
    shards, done = 0, 0
    failed: dict[int, str] = {}
    damaged: list[int] = []
    for image in (model_folder(path), path):
        if not image.is_dir():
            continue
        layout, _ = layout_of(image)
        state, found = _check(layout, verify=verify, progress=progress or (lambda *_: None))
        failed |= {shards + k: record.details["error"] for k, record in state.failed.items()}
        damaged += [shards + k for k in sorted(found)]
        done += len(state.done.keys() - found)
        shards += len(layout.shards(0))
    return Status(
        output=str(path),
        complete=bool(attributes.get("complete")) and done == shards,
        shards=shards,
        done=done,
        failed=failed,
        damaged=damaged,
        input_changed=_input_changes(attributes) if verify else [],
        command=str(attributes.get("command", "")),
        summary=attributes.get("summary", {}),
    )


def _input_changes(attributes: dict[str, Any]) -> list[str]:
    """Return what differs between the input and what is kept of its identity."""
    before = attributes["fingerprint"]["input"]
    try:
        volume = open_volume(attributes["input"]["path"], array=before["array"] or None)
        now = identity_now(volume, attributes["config"]["seed"])
    except InputError as error:
        return [error.message]
    return sorted(key for key, value in now.items() if before[key] != value)


def _check(
    layout: Layout, *, verify: bool, progress: Callable[[str, int, int], None]
) -> tuple[State, set[int]]:
    """Return what an image's journal says, and its damaged shards, recorded where found."""
    folder = journal_folder(Path(layout.path))
    state = read_state(folder)
    found = list(_damaged(layout, state, progress)) if verify else []
    writer = JournalWriter(folder, state.last_run + 1)
    for number in found:
        writer.append(number, "invalid")
    writer.close()
    return state, {*state.invalid, *found}


def _damaged(
    layout: Layout, state: State, progress: Callable[[str, int, int], None]
) -> Iterator[int]:
    stores = {kind: ArrayStore(layout, kind, 0) for kind in layout.kinds()}
    for position, (number, record) in enumerate(state.done.items(), 1):
        if not _intact(stores, layout, number, record):
            yield number
        progress("verify", position, len(state.done))


def _intact(stores: dict[Kind, ArrayStore], layout: Layout, number: int, record: Record) -> bool:
    box = layout.shards(0).cell(number)
    try:
        return all(
            store.digest(box) == record.details["arrays"][kind]["sha256"]
            for kind, store in stores.items()
        )
    except StorageError:
        return False
