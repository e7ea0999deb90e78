"""Put trained weights into the package under a name, with what was measured of them.

    python benchmarks/ship_weights.py runs/volumes/best.safetensors vnet3d \\
        --scores pretrained.json --validation validation.zarr

Stores float16 tensors and the card in tomoseg/weights; refuses more than 16 MiB.
The last weights of a stopped training have no validation scores of their own: --validation
gives them.
"""

import argparse
import copy
import dataclasses
import json
from pathlib import Path

from tomoseg.pretrain.recipe import preset
from tomoseg.pretrain.samples import Batch, Source
from tomoseg.pretrain.validate import validate
from tomoseg.saliency.initialise import deepened
from tomoseg.saliency.usalnet import USalNet
from tomoseg.saliency.weights import Card, load, save
from tomoseg.simulate.dataset import open_dataset

FOLDER = Path(__file__).parents[1] / "tomoseg" / "weights"
MOST = 16 * 2**20


def means(path: Path) -> dict[str, dict[str, float]]:
    """Return the network's mean scores by data set, from what `pretrained.py` wrote."""
    results = json.loads(path.read_text())["results"]
    return {
        data: {name: round(score["mean"], 4) for name, score in methods["network"].items()}
        for data, methods in results.items()
    }


def windows_of(card: Card, path: Path) -> list[Batch]:
    """Return the windows that a training with this card validates on."""
    recipe = card.training["recipe"]
    kept = {name: recipe[name] for name in ("seed", "window", "validation_windows", "dice")}
    settings = preset("default", card.architecture.dim, 1, architecture=card.architecture, **kept)
    return Source(open_dataset(path), settings).validation()


def averaged(network: USalNet, other: USalNet, share: float) -> USalNet:
    """Return the mean of two networks of one training, `share` of it the first.

    What was trained on gives up some of its gain and keeps what it knew before (Wortsman
    et al., CVPR 2022); the other's decoder may have fewer convolutions.
    """
    before = deepened(other, network.architecture.decoder_convolutions).state_dict()
    mean = copy.deepcopy(network)
    mean.load_state_dict(
        {
            name: before[name].lerp(value, share) if value.is_floating_point() else value
            for name, value in network.state_dict().items()
        }
    )
    return mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("name")
    parser.add_argument("--scores", type=Path, help="JSON of benchmarks/pretrained.py")
    parser.add_argument("--average-with", help="weights that SOURCE was trained on from")
    parser.add_argument("--share", type=float, default=0.5, help="of SOURCE in that average")
    parser.add_argument("--amplitude", type=float, help="of intensities, as the network is used")
    parser.add_argument("--validation", type=Path, help="data set of the split validation")
    parser.add_argument("--history", default="", help="how these weights came to be, in words")
    chosen = parser.parse_args()
    network, card = load(chosen.source)
    if chosen.average_with:
        network = averaged(network, load(chosen.average_with)[0], chosen.share)
    training = dict(card.training)
    if chosen.validation:
        windows = windows_of(card, chosen.validation)
        dice = card.training["recipe"]["dice"]
        training["validation"] |= vars(validate(network, windows, dice=dice, lanes=2))
    if chosen.scores:
        training["test"] = means(chosen.scores)
    notes = " ".join(part for part in (card.notes, chosen.history) if part)
    amplitude = chosen.amplitude or card.amplitude
    card = dataclasses.replace(
        card, name=chosen.name, amplitude=amplitude, training=training, notes=notes
    )
    path = FOLDER / f"{chosen.name}.safetensors"
    save(path, network, card, half=True)
    path.chmod(0o644)
    size = path.stat().st_size
    if size > MOST:
        path.unlink()
        raise SystemExit(f"{path}: {size} bytes are more than {MOST}")
    print(path, f"{size / 2**20:.1f} MiB", load(str(path))[1].sha256)


if __name__ == "__main__":
    main()
