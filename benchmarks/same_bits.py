"""Same bits at full size: lanes, workers and SIGKILL against one undisturbed run.

    python benchmarks/same_bits.py TOMOGRAM.mrc --scope volume --kills 30 -- --voxel-size 10

Runs the command line (options after -- are its own); at every kill the whole process group
dies at a random instant, and the next run goes on. Prints the sha256 of both arrays.
"""

import argparse
import os
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from networks import split_arguments, tomoseg

from tomoseg.blockwise.status import layout_of, read_status
from tomoseg.geometry import whole
from tomoseg.io.omezarr import ArrayStore


def digests(output: Path) -> tuple[str, str]:
    layout, _ = layout_of(output)
    image, mask = (
        ArrayStore(layout, kind, 0).digest(whole(layout.shape)) for kind in ("image", "mask")
    )
    return image, mask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tomogram")
    parser.add_argument("--scope", default="none")
    parser.add_argument("--kills", type=int, default=30)
    own, rest = split_arguments()
    chosen = parser.parse_args(own)
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:

        def command(name: str, *more: str) -> list[str]:
            output = Path(folder) / f"{name}.zarr"
            small = ["--scope", chosen.scope, "--core", "64", "--shard", "64"]
            arguments = [*small, "--quiet", *rest, *more]
            return tomoseg("segment", chosen.tomogram, "--out", output, *arguments)

        def show(name: str) -> tuple[str, str]:
            found = digests(Path(folder) / f"{name}.zarr")
            print(f"{name:12} saliency {found[0][:16]} mask {found[1][:16]}", flush=True)
            return found

        started = time.monotonic()
        subprocess.run(command("serial", "--threads", "1"), check=True, stdout=subprocess.DEVNULL)
        whole_run = time.monotonic() - started
        bits = {show("serial")}
        for name, more in (
            ("lanes", ["--threads", "2"]),
            ("workers2", ["--workers", "2", "--threads", "1"]),
            ("workers3", ["--workers", "3", "--threads", "1"]),
        ):
            subprocess.run(command(name, *more), check=True, stdout=subprocess.DEVNULL)
            bits.add(show(name))
        killed = 0
        for _ in range(chosen.kills):
            child = subprocess.Popen(
                command("killed"), start_new_session=True, stdout=subprocess.DEVNULL
            )
            try:
                child.wait(chance.uniform(2, max(4, whole_run / 4)))
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                killed += 1
                child.wait()
        subprocess.run(command("killed"), check=True, stdout=subprocess.DEVNULL)
        bits.add(show("killed"))
        verified = read_status(Path(folder) / "killed.zarr", verify=True).complete
        print(f"{killed} runs killed; verified: {verified}; the same bits: {len(bits) == 1}")
        raise SystemExit(len(bits) != 1)


if __name__ == "__main__":
    main()
