"""The seam measure over the halo, for every scope, on one tomogram.

    python benchmarks/seams.py TOMOGRAM.mrc --scopes none volume block --halos 0 16 32

prints a Markdown table. The options after -- go to tomoseg segment.
"""

import argparse
import json
import tempfile

from children import run_measured
from networks import split_arguments, tomoseg


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tomogram")
    parser.add_argument("--scopes", nargs="+", default=["none", "volume"])
    parser.add_argument("--halos", nargs="+", type=int, default=[0, 16, 32])
    own, rest = split_arguments()
    chosen = parser.parse_args(own)
    print("| scope | halo | seam measure | salient | seconds |\n|---|---|---|---|---|", flush=True)
    for scope in chosen.scopes:
        for halo in chosen.halos:
            with tempfile.TemporaryDirectory() as folder:
                arguments = ["--scope", scope, "--halo", halo, "--json", "--quiet", *rest]
                output = f"{folder}/out.zarr"
                found = run_measured(
                    tomoseg("segment", chosen.tomogram, "--out", output, *arguments)
                )
            result = json.loads(found.output)
            print(
                f"| {scope} | {halo} | {result['seam']:.3f} "
                f"| {100 * result['salient_fraction']:.1f} % | {found.seconds:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
