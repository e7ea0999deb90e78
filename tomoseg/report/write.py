"""A report from an output to a file, all of it or nothing."""

from pathlib import Path
from typing import Any

from tomoseg.io.storage import (
    publish,
    remove,
    require_writable,
    storage_errors,
    temporary_sibling,
)
from tomoseg.report.gather import gather
from tomoseg.report.page import render
from tomoseg.segmentation import open_segmentation


def write_report(
    output: str | Path,
    destination: str | Path | None = None,
    *,
    source: str | None = None,
    particles: str | Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write one HTML file that shows what a segmentation is worth.

    It needs no network and no other file.

    Parameters
    ----------
    output
        A finished output of `segment`.
    destination
        HTML file to write; ``NAME.html`` beside ``NAME.zarr`` if None.
    source
        Where the tomogram lies now; None for where it lay. Without it the saliency is
        shown in its place.
    particles
        CSV or STAR table of particles; None to measure the components of the mask.
    overwrite
        Whether `destination` may be replaced.

    Returns
    -------
    dict
        ``report`` (its path), ``bytes``, ``warnings`` (texts) and ``particles`` (how many).

    Raises
    ------
    InputError
        Where the output, or what was named, cannot be read.
    OutputExistsError
        Where `destination` is there, without `overwrite`.
    """
    final = Path(destination) if destination else Path(output).with_suffix(".html")
    require_writable(final, overwrite=overwrite)
    table = None if particles is None else Path(particles)
    evidence = gather(open_segmentation(output), source=source, table=table)
    text = render(evidence)
    temporary = temporary_sibling(final)
    with storage_errors("Writing", final):
        try:
            temporary.write_text(text, encoding="utf-8")
            publish(temporary, final, overwrite=overwrite)
        finally:
            remove(temporary)
    return {
        "report": str(final),
        "bytes": final.stat().st_size,
        "warnings": evidence.warnings,
        "particles": len(evidence.particles),
    }
