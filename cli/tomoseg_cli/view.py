"""``tomoseg view``: an output in napari, the right layers over one another."""

from pathlib import Path

import click

from tomoseg_cli.console import common_options, configure_logging, print_result


@click.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--input", "source", help="Where the tomogram lies now, if it was moved.")
@common_options
def view(output: Path, source: str | None, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Open an output of segment in napari: tomogram, saliency and mask.

    Nothing is read whole. napari comes with: pip install 'tomoseg[view]'
    """
    from tomoseg.segmentation import open_segmentation
    from tomoseg.viewing import build_layers, show

    configure_logging(quiet=quiet, verbose=verbose)
    layers = build_layers(open_segmentation(output), source)
    show(layers)
    names = [layer.name for layer in layers]
    result = {"output": str(output), "layers": names}
    print_result(result, f"{output}: {', '.join(names)}", as_json=as_json)
    return 0
