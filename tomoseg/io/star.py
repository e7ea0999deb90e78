"""STAR files, as RELION and Warp write them: blocks of loops and of single values.

Knows the text format and no meaning of any column.
"""

import contextlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from tomoseg.errors import InputError, printable

Block = dict[str, list[str]]
"""Columns by name, without the leading underscore; single values are columns of one row."""


def read_star(path: Path) -> dict[str, Block]:
    """Read the blocks of a STAR file by name, without ``data_``.

    Raises
    ------
    InputError
        Where it cannot be read or is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected a STAR file, got no text.") from error
    blocks: dict[str, Block] = {}
    block: Block | None = None
    names: list[str] = []
    in_loop = False
    for number, line in enumerate(lines, start=1):
        words = _words(line)
        if not words:
            continue
        if words[0].startswith("data_"):
            block, names, in_loop = blocks.setdefault(words[0][5:], {}), [], False
        elif block is None:
            raise _wrong(path, number, line)
        elif words[0] == "loop_":
            names, in_loop = [], True
        elif words[0].startswith("_"):
            name = words[0][1:]
            names.append(name)
            block[name] = [] if in_loop else words[1:2]
        elif not in_loop or len(words) != len(names):
            raise _wrong(path, number, line)
        else:
            for name, word in zip(names, words, strict=True):
                block[name].append(word)
    if not blocks:
        raise InputError(f"{path}: expected a STAR file, found no data block in it.")
    return blocks


def _words(line: str) -> list[str]:
    """Return a line's words, without its comment: what begins with # ends the line."""
    words = line.split()
    if '"' in line or "'" in line:
        with contextlib.suppress(ValueError):
            words = shlex.split(line, comments=False)
    comment = next((n for n, word in enumerate(words) if word.startswith("#")), len(words))
    return words[:comment]


def _wrong(path: Path, number: int, line: str) -> InputError:
    return InputError(f"{path}: expected a STAR file, found {printable(line)} in line {number}.")


def star_text(block: str, columns: Mapping[str, Sequence[str]]) -> str:
    """Return a STAR file with one loop.

    Parameters
    ----------
    block
        Name without ``data_``.
    columns
        Values as they are written, by name without the underscore.
    """
    head = ["", f"data_{block}", "", "loop_"]
    head += [f"_{name} #{number}" for number, name in enumerate(columns, start=1)]
    quoted = [[_quoted(value) for value in values] for values in columns.values()]
    rows = [" ".join(row) for row in zip(*quoted, strict=True)]
    return "\n".join([*head, *rows, ""])


def _quoted(value: str) -> str:
    return f'"{value}"' if not value or any(c.isspace() for c in value) else value
