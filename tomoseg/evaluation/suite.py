"""The benchmark as a whole: networks and rivals made ready, tables computed, a page written.

Everything lies in one folder, from which a repeated call goes on.
"""

import datetime
import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np

from tomoseg import __version__
from tomoseg.errors import RequestError, StorageError
from tomoseg.evaluation import figures, tables
from tomoseg.evaluation.baselines import TRIVIAL
from tomoseg.evaluation.benchmark import Bench, Progress, measured, scores, timed
from tomoseg.evaluation.cases import Scene, home
from tomoseg.evaluation.cells import Cells, Values
from tomoseg.evaluation.learned import NAMES, rivals
from tomoseg.evaluation.methods import Method
from tomoseg.evaluation.pictures import load_pictures
from tomoseg.evaluation.render import EMPTY, RIVAL, markdown, merge
from tomoseg.evaluation.tables import Networks, Table
from tomoseg.io.storage import lock, storage_errors, write_json
from tomoseg.metrics import as_levels
from tomoseg.pretrain.recipe import DECODER_CONVOLUTIONS
from tomoseg.saliency.architecture import Architecture
from tomoseg.saliency.initialise import random_network
from tomoseg.saliency.lanes import map_lanes
from tomoseg.saliency.weights import Card, load, save

RESULTS = "results.json"
PAGE = "results.md"
FIGURE5, PARETO = "results-figure5.png", "results-refine.png"

FIGURE5_SNR, FIGURE5_NUMBER = 1.5, 0


@dataclass(frozen=True)
class Request:
    """What to compare, and with what.

    Parameters
    ----------
    folder
        Where everything is kept; made where it is missing.
    tables
        Which tables.
    dims
        2, 3 or both.
    split
        ``validation`` to choose by, ``test`` to report on.
    count
        Tomograms of each data set.
    limit
        Tomograms in each table and dimension at most.
    structures
        Folder of complexes; None for built-in ones.
    pictures
        Folder of pairs for ``table4``.
    weights
        Of the network, by dimension.
    plain
        Weights without attention, by dimension, for rows without U.
    jobs
        Tomograms that are worked on at once.
    command
        As the page names it.
    only
        Names of rows that are wanted; all without.
    """

    folder: Path
    tables: Sequence[Table]
    dims: Sequence[int]
    split: str
    count: int
    limit: int | None
    structures: Path | None
    pictures: Path | None
    weights: Mapping[int, str]
    plain: Mapping[int, str]
    jobs: int
    command: str
    only: Sequence[str] = ()


def run(request: Request, stop: threading.Event, progress: Progress) -> dict[str, Any]:
    """Compute the tables that are asked for, and write JSON, page and figures.

    Returns
    -------
    dict
        What ``results.json`` holds, by table: its ``records``, and the ``command``, ``date``
        and ``facts`` (plain values) of the call that computed it, this or an earlier one.

    Raises
    ------
    Stopped
        Where `stop` was set; the same call goes on.
    RequestError
        Where ``table4`` is asked for without pictures.
    """
    if "table4" in request.tables and request.pictures is None:
        raise RequestError("table4: expected --pictures with the ISIC pairs, got none.")
    with storage_errors("Creating", request.folder):
        request.folder.mkdir(parents=True, exist_ok=True)
    with lock(request.folder, request.folder):
        results = _read(request.folder / RESULTS)
        bench = Bench(Cells(request.folder / "cells"), request.structures, stop, request.jobs)
        networks = _networks(request)
        today = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
        made = {"command": request.command, "date": today, "facts": _facts(request)}
        for table, records in _tables(request, networks, bench, progress).items():
            results[table] = made | {"records": records}
        results = {name: results[name] for name in get_args(Table) if name in results}
        write_json(request.folder / RESULTS, results)
        draw(request.folder, results)
        with storage_errors("Writing", request.folder / PAGE):
            (request.folder / PAGE).write_text(markdown(results), encoding="utf-8")
    return results


def _read(path: Path) -> dict[str, Any]:
    try:
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not all("records" in table for table in results.values()):
            raise ValueError("no tables")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise StorageError(
            f"{path}: expected results of the benchmark, got {error!r}.", "Remove the file."
        ) from error
    return results


