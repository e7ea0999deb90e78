"""The page: evidence in, one HTML text out that needs nothing else.

The template escapes whatever files and metadata say, and forbids the page any network.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from tomoseg.report.findings import SEAM_LIMIT
from tomoseg.report.gather import Evidence
from tomoseg.report.particles import Particles
from tomoseg.report.views import View

ROWS = 200
"""Of the particle table, at most: the largest."""

BINS = 20
"""Of the histogram of sizes, at most."""

_TITLES = {"xy": "Across z", "xz": "Across y", "yz": "Across x"}


def render(evidence: Evidence) -> str:
    """Return the report as HTML."""
    environment = Environment(
        loader=PackageLoader("tomoseg.report", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    segmentation, particles = evidence.segmentation, evidence.particles
    attributes = segmentation.attributes
    views = {view.name: _view(view) for view in evidence.views}
    sizes = size_bars(particles)
    _, y, x = (
        n * size
        for n, size in zip(segmentation.layout.shape, segmentation.voxel_size_angstrom, strict=True)
    )
    return environment.get_template("report.html").render(
        name=segmentation.path.name,
        warnings=evidence.warnings,
        cards=_cards(evidence),
        views=views,
        slider=evidence.views[0],
        base=evidence.base,
        saliency=saliency_bars(evidence.histogram),
        saliency_source=evidence.histogram_source,
        threshold=attributes["config"]["threshold"],
        extent={"x": max(1, round(x)), "y": max(1, round(y))},
        sizes=sizes,
        highest=max((count for _, _, count, _ in sizes), default=0),
        particles=particles,
        rows=_rows(particles),
        provenance=_provenance(attributes),
        config=json.dumps(attributes["config"], indent=2),
    )


def _view(view: View) -> dict[str, Any]:
    middle = len(view.positions) // 2
    return {
        "name": view.name,
        "title": _TITLES[view.name],
        "down": view.name[1],
        "across": view.name[0],
        "height": view.shape[0],
        "width": view.shape[1],
        "middle": middle,
        "position": view.positions[middle],
        "length": view.length,
        "picture": view.pictures[middle],
        "outline": view.outlines[middle],
    }


def _cards(evidence: Evidence) -> list[tuple[str, str, str]]:
    """Return the figures at the top: name, value, what it means."""
    segmentation, particles = evidence.segmentation, evidence.particles
    layout, summary = segmentation.layout, segmentation.summary
    sizes = segmentation.voxel_size_angstrom
    extent = [n * size / 10 for n, size in zip(layout.shape, sizes, strict=True)]
    seam = summary["seam"]
    verdict = _seam_verdict(seam, few_blocks=evidence.few_blocks)
    return [
        ("Salient", f"{100 * summary['salient_fraction']:.2f} %", "of the voxels"),
        ("Seam measure", "none" if seam is None else f"{seam:.3f}", verdict),
        (particles.noun.capitalize(), f"{len(particles):,}", _typical(particles)),
        ("Voxels", " x ".join(map(str, layout.shape)), "z, y, x"),
        ("Voxel size", _sizes(sizes), f"{' x '.join(f'{e:.0f}' for e in extent)} nm in all"),
    ]


def _seam_verdict(seam: float | None, *, few_blocks: bool) -> str:
    if seam is None:
        return "one block, no seams"
    if few_blocks:
        return "of few blocks: says little"
    return "1 is perfect" if seam <= SEAM_LIMIT else f"blocks show; at most {SEAM_LIMIT} expected"


def _typical(particles: Particles) -> str:
    diameters = particles.diameters[np.isfinite(particles.diameters)]
    return f"median diameter {np.median(diameters):.0f} Å" if diameters.size else "sizes unknown"


def _sizes(sizes: Sequence[float]) -> str:
    same = max(sizes) == min(sizes)
    return f"{sizes[0]:.4g} Å" if same else " x ".join(f"{size:.4g}" for size in sizes) + " Å"


def saliency_bars(counts: NDArray[np.int64]) -> list[tuple[float, float, int]]:
    """Return bars of the saliency histogram: lower edge, height 0 to 1, voxels.

    Heights are logarithmic, for the background outnumbers everything; 32 bars of 8 levels.
    """
    bars = counts.reshape(32, 8).sum(axis=1)
    top = math.log1p(int(bars.max())) or 1.0
    return [(k / 32, math.log1p(int(n)) / top, int(n)) for k, n in enumerate(bars)]


def size_bars(particles: Particles) -> list[tuple[float, float, int, float]]:
    """Return bars of the histogram of diameters: edges in angstrom, particles, height 0 to 1.

    Edges are spaced evenly on a logarithmic scale: specks and cells share a tomogram.
    """
    diameters = particles.diameters[np.isfinite(particles.diameters)]
    if not diameters.size:
        return []
    count = min(BINS, max(1, math.isqrt(diameters.size) * 2))
    low, high = float(diameters.min()), float(diameters.max())
    edges = np.geomspace(low, high, count + 1) if high > low else np.array([low, low + 1.0])
    numbers = np.bincount(np.digitize(diameters, edges[1:-1]), minlength=len(edges) - 1)
    return [
        (float(low), float(high), int(n), float(n / numbers.max()))
        for low, high, n in zip(edges, edges[1:], numbers, strict=False)
    ]


def _rows(particles: Particles) -> list[dict[str, Any]]:
    order = np.argsort(-np.nan_to_num(particles.volumes), kind="stable")[:ROWS]
    return [
        {
            "centre": [f"{value:.1f}" for value in particles.centres_zyx[k]],
            "diameter": _number(particles.diameters[k], ".0f"),
            "volume": _number(particles.volumes[k] / 1000, ",.0f"),
            "score": _number(particles.scores[k], ".3f"),
            "cut": particles.at_border is not None and bool(particles.at_border[k]),
        }
        for k in order
    ]


def _number(value: float, form: str) -> str:
    return format(float(value), form) if math.isfinite(value) else ""


def _provenance(attributes: dict[str, Any]) -> list[tuple[str, str]]:
    weights, contrast = attributes["weights"], attributes["contrast"]
    identity = attributes["fingerprint"]["input"]
    told = "told from the intensities" if contrast["automatic"] else "as asked"
    return [
        ("Tomogram", str(attributes["input"]["path"])),
        ("Its voxels", f"{' x '.join(map(str, identity['shape']))}, {identity['dtype']}"),
        ("Sample's sha256", str(identity["sample_sha256"])),
        ("Voxel size from", str(attributes["voxel_size_source"])),
        ("Contrast", f"{contrast['contrast']} ({told})"),
        ("Weights", str(weights["name"])),
        ("Weights' sha256", str(weights["sha256"])),
        ("tomoseg", str(attributes["version"])),
        ("Libraries", _libraries(attributes["fingerprint"].get("versions", {}))),
        ("Platform", str(attributes["platform"])),
        ("Begun", str(attributes["created"])),
        ("Command", str(attributes["command"])),
    ]


def _libraries(versions: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
