"""What the engine's tests share: a small network, small volumes, whole runs, their bits."""

import hashlib
import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import torch
import zarr
from phantom import phantom

from tomoseg.blockwise import place as place_module
from tomoseg.blockwise import run as run_module
from tomoseg.blockwise.execute import Resources, open_executor
from tomoseg.blockwise.journal import JournalWriter
from tomoseg.blockwise.prepare import prepare
from tomoseg.blockwise.prepared import Request
from tomoseg.blockwise.run import segment
from tomoseg.blockwise.status import layout_of
from tomoseg.config import RefineConfig, SegmentConfig
from tomoseg.geometry import whole
from tomoseg.io.omezarr import ArrayStore
from tomoseg.io.volume import open_volume

SHAPE = (20, 130, 66)
"""Cores of 64 along y have two windows of 96 between them, along x one."""

SCOPES = ("none", "volume", "block")

CASES = (*SCOPES, "resampled", "wide")
"""The scopes; scope ``none`` on a grid of 1.64 times as many voxels along each axis, and with
cores of 128 on such a one."""


def write_volume(path: Path, shape=SHAPE) -> Path:
    zarr.create_array(path, data=phantom(shape, seed=0).density, chunks=(64,) * 3)
    return path


def config(weights, case="none", **changes) -> SegmentConfig:
    elsewhere = {"resampled": ("none", 16.4), "wide": ("none", 20.0)}
    scope, voxel_size = elsewhere.get(case, (case, 10.0))
    rule = "teacher" if scope == "volume" else "majority"  # a teacher looks four times at a block
    refine = RefineConfig(scope, rule, iterations=2, classes=4, sample_blocks=2)
    halo = {"none": 16, "wide": 8}.get(case, 0)  # windows are blended; elsewhere cropped, for speed
    core = 128 if case == "wide" else 64
    values = {"refine": refine, "halo": halo, "shard": core, "core": core}
    values["voxel_size_angstrom"] = voxel_size
    return SegmentConfig(weights=str(weights), **(values | changes))


def run(volume, output, config, *, overwrite=False, stop=None, progress=None, **resources):
    chosen = Resources(**resources)
    request = Request(open_volume(volume), Path(output), config, chosen, overwrite, "a command")
    prepared = prepare(request)
    with open_executor(chosen, stop or threading.Event()) as executor:
        return segment(prepared, executor, progress or (lambda *_: None))


def digests(output) -> dict[str, str]:
    layout, _ = layout_of(Path(output))
    return {
        f"{kind}/{level}": ArrayStore(layout, kind, level).digest(whole(layout.level_shape(level)))
        for kind in ("image", "mask")
        for level in range(layout.levels)
    }


def read(output, kind="image", level=0) -> np.ndarray:
    layout, _ = layout_of(Path(output))
    return ArrayStore(layout, kind, level).read(whole(layout.level_shape(level)))


def array_files(output) -> dict[str, str]:
    """The sha256 of every file of the arrays; what is left of a killed write would show too."""
    return {
        str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path(output).rglob("*")
        if path.is_file() and "c" in path.relative_to(output).parts
    }


def command(volume, output, weights, *more) -> list[str]:
    """The command line of a run, for processes of their own."""
    line = (sys.executable, "-m", "tomoseg_cli.main", "segment", volume, "--out", output)
    return [*map(str, line), *options(weights), *more]


def options(weights) -> list[str]:
    """What every command line here gives."""
    return ["--weights", str(weights), "--voxel-size", "10", "--core", "64", "--shard", "64"]


def run_in_child(volume, output, weights, case, death=None) -> None:
    """Run in a process that is to die: at once where told to, or when its parent wills."""
    torch.set_num_threads(1)
    if death:
        _arrange(*death)
    run(volume, output, config(weights, case))


def _arrange(moment: str, count: int) -> None:
    """Let this process die at the `count`-th time that it comes to a moment."""
    left = [count]

    def die_if_due() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    write, append = ArrayStore.write_shard, JournalWriter.append

    def torn_write(self, box, data):
        write(self, box, data)
        if left[0] == 1:
            for path in self.files(box):
                if path.exists():
                    os.truncate(path, path.stat().st_size // 2)
        die_if_due()

    def unlinked_write(self, box, data):
        if left[0] == 1:
            for path in self.files(box):
                path.unlink(missing_ok=True)
        die_if_due()
        write(self, box, data)

    def append_before_done(self, shard, event, **details):
        if event == "done":
            die_if_due()
        append(self, shard, event, **details)

    def torn_append(self, shard, event, **details):
        append(self, shard, event, **details)
        if left[0] == 1:
            size = self._path.stat().st_size
            os.truncate(self._path, size - 5)
        die_if_due()

    def die_in_pyramid(layout, level, task):
        die_if_due()

    update, remove = run_module.update_attributes, run_module.remove

    def die_before_update(*arguments):
        die_if_due()
        update(*arguments)

    def die_before_removal(*arguments):
        die_if_due()
        remove(*arguments)

    place = place_module.Placer.place

    def die_before_placing(*arguments):
        die_if_due()
        return place(*arguments)

    if moment == "inside a write":
        ArrayStore.write_shard = torn_write
    elif moment == "after the unlink":
        ArrayStore.write_shard = unlinked_write
    elif moment == "between write and journal":
        JournalWriter.append = append_before_done
    elif moment == "inside a journal line":
        JournalWriter.append = torn_append
    elif moment == "in the pyramid":
        run_module.shard.pyramid_shard = die_in_pyramid
    elif moment == "before the end":
        run_module.update_attributes = die_before_update
    elif moment == "on the way back":
        place_module.Placer.place = die_before_placing
    elif moment == "while the scratch goes":
        run_module.remove = die_before_removal
    else:
        raise ValueError(moment)
