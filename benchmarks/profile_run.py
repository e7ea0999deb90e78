"""Where the time of a run goes: samples of what each thread does, as a table and a figure.

    python benchmarks/profile_run.py --edge 320 --figure profile.png

Segments a float32 MRC volume of noise in this process, scope none, with the shipped network and
one lane for each core; every few milliseconds each thread that is at work is asked for the
innermost function of tomoseg that it is in.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

import matplotlib.pyplot as plt
from speed import write_volume

from tomoseg.blockwise.execute import Resources, open_executor
from tomoseg.blockwise.prepare import prepare
from tomoseg.blockwise.prepared import Request
from tomoseg.blockwise.run import segment
from tomoseg.config import RefineConfig, SegmentConfig
from tomoseg.io.volume import open_volume

INTERVAL = 0.005
WAITING = ("threading.py", "selectors.py", "queue.py", "thread.py")

PARTS = {
    ("layers.py", "_convolution"): "network: convolutions",
    ("attention.py", "_attend"): "network: local attention, sums",
    ("attention.py", "_product"): "network: local attention, weights",
    ("attention.py", "_weights"): "network: local attention, weights",
    ("attention.py", ""): "network: global attention",
    ("layers.py", ""): "network: the rest",
    ("usalnet.py", ""): "network: the rest",
    ("predict.py", ""): "network: the rest",
    ("intensity.py", ""): "normalising",
    ("statistics.py", ""): "normalising",
    ("mrc.py", ""): "reading the input",
    ("blend.py", "contribution"): "blending",
    ("blend.py", ""): "placing",
    ("place.py", ""): "placing",
    ("shard.py", ""): "windows: cutting, padding, adding",
    ("write.py", ""): "hashing, masks",
    ("omezarr.py", ""): "Zarr: compressing, writing, reading",
    ("storage.py", ""): "Zarr: compressing, writing, reading",
    ("seams.py", ""): "seam measure",
    ("pyramid.py", ""): "pyramid",
}
"""What a function of a file belongs to; a function of no name stands for the others."""


def part_of(frame: FrameType | None) -> str | None:
    """Return the part of the work that a thread is at; None where it waits."""
    if frame is None or Path(frame.f_code.co_filename).name in WAITING:
        return None
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if "tomoseg" in path.parts and "site-packages" not in path.parts:
            for name in (frame.f_code.co_name, ""):
                if found := PARTS.get((path.name, name)):
                    return found
        frame = frame.f_back
    return None


def sample(into: Counter[str], ended: threading.Event) -> None:
    """Count what the other threads do until the end."""
    own = threading.get_ident()
    while not ended.wait(INTERVAL):
        for number, frame in sys._current_frames().items():
            if number != own and (found := part_of(frame)):
                into[found] += 1


def draw(shares: list[tuple[str, float]], path: str) -> None:
    names, values = zip(*reversed(shares), strict=True)
    figure, axes = plt.subplots(figsize=(7, 0.32 * len(names) + 0.8), layout="constrained")
    bars = axes.barh(
        names, values, color=["#4477aa" if "network" in n else "#bb8844" for n in names]
    )
    axes.bar_label(bars, fmt="%.1f %%", padding=3)
    axes.set_xlabel("share of the time of all threads at work, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.15)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=320)
    parser.add_argument("--figure")
    chosen = parser.parse_args()
    counts: Counter[str] = Counter()
    ended = threading.Event()
    sampler = threading.Thread(target=sample, args=(counts, ended))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "volume.mrc")
        write_volume(source, chosen.edge)
        resources = Resources()
        config = SegmentConfig(refine=RefineConfig("none"))
        request = prepare(Request(open_volume(source), Path(folder, "out.zarr"), config, resources))
        sampler.start()
        started = time.perf_counter()
        with open_executor(resources, threading.Event()) as executor:
            segment(request, executor, lambda *_: None)
        seconds = time.perf_counter() - started
        ended.set()
        sampler.join()
    shares = [(name, 100 * count / counts.total()) for name, count in counts.most_common()]
    print(f"{chosen.edge}^3 voxels in {seconds:.1f} s, {counts.total()} samples\n")
    print("| part | share |\n|---|---|")
    for name, share in shares:
        print(f"| {name} | {share:.1f} % |")
    if chosen.figure:
        draw(shares, chosen.figure)


if __name__ == "__main__":
    main()
