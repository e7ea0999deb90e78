"""Opens thousands of damaged and hostile inputs, and says what came of them.

    python benchmarks/fuzz_inputs.py --count 5000

Valid MRC headers and Zarr hierarchies (v2, v3, sharded, OME-Zarr 0.4 and 0.5) are mutated:
bytes flipped in headers, metadata and chunks, JSON values replaced, keys removed, files
replaced by links and pipes. Each is opened and a small box is read,
in a process whose address space is limited. Case N of a seed is the same in every run
(``--only N`` runs it alone). Ends with 1 where anything but an error of tomoseg comes
out, a case takes more memory or time than it may, or a file is made or changed.
"""

import argparse
import collections
import copy
import faulthandler
import json
import logging
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import mrcfile
import numcodecs
import numpy as np
import zarr

from tomoseg.errors import TomosegError
from tomoseg.geometry import Box
from tomoseg.io.volume import MrcHeader, open_volume

GROWTH_BYTES = 1 << 30
"""What all cases together may add to the address space of the process."""

CASE_SECONDS = 60
"""For a case that never ends; none takes a second."""

SHAPE = (5, 6, 7)
METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs")

NUMBERS: tuple[Any, ...] = (
    *(0, -1, 1, 2, 3, 7, 64, 255, 2**15, 2**31 - 1, 2**31, -(2**31), 2**32, 10**9, 10**11),
    *(10**15, 2**62, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30, 10**400),
    *(0.5, -0.5, 1e-300, 1e38, 1e39, 1e300, float("nan"), float("inf"), float("-inf")),
)
WORDS: tuple[str, ...] = (
    *("", "x", "0", ".", "..", "../secret", "../../secret", "/etc", "a/../../secret", "link"),
    *("pickle", "numcodecs.pickle", "json2", "msgpack2", "vlen-bytes", "vlen-utf8", "object"),
    *("gzip", "zstd", "blosc", "lz4", "bytes", "transpose", "sharding_indexed", "crc32c"),
    *("|O", "O", "<U9", "|S9", "|V9", "|V8000000000", "<c8", "<M8[s]", ">f4", "float64", "<f16"),
    *("big", "little", "F", "/", ".", "default", "v2", "array", "group", "regular", "NaN"),
    *("z", "y", "x", "t", "angstrom", "scale", "\0", "\x1b]0;title\x07", "\ud800", "A" * 5000),
)


class Hang(BaseException):
    """A case took longer than `CASE_SECONDS`."""


@dataclass
class Report:
    """What came of the cases: counts by kind of input and outcome, and the failures."""

    outcomes: collections.Counter[tuple[str, str]] = field(default_factory=collections.Counter)
    messages: collections.Counter[str] = field(default_factory=collections.Counter)
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = sorted({kind for kind, _ in self.outcomes})
        names = sorted({name for _, name in self.outcomes})
        lines = ["".join(f"{text:>16}" for text in ("input", *names))]
        for kind in kinds:
            counts = [self.outcomes[kind, name] for name in names]
            lines.append("".join(f"{text:>16}" for text in (kind, *counts)))
        return "\n".join([*lines, *self.failures])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of one case, whose traceback is shown")
    arguments = parser.parse_args()
    faulthandler.enable()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    numbers = range(arguments.count) if arguments.only is None else [arguments.only]
    with tempfile.TemporaryDirectory() as folder:
        report, grown = run(Path(folder), arguments.seed, numbers)
    if arguments.only is not None:
        print(*report.messages, sep="\n")
    print(report)
    print(f"{len(numbers)} cases, seed {arguments.seed}: {len(report.failures)} failures")
    print(f"peak resident memory grew by {grown / 1e6:.0f} MB")
    return 1 if report.failures else 0


def run(folder: Path, seed: int, numbers: Any) -> tuple[Report, int]:
    """Run cases in `folder`; return the report, and the growth of resident memory in bytes."""
    valid = folder / "valid"
    seeds = make_valid(valid)
    (folder / "secret").mkdir()
    zarr.create_array(folder / "secret", data=np.full(SHAPE, 42, "i2"), overwrite=True)
    os.chdir(folder)
    for path in seeds.values():
        open_and_read(path, random.Random(0))  # the threads and modules that any input needs
    before = _peak_bytes()
    report = Report()
    signal.signal(signal.SIGALRM, _hang)
    with limited_memory():
        for number in numbers:
            source = random.Random(f"{seed}/{number}")
            kind = source.choice(sorted(seeds))
            target = folder / "case" / seeds[kind].name
            _copy(seeds[kind], target)
            mutate(target, source)
            run_case(report, f"case {number}, {kind}", kind, target, source)
    return report, _peak_bytes() - before


