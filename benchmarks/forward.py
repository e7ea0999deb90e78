"""What one window costs a core, by edge and precision; and what its parts cost.

    python benchmarks/forward.py --edges 64 96 128

CPU seconds of one forward pass in one lane, the least of --turns, turn about, and the peak of the
process's memory; then the share of each of torch's operations in the first edge's float32 pass.
What is salient in bfloat16 differs from float32 by the largest and mean difference printed.
"""

import argparse
import resource
import time

import torch

from tomoseg.errors import RequestError
from tomoseg.saliency.lanes import lane_setup, require_precision
from tomoseg.saliency.usalnet import USalNet
from tomoseg.saliency.weights import load

PRECISIONS = ("float32", "bfloat16")
SHOWN = 8


def seconds(network: USalNet, window: torch.Tensor) -> float:
    started = time.process_time()
    network.logits(window)
    return time.process_time() - started


def parts(network: USalNet, window: torch.Tensor) -> None:
    """Print the operations that take most."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        network.logits(window)
    events = sorted(profile.key_averages(), key=lambda e: e.self_cpu_time_total, reverse=True)
    total = sum(event.self_cpu_time_total for event in events)
    print("\n| operation | share | calls |\n|---|---|---|")
    for event in events[:SHOWN]:
        share = 100 * event.self_cpu_time_total / total
        print(f"| `{event.key}` | {share:.0f} % | {event.count} |")


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="vnet3d")
    parser.add_argument("--edges", nargs="+", type=int, default=[96])
    parser.add_argument("--turns", type=int, default=5)
    chosen = parser.parse_args()
    network, _ = load(chosen.weights)
    lane_setup()
    precisions = list(PRECISIONS)
    try:
        require_precision("bfloat16", "cpu")
    except RequestError as error:
        print(error)
        precisions.remove("bfloat16")
    print("| edge | precision | CPU seconds | Mvoxel/s | largest, mean difference |")
    print("|---|---|---|---|---|")
    for edge in chosen.edges:
        window = torch.randn((1, 1, *(edge,) * 3), generator=torch.Generator().manual_seed(0))
        windows = {p: window.to(getattr(torch, p)) for p in precisions}
        exact = network.logits(window).sigmoid()
        taken: dict[str, list[float]] = {p: [] for p in precisions}
        for _ in range(chosen.turns):
            for precision, values in windows.items():
                taken[precision].append(seconds(network, values))
        for precision, values in windows.items():
            difference = (network.logits(values).sigmoid() - exact).abs()
            best = min(taken[precision])
            print(
                f"| {edge} | {precision} | {best:.3f} | {edge**3 / best / 1e6:.2f} "
                f"| {difference.max():.4f}, {difference.mean():.6f} |",
                flush=True,
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak resident memory so far, interpreter and all: {peak:.0f} MiB")
    parts(network, torch.randn(1, 1, *(chosen.edges[0],) * 3))


if __name__ == "__main__":
    main()
