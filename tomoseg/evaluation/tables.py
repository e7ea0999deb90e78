"""Which methods and data sets each table of the benchmark compares.

Pure values; the paper's tables in its own order, and the one that decides our defaults.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tomoseg.config import MANY, PRESETS, LooksRequest, RefineConfig, Rule, SegmentConfig
from tomoseg.errors import RequestError
from tomoseg.evaluation.baselines import TRIVIAL, UNSUPERVISED
from tomoseg.evaluation.benchmark import Task
from tomoseg.evaluation.cases import SHAPE, Data, elsewhere, home
from tomoseg.evaluation.elsewhere.imaging import STYLES
from tomoseg.evaluation.methods import Method, of_baseline, of_network
from tomoseg.evaluation.paper import SNRS
from tomoseg.evaluation.render import PU, PUB, RIVAL

Table = Literal["table1", "table2", "table3", "table4", "figure5", "refine"]

VOLUME = (64, 64, 64)
"""Shape of the tomograms of tables in 3-D, the paper's."""

SLICES, FEW_SLICES = 2, 1
"""Slices along each axis, and where every image is refined many times over."""

DEFAULT = PRESETS["default"]
"""Self-training; its scope is that of a row."""

STEPS = {2: 16, 3: 8}
"""Of Algorithm 1 at a cost that a table can bear, by dimension. More make its maps no better
(docs/decisions/003-refinement.md); the paper's 1000 stand in the table of refinements."""

CLASSES = (20, 40, 60, 80, 100)


@dataclass(frozen=True)
class Networks:
    """Weights that tables are made with, by dimension.

    Parameters
    ----------
    trained
        The network.
    plain
        The same without attention, for rows without U; those rows are left out where
        there is none.
    fresh
        Random weights, for rows without P.
    fresh_plain
        Random weights without attention.
    """

    trained: dict[int, str] = field(default_factory=lambda: {2: "unet2d", 3: "vnet3d"})
    plain: dict[int, str] = field(default_factory=dict)
    fresh: dict[int, str] = field(default_factory=dict)
    fresh_plain: dict[int, str] = field(default_factory=dict)


def scope_of(dim: int) -> Literal["volume", "block"]:
    """Return the scope that refines a tomogram of a table: as a whole, or image by image."""
    return "volume" if dim == 3 else "block"


def vote(dim: int, rule: Rule = "majority", classes: int = 16) -> RefineConfig:
    """Return Algorithm 1, in the scope of the dimension."""
    return RefineConfig(scope_of(dim), rule, classes=classes, iterations=STEPS[dim])


def data_sets(table: Table, dim: int, split: str) -> list[Data]:
    """Return those of the simulator at SNR 0.5 and 1.5, and for ``refine`` those elsewhere."""
    shape = VOLUME if dim == 3 else SHAPE
    found = [home(snr, split, shape) for snr in SNRS]
    if table == "refine":
        found += [elsewhere(style, split, shape) for style in STYLES]
    # volumes have no slices, so that tables share what is scored on them
    slices = SLICES if table == "table1" or dim == 3 else FEW_SLICES
    return [dataclasses.replace(data, slices_per_axis=slices) for data in found]


def share_out(data: Sequence[Data], count: int, limit: int | None) -> list[tuple[Data, int]]:
    """Return `count` tomograms of each data set, or `limit` in all, spread evenly."""
    turns = [(one, number) for number in range(count) for one in data]
    return sorted(turns[:limit], key=lambda turn: data.index(turn[0]))


def refined(
    name: str, weights: str, refine: RefineConfig, dim: int, *, looks: LooksRequest = "auto"
) -> Method:
    """Return the network under a refinement."""
    return of_network(name, SegmentConfig(weights=weights, refine=refine, looks=looks), dim)


def ours(networks: Networks, dim: int) -> list[Method]:
    """Return the network with and without the refinement by self-training."""
    weights = networks.trained[dim]
    none = dataclasses.replace(DEFAULT, scope="none")
    own = dataclasses.replace(DEFAULT, scope=scope_of(dim))
    return [refined(PUB, weights, own, dim), refined(PU, weights, none, dim)]


def rivals(dim: int) -> list[Method]:
    """Return the unsupervised baselines."""
    return [of_baseline(name, baseline, dim) for name, baseline in UNSUPERVISED.items()]


def trivial(dim: int) -> list[Method]:
    """Return the maps that look at nothing."""
    return [of_baseline(name, baseline, dim) for name, baseline in TRIVIAL.items()]