def run_case(report: Report, name: str, kind: str, path: Path, source: random.Random) -> None:
    """Open one input, and add what came of it to the report."""
    folder = Path.cwd()
    state = snapshot(folder)
    signal.alarm(CASE_SECONDS)
    try:
        open_and_read(path, source)
        outcome = "read"
    except TomosegError as error:
        outcome = type(error).__name__
        report.messages[str(error)] += 1
        if any(isinstance(cause, MemoryError) for cause in _causes(error)):
            report.failures.append(f"{name}: memory was asked for, {error}")
    except (Exception, Hang) as error:  # what this is made to find
        outcome = type(error).__name__
        report.failures.append(f"{name}: {traceback.format_exc(limit=-3)}")
    finally:
        signal.alarm(0)
    report.outcomes[kind, outcome] += 1
    if snapshot(folder) != state:
        report.failures.append(f"{name}: files were made or changed")


def open_and_read(path: Path, source: random.Random) -> None:
    """Do what every command does with an input."""
    volume = open_volume(path)
    start = [source.randrange(n) for n in volume.shape]
    stop = [min(n, a + source.randint(1, 3)) for a, n in zip(start, volume.shape, strict=True)]
    with volume.reader() as reader:
        for box in (Box((0, 0, 0), (1, 1, 1)), Box(tuple(start), tuple(stop))):
            data = reader.read(box)
            if data.shape != box.shape or data.dtype != volume.dtype or (data == 42).all():
                raise AssertionError(f"{data.dtype} {data} for {box} of {volume}")


def make_valid(folder: Path) -> dict[str, Path]:
    """Write one input of each kind and return their paths; none of their voxels is 42."""
    folder.mkdir()
    data = np.arange(100, 100 + np.prod(SHAPE)).reshape(SHAPE).astype("i2")
    paths = {}
    for name, order in (("mrc", "<"), ("mrc big-endian", ">")):
        paths[name] = folder / f"{name.replace(' ', '-')}.mrc"
        with mrcfile.new(paths[name]) as mrc:
            mrc.set_data(data.astype(f"{order}i2"))
            mrc.set_extended_header(np.ones(80, "V1"))
            mrc.set_volume()
            mrc.voxel_size = 7.0
            mrc.add_label("../../label")
    for name, options in _arrays().items():
        paths[name] = folder / f"{name.replace(' ', '-')}.zarr"
        zarr.create_array(paths[name], data=data, **options)
    for version, name in ((2, "ome 0.4"), (3, "ome 0.5")):
        paths[name] = folder / f"{name.replace(' ', '-')}.zarr"
        _make_ome(paths[name], data, version)
    return paths


def _arrays() -> dict[str, dict[str, Any]]:
    small, delta = (4, 4, 4), [numcodecs.Delta("<i2")]
    return {
        "v2": {"zarr_format": 2, "chunks": small, "filters": delta},
        "v2 zlib": {"zarr_format": 2, "chunks": small, "compressors": numcodecs.Zlib()},
        "v3": {"zarr_format": 3, "chunks": small},
        "v3 gzip": {"zarr_format": 3, "chunks": small, "compressors": zarr.codecs.GzipCodec()},
        "v3 sharded": {"zarr_format": 3, "chunks": (2, 2, 2), "shards": small},
    }


def _make_ome(path: Path, data: np.ndarray, version: Any) -> None:
    group = zarr.open_group(path, mode="w", zarr_format=version)
    group.create_array("0", data=data, chunks=(4, 4, 4))
    image = {
        "axes": [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"],
        "datasets": [
            {
                "path": "0",
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1.0, 1.0, 1.0]},
                    {"type": "translation", "translation": [3.0, 4.0, 5.0]},
                ],
            }
        ],
    }
    ome = {"multiscales": [image]}
    header = MrcHeader(shape_zyx=SHAPE, labels=("../../label",)).to_dict()
    group.attrs.update({**({"ome": ome} if version == 3 else ome), "tomoseg": {"mrc": header}})


def mutate(path: Path, source: random.Random) -> None:
    """Damage an input in one to three places."""
    if path.is_file():
        file, change = path, _change_header
    else:
        change = source.choices((_change_json, _change_bytes, _change_links), (8, 2, 1))[0]
        files = sorted(p for p in path.rglob("*") if p.is_file())
        if change is not _change_bytes:
            files = [p for p in files if p.name in METADATA]
        file = source.choice(files)
    for _ in range(source.choice((1, 1, 1, 2, 3))):
        change(file, source)


