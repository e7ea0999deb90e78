"""What refinement by default costs: segment with scope volume beside scope none, by turns.

    python benchmarks/refine_cost.py TOMOGRAM.mrc

The options after -- go to tomoseg segment.
"""

import argparse
import tempfile

from children import run_measured
from networks import split_arguments, tomoseg
from scoring import data_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tomogram", nargs="?")
    parser.add_argument("--turns", type=int, default=2)
    own, rest = split_arguments()
    chosen = parser.parse_args(own)
    tomogram = chosen.tomogram or data_folder() / "real" / "emd_1155.mrc"
    print("| scope none, s | scope volume, s | times |\n|---|---|---|")
    for _ in range(chosen.turns):
        seconds = []
        for scope in ("none", "volume"):
            with tempfile.TemporaryDirectory() as folder:
                arguments = ["--out", f"{folder}/out.zarr", "--scope", scope, "--quiet", *rest]
                seconds.append(run_measured(tomoseg("segment", tomogram, *arguments)).seconds)
        plain, refined = seconds
        print(f"| {plain:.1f} | {refined:.1f} | {refined / plain:.2f} |", flush=True)


if __name__ == "__main__":
    main()