def tasks(
    tables: Sequence[Table],
    networks: Networks,
    dims: Sequence[int],
    split: str,
    learned: Mapping[int, list[Method]],
    *,
    count: int,
    limit: int | None,
    only: Sequence[str] = (),
) -> dict[Table, list[Task]]:
    """Return what each table needs.

    Parameters
    ----------
    tables
        Of ``table1``, ``table2``, ``table3`` and ``refine``.
    networks
        Weights.
    dims
        2, 3 or both.
    split
        ``validation`` to choose by, ``test`` to report on.
    learned
        Trained rivals by dimension, for ``table1``.
    count
        Tomograms of each data set.
    only
        Names of the rows that are wanted; all without.
    limit
        Tomograms in each table and dimension at most; None for no limit, and for the
        dearest refinements.

    Raises
    ------
    RequestError
        Where a table has no row of the names.
    """
    makers: dict[Table, Callable[[Networks, int], list[Method]]] = {
        "table1": _table1,
        "table2": _table2,
        "table3": _table3,
        "refine": functools.partial(_refine, thorough=limit is None),
    }
    made: dict[Table, list[Task]] = {}
    for table in tables:
        for dim in dims:
            methods = makers[table](networks, dim)
            if table == "table1":
                methods = [*methods, *learned.get(dim, [])]
            tomograms = share_out(data_sets(table, dim, split), count, limit)
            methods = [*methods, *trivial(dim)]
            rows = [m for m in methods if not only or m.name in only]
            if not rows:
                names = ", ".join(repr(m.name) for m in methods)
                raise RequestError(
                    f"--only: {table} in {dim}-D has no row {' or '.join(map(repr, only))}.",
                    f"Its rows are {names}.",
                )
            task = Task(dim, tomograms, rows)
            made.setdefault(table, []).append(task)
    return made


def _table1(networks: Networks, dim: int) -> list[Method]:
    return [*ours(networks, dim), *rivals(dim)]


def _table2(networks: Networks, dim: int) -> list[Method]:
    """B, U+B, P, P+B, P+U, P+U+B, where B is Algorithm 1; and B by self-training beside it."""
    trained, plain = networks.trained[dim], networks.plain.get(dim)
    none, own = (dataclasses.replace(DEFAULT, scope=s) for s in ("none", scope_of(dim)))
    rows = [
        ("B", networks.fresh_plain.get(dim), vote(dim)),
        ("U+B", networks.fresh.get(dim), vote(dim)),
        ("P", plain, none),
        ("P+B", plain, own),
        ("P+B, rule majority", plain, vote(dim)),
        ("P+B, rule prior", plain, vote(dim, "prior")),
        ("P+U+B, rule majority", trained, vote(dim)),
        ("P+U+B, rule prior", trained, vote(dim, "prior")),
    ]
    made = [refined(name, weights, config, dim) for name, weights, config in rows if weights]
    return [*made, *ours(networks, dim), _rival(dim)]


def _table3(networks: Networks, dim: int) -> list[Method]:
    made = [
        refined(f"{n} classes", networks.trained[dim], vote(dim, "prior", n), dim) for n in CLASSES
    ]
    return [*made, *ours(networks, dim)[1:], _rival(dim)]


def _refine(networks: Networks, dim: int, *, thorough: bool) -> list[Method]:
    """Scopes, rules, supervoxel settings and iterations: what the default is chosen from."""
    teacher = dataclasses.replace(DEFAULT, scope=scope_of(dim))
    prior = vote(dim, "prior")
    made = {
        "self-training, thorough": dataclasses.replace(teacher, **dataclasses.asdict(MANY)),
        "self-training, 4 steps": dataclasses.replace(teacher, iterations=4),
        "self-training, 8 steps": dataclasses.replace(teacher, iterations=8),
        "self-training, sharpness 1.25": dataclasses.replace(teacher, sharpness=1.25),
        "self-training, sharpness 2": dataclasses.replace(teacher, sharpness=2.0),
        "self-training in supervoxels": dataclasses.replace(
            teacher, supervoxel_weight=0.5, supervoxel_edge=3, compactness=1.0
        ),
        "majority": vote(dim),
        "prior": prior,
        "prior, finer supervoxels": dataclasses.replace(prior, supervoxel_edge=2, compactness=1.0),
        "prior, continuity": dataclasses.replace(prior, unify="continuity"),
    }
    if thorough:
        made["self-training, 64 steps"] = dataclasses.replace(teacher, iterations=64)
    if dim == 2:
        paper = PRESETS["paper"]
        made["self-training, whole tomogram"] = dataclasses.replace(teacher, scope="volume")
        made["paper, 50 steps"] = dataclasses.replace(paper, iterations=50)
        if thorough:
            made["paper, 1000 steps"] = paper
    weights = networks.trained[dim]
    none = dataclasses.replace(DEFAULT, scope="none")
    looks = [
        refined("P+U, two looks", weights, none, dim, looks="2"),
        refined("P+U, all flips", weights, none, dim, looks="all"),
        refined("self-training, one look", weights, teacher, dim, looks="1"),
    ]
    rows = [refined(name, weights, config, dim) for name, config in made.items()]
    return [*ours(networks, dim), *looks, *rows, _rival(dim)]


def _rival(dim: int) -> Method:
    return of_baseline(RIVAL, UNSUPERVISED[RIVAL], dim)


def case_study(networks: Networks) -> list[Method]:
    """Return the rows of ``table4``: image by image, in 2-D."""
    fresh, trained = networks.fresh[2], networks.trained[2]
    return [
        refined("B", networks.fresh_plain[2], vote(2), 2),
        refined("U+B", fresh, vote(2), 2),
        refined("P+U+B, rule majority", trained, vote(2), 2),
        *ours(networks, 2),
        *rivals(2),
        *trivial(2),
    ]