def _facts(request: Request) -> dict[str, str]:
    cards = {dim: load(request.weights[dim])[1] for dim in request.dims}
    named = {f"weights {card.name}": card.sha256[:12] for card in cards.values()}
    return {
        "tomoseg": __version__,
        "torch": version("torch"),
        "cores": str(len(os.sched_getaffinity(0))),
        "split": request.split,
        "complexes": "built in" if request.structures is None else "of a folder",
        **named,
    }


def _networks(request: Request) -> Networks:
    """Return the weights of every row; fresh ones are written to the folder."""
    fresh: dict[bool, dict[int, str]] = {True: {}, False: {}}
    for dim in (2, 3):
        for attention, names in fresh.items():
            shape = Architecture(
                dim=dim, attention=attention, decoder_convolutions=DECODER_CONVOLUTIONS
            )
            name = f"random-{'attention' if attention else 'plain'}-{dim}d"
            path = request.folder / f"{name}.safetensors"
            if not path.exists():
                card = Card(name=name, architecture=shape, voxel_size_angstrom=10.0)
                save(path, random_network(shape, 0), card)
            names[dim] = str(path)
    return Networks(dict(request.weights), dict(request.plain), fresh[True], fresh[False])


def _tables(
    request: Request, networks: Networks, bench: Bench, progress: Progress
) -> dict[str, list[Values]]:
    scored = [t for t in request.tables if t not in ("table4", "figure5")]
    learned: Mapping[int, list[Method]] = {}
    if "table1" in scored and (not request.only or set(request.only) & set(NAMES)):
        learned = rivals(
            request.folder / "rivals", request.dims, request.structures, jobs=request.jobs
        )
    wanted = tables.tasks(
        scored,
        networks,
        request.dims,
        request.split,
        learned,
        count=request.count,
        limit=request.limit,
        only=request.only,
    )
    every = [task for tasks in wanted.values() for task in tasks]
    bench.run(every, progress)
    computed: dict[str, list[Values]] = {}
    computed |= {table: bench.run(tasks, lambda *_: None) for table, tasks in wanted.items()}
    if "table4" in request.tables and request.pictures is not None:
        computed["table4"] = _table4(request.pictures, networks, request.jobs)
    if "figure5" in request.tables:
        computed["figure5"] = _figure5(request, networks)
    return computed


def _table4(folder: Path, networks: Networks, jobs: int) -> list[Values]:
    """Score the case study's images, which no network here was trained on."""
    methods = tables.case_study(networks)

    def row(numbered: tuple[int, Scene]) -> list[Values]:
        number, pictures = numbered
        where = {"dim": 2, "data": "ISIC pairs", "number": number}
        return [where | {"method": m.name} | measured(m, pictures, 2) for m in methods]

    rows = map_lanes(row, list(enumerate(load_pictures(folder).values())), jobs)
    return [record for records in rows for record in records]


def _figure5(request: Request, networks: Networks) -> list[Values]:
    data = home(FIGURE5_SNR, request.split, tables.VOLUME)
    tomogram = data.make(FIGURE5_NUMBER, request.structures)
    where = {"dim": 3, "data": data.name, "number": FIGURE5_NUMBER}
    shown, records = {"truth": tomogram.truth.astype(np.float64)}, []
    for method in tables.ours(networks, 3):
        maps, seconds = timed(method, tomogram, 3)
        shown[method.name] = as_levels(maps[0]) / 255
        record = where | {"method": method.name, "seconds": seconds}
        records.append(record | scores(maps, tomogram, 3))
    figures.draw_surfaces(request.folder / FIGURE5, shown, tomogram.density)
    return records


def draw(folder: Path, results: Mapping[str, Any]) -> None:
    """Draw scores of refinements over their cost, where that table is there."""
    if "refine" not in results:
        return
    records = [record for record in results["refine"]["records"] if record["data"] != EMPTY]
    panels = {}
    for dim in sorted({record["dim"] for record in records}):
        merged = merge(records, dim)
        for title, score in (("S", "structure"), ("maximum F", "maximum_f")):
            panels[f"{dim}-D, {title}"] = [
                (name, float(np.mean(values["seconds"])), float(np.mean(values[score])))
                for name, values in merged.items()
                if name not in (RIVAL, *TRIVIAL)
            ]
    figures.draw_pareto(folder / PARETO, panels, "seconds for a tomogram")
