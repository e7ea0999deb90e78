"""The accuracy of a network without refinement, at home and elsewhere, beside baselines.

    python benchmarks/pretrained.py --weights random:0 --json pretrained.json
    python benchmarks/pretrained.py --weights random:0 --beside pretrained.json -- --scope volume

Home: simulated tomograms of complexes that were not trained on, one plain microscope, full
tilt series, 10 A, SNR 0.5 and 1.5. Elsewhere: every style of
`tomoseg.evaluation.elsewhere`. A 3-D
network runs as ``tomoseg segment --scope none`` (options after -- are passed on), a 2-D one
on slices across the three axes. Prints Markdown: means and 95 % bootstrap intervals, and the
gains over what an earlier call wrote, tomogram by tomogram.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from networks import split_arguments
from scoring import (
    NETWORK,
    RIVAL,
    Results,
    evaluate_slices,
    evaluate_volume,
    load_2d,
    structures,
)

from tomoseg.evaluation.cases import Tomogram, elsewhere, home
from tomoseg.evaluation.elsewhere.imaging import STYLES
from tomoseg.evaluation.intervals import cell

SNRS = (0.5, 1.5)

GAINS = {
    "max F": ("maximum_f", 1),
    "max E": ("maximum_e", 1),
    "S": ("structure", 1),
    "MAE": ("mean_absolute_error", -1),
    "adaptive F": ("adaptive_f", 1),
    "adaptive E": ("adaptive_e", 1),
}
"""Scores that are compared with an earlier call's, and which way is up."""

Case = tuple[str, Tomogram]
"""The name of a data set, and one of its tomograms."""


def cases(count: int, seeds: int, styles: list[str]) -> Iterator[Case]:
    """Yield every tomogram to score with the name of its data set, one set after the other."""
    for data in map(home, SNRS):
        for number in range(count):
            yield data.name, data.make(number, structures())
    for data in map(elsewhere, styles):
        for number in range(seeds):
            yield data.name, data.make(number, structures())


def run(
    found: Iterator[tuple[str, Tomogram]], weights: str, dim: int, options: list[str]
) -> Results:
    """Score every case; print a table as soon as its data set is done."""
    results = Results()
    model = load_2d(weights) if dim == 2 else None
    last = ""
    for data, tomogram in found:
        if last not in ("", data):
            print(results.table(last), flush=True)
        last = data
        if model:
            scores = evaluate_slices(tomogram, model)
        else:
            scores = evaluate_volume(tomogram, weights, *options)
        for method, values in scores.items():
            results.add(data, method, values)
    if last:
        print(results.table(last), flush=True)
    return results


def overview(results: Results) -> str:
    """Return maximum F of the network and of its rival, and their paired difference."""
    lines = [f"\n| max F | network | {RIVAL} | difference |", "|---|---|---|---|"]
    for data, methods in results.values.items():
        network, rival = (methods[name]["maximum_f"] for name in (NETWORK, RIVAL))
        if any(network):
            more = [a - b for a, b in zip(network, rival, strict=True)]
            lines.append(f"| {data} | {cell(network)} | {cell(rival)} | {cell(more)} |")
    return "\n".join(lines)


def gains(results: Results, earlier: dict[str, Any]) -> str:
    """Return what the network gained over an earlier call's, on the tomograms that both have.

    Each cell: mean and interval; how many gain; the worst. What is empty is left out.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for data in results.values.keys() & earlier.keys() - {"empty"}:
        before, now = earlier[data][NETWORK], results.values[data][NETWORK]
        for kind in (data, *(["home, both"] if data.startswith("home") else []), "all"):
            rows = found.setdefault(kind, {title: [] for title in GAINS})
            for title, (name, sign) in GAINS.items():
                pairs = zip(before[name]["values"], now[name], strict=False)
                rows[title] += [sign * (b - a) for a, b in pairs]
    lines = [f"\n| gain | tomograms | {' | '.join(GAINS)} |", "|---" * (len(GAINS) + 2) + "|"]
    for kind, rows in sorted(found.items()):
        cells = [f"{cell(v)}; {sum(x > 0 for x in v)}; {min(v):+.4f}" for v in rows.values()]
        lines.append(f"| {kind} | {len(rows['S'])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="random:0")
    parser.add_argument("--dim", type=int, choices=(2, 3), default=3)
    parser.add_argument("--count", type=int, default=20, help="home tomograms at each SNR")
    parser.add_argument("--seeds", type=int, default=3, help="tomograms of each style")
    parser.add_argument("--styles", nargs="*", choices=list(STYLES), default=list(STYLES))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--beside", type=Path, help="what --json of an earlier call wrote")
    own, rest = split_arguments()
    chosen = parser.parse_args(own)
    found = cases(chosen.count, chosen.seeds, chosen.styles)
    results = run(found, chosen.weights, chosen.dim, rest)
    print(overview(results))
    if chosen.beside:
        print(gains(results, json.loads(chosen.beside.read_text())["results"]))
    if chosen.json:
        record = {"weights": chosen.weights, "dim": chosen.dim, "options": rest}
        text = json.dumps(record | {"results": results.summary()}, indent=1)
        chosen.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
