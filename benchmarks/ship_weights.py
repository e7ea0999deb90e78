"""Put trained weights into the package under a name, with what was measured of them.

    python benchmarks/ship_weights.py runs/volumes/best.safetensors vnet3d \\
        --scores pretrained.json

Stores float16 tensors and the card in tomoseg/weights; refuses more than 16 MiB.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from tomoseg.saliency.weights import load, save

FOLDER = Path(__file__).parents[1] / "tomoseg" / "weights"
MOST = 16 * 2**20


def means(path: Path) -> dict[str, dict[str, float]]:
    """Return the network's mean scores by data set, from what `pretrained.py` wrote."""
    results = json.loads(path.read_text())["results"]
    return {
        data: {name: round(score["mean"], 4) for name, score in methods["network"].items()}
        for data, methods in results.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("name")
    parser.add_argument("--scores", type=Path, help="JSON of benchmarks/pretrained.py")
    parser.add_argument("--history", default="", help="how these weights came to be, in words")
    chosen = parser.parse_args()
    network, card = load(chosen.source)
    training = dict(card.training)
    if chosen.scores:
        training["test"] = means(chosen.scores)
    notes = " ".join(part for part in (card.notes, chosen.history) if part)
    card = dataclasses.replace(card, name=chosen.name, training=training, notes=notes)
    path = FOLDER / f"{chosen.name}.safetensors"
    save(path, network, card, half=True)
    path.chmod(0o644)
    size = path.stat().st_size
    if size > MOST:
        path.unlink()
        raise SystemExit(f"{path}: {size} bytes are more than {MOST}")
    print(path, f"{size / 2**20:.1f} MiB", card.sha256)


if __name__ == "__main__":
    main()