def _change_header(file: Path, source: random.Random) -> None:
    """Write extreme values or noise over fields of an MRC header, or cut the file."""
    raw = bytearray(file.read_bytes())
    kind = source.randrange(8)
    order = source.choice("<>")
    if kind == 0:
        del raw[source.randrange(len(raw)) :]
    elif kind <= 2:
        _flip(raw, source, 1024)
    elif len(raw) >= 1024:
        counts = (*range(10), 23)  # sizes, mode, starts, intervals, extended header
        word = source.choice(counts) if kind <= 5 else source.randrange(256)
        value = source.choice([n for n in NUMBERS if isinstance(n, int) and -(2**31) <= n < 2**31])
        if kind == 7:
            value = int(np.float32(source.choice((np.nan, np.inf, -1e38, 1e38, 0.0))).view("i4"))
        raw[4 * word : 4 * word + 4] = np.array(value, f"{order}i4").tobytes()
    file.write_bytes(raw)


def _change_bytes(file: Path, source: random.Random) -> None:
    raw = bytearray(file.read_bytes())
    if source.random() < 0.2:
        del raw[source.randrange(len(raw) + 1) :]
    else:
        _flip(raw, source, len(raw))
    file.write_bytes(raw)


def _flip(raw: bytearray, source: random.Random, limit: int) -> None:
    for _ in range(source.randint(1, 8)):
        if raw:
            at = source.randrange(min(limit, len(raw)))
            raw[at] ^= 1 << source.randrange(7 if raw[:1] == b"{" else 8)  # ASCII stays ASCII


def _change_links(file: Path, source: random.Random) -> None:
    """Put a link or a pipe where metadata, an array or a chunk were."""
    victim = source.choice([file, *sorted(p for p in file.parent.iterdir())])
    if victim.is_dir() and not victim.is_symlink():
        shutil.rmtree(victim)
    else:
        victim.unlink(missing_ok=True)
    name = victim.name if victim.name in METADATA else ""
    targets = (Path("/dev/zero"), Path("/etc"), Path.cwd() / "secret" / name, victim, Path("c"))
    target = source.choice((*targets, None))
    if target is None:
        os.mkfifo(victim)
    else:
        victim.symlink_to(target)


def _change_json(file: Path, source: random.Random) -> None:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return
    places = list(_places(content))
    if not places:
        return
    holder, key = source.choice(places)
    action = source.randrange(10)
    if action == 0:
        del holder[key]
    elif action == 1 and isinstance(holder, list):
        holder.extend(copy.deepcopy(holder[key]) for _ in range(source.choice((1, 40))))
    else:
        holder[key] = _value(holder[key], source)
    file.write_text(json.dumps(content), encoding="utf-8", errors="surrogatepass")


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every (holder, key) of JSON values."""
    keys: Any = ()
    if isinstance(content, dict):
        keys = list(content)
    elif isinstance(content, list):
        keys = range(len(content))
    for key in keys:
        yield content, key
        yield from _places(content[key])


def _value(old: Any, source: random.Random) -> Any:
    """Return another value: most often one of the same type, so that more of it is believed."""
    makers: tuple[Callable[[], Any], ...] = (
        lambda: source.choice(NUMBERS),
        lambda: source.choice(WORDS),
        lambda: source.choice((None, True, False, [], {}, [[]], {"": {}}, [None])),
        lambda: [source.choice(NUMBERS) for _ in range(source.randint(1, 4))],
        lambda: _nested(source.choice((3, 60, 400))),
        lambda: "B" * 100_000,
    )
    if type(old) is int and abs(old) < 2**64 and source.random() < 0.5:
        return source.choice((old - 1, old + 1, 2 * old, old // 2, -old, str(old), float(old)))
    if isinstance(old, str):
        weights = (1, 8, 1, 1, 1, 1)
    elif isinstance(old, list):
        weights = (1, 1, 2, 8, 1, 1)
    else:
        weights = (8, 2, 2, 1, 1, 1)
    return source.choices(makers, weights)[0]()


def _nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"codecs": value}
    return value


def _copy(source: Path, target: Path) -> None:
    shutil.rmtree(target.parent, ignore_errors=True)
    target.parent.mkdir()
    (shutil.copytree if source.is_dir() else shutil.copy)(source, target)


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return mode, size and time of everything in a folder."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns)
    return found


class limited_memory:
    """Let the address space grow by `GROWTH_BYTES` and no more."""

    def __enter__(self) -> None:
        self._before = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + GROWTH_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, self._before[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_AS, self._before)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _hang(signal_number: int, frame: FrameType | None) -> None:
    raise Hang(f"more than {CASE_SECONDS} s")


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # a thread that waits for a pipe for ever would keep the process
