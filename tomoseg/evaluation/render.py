"""Records of a benchmark as Markdown: tables with intervals, and the paper's beside them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tomoseg.evaluation import paper
from tomoseg.evaluation.cells import Values
from tomoseg.evaluation.intervals import cell

PU, PUB = "P+U", "P+U+B"
RIVAL = "difference of Gaussians"
EMPTY = "empty"
"""Rows and data sets that tables single out."""

COLUMNS = {
    "MAE": "mean_absolute_error",
    "F max": "maximum_f",
    "F adaptive": "adaptive_f",
    "E max": "maximum_e",
    "E adaptive": "adaptive_e",
    "S": "structure",
    "Dice": "dice",
    "salient": "salient_fraction",
    "seconds": "seconds",
}
"""Columns of the tables; ``salient`` is the share of voxels at or above 0.5."""

JUDGED = {"F": "maximum_f", "E": "adaptive_e", "S": "structure", "MAE": "mean_absolute_error"}
"""The four scores that methods are compared by: F at its best threshold, E adaptive."""

Series = dict[str, dict[str, list[float]]]
"""Every score of each method, one value for each tomogram."""


def series(records: Sequence[Values], dim: int, data: str) -> Series:
    """Return the scores of one data set by method and score, in the tomograms' order."""
    chosen: Series = {}
    for record in records:
        if (record["dim"], record["data"]) == (dim, data):
            scores = chosen.setdefault(record["method"], {})
            for name in COLUMNS.values():
                scores.setdefault(name, []).append(record[name])
    return chosen


def groups(records: Sequence[Values]) -> list[tuple[int, str]]:
    """Return every dimension and data set, in their order."""
    return list(dict.fromkeys((record["dim"], record["data"]) for record in records))


def scores_table(values: Series) -> str:
    """Return a table of means with 95 % intervals over tomograms."""
    lines = [f"| method | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for method, scores in values.items():
        cells = [cell(scores[name]) for name in COLUMNS.values()]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def paired(values: Series, method: str, rival: str) -> str:
    """Return a table line: by how much a method beats a rival, tomogram by tomogram.

    Positive is better throughout, MAE included; ``wins`` counts tomograms in which it is
    better, of those that it was scored on.
    """
    cells = []
    for name in JUDGED.values():
        gains = gains_of(values, method, rival, name)
        wins = sum(gain > 0 for gain in gains)
        cells.append(f"{cell(gains)}; {wins} of {len(gains)}; worst {min(gains):+.3f}")
    return f"| {method} over {rival} | {' | '.join(cells)} |"


PAIRED_HEAD = f"| gain | {' | '.join(JUDGED)} |\n" + "|---" * (len(JUDGED) + 1) + "|"


def gains_of(values: Series, method: str, rival: str, name: str) -> list[float]:
    """Return by how much a method is better than a rival in one score, for each tomogram."""
    sign = -1 if name == "mean_absolute_error" else 1
    pairs = zip(values[method][name], values[rival][name], strict=True)
    return [sign * (a - b) for a, b in pairs]


def margins(values: Series, ours: str, rivals: Sequence[str]) -> str:
    """Return the relative margin over the best rival in each score, beside the paper's."""
    lines = [
        "| score | best rival | rival | ours | margin | the paper's margin, SNR 0.5 and 1.5 |",
        "|---|---|---|---|---|---|",
    ]
    for score, name in JUDGED.items():
        means = {m: sum(values[m][name]) / len(values[m][name]) for m in (ours, *rivals)}
        less = score == "MAE"
        best = (min if less else max)(rivals, key=means.__getitem__)
        margin = (means[ours] - means[best]) / means[best] * (-1 if less else 1)
        printed = " and ".join(f"{100 * share:.0f} %" for share in paper.MARGINS[score])
        lines.append(
            f"| {score} | {best} | {means[best]:.3f} | {means[ours]:.3f} | "
            f"{100 * margin:+.0f} % | {printed} |"
        )
    return "\n".join(lines)


def papers_table(rows: Mapping[str, tuple[paper.Row, paper.Row]]) -> str:
    """Return what the paper printed, at both SNRs."""
    head = [f"{name}, SNR {snr:g}" for snr in paper.SNRS for name in paper.SCORES]
    lines = [f"| the paper's | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    for name, both in rows.items():
        lines.append(f"| {name} | {' | '.join(f'{v:.4f}' for row in both for v in row)} |")
    return "\n".join(lines)


def markdown(results: Mapping[str, Any]) -> str:
    """Return the page of results.

    Parameters
    ----------
    results
        As `tomoseg.evaluation.suite.run` returns them.
    """
    parts = ["# Results", EXPLANATION]
    for table, values in results.items():
        parts += [f"## {TITLES[table]}", _made(values), *_SECTIONS[table](values["records"])]
    return "\n\n".join(parts) + "\n"


TITLES = {
    "table1": "Table 1: methods beside each other",
    "table2": "Table 2: what each part gives",
    "table3": "Table 3: initial classes",
    "table4": "Table 4: the ISIC pairs",
    "figure5": "Figure 5: a volume",
    "refine": "Refinements",
}

EXPLANATION = """Means over tomograms with 95 % bootstrap intervals. MAE is better if lower, all
others if higher. ``F max`` and ``E max`` are at the best of 256 thresholds, ``adaptive`` at
twice the mean saliency. ``seconds`` are wall time for one tomogram, several at once. Polarity:
every method sees salient objects bright. The paper's figures are of its own data, in 2-D."""


def _made(values: Mapping[str, Any]) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in values["facts"].items())
    return f"Generated by `{values['command']}` on {values['date']}: {facts}."


def _blocks(records: Sequence[Values]) -> Iterator[tuple[str, Series]]:
    for dim, data in groups(records):
        values = series(records, dim, data)
        count = len(next(iter(values.values()))["seconds"])
        yield f"### {dim}-D, {data}, {count} tomogram{'s' if count > 1 else ''}", values


def _gains(values: Series, *rivals: str) -> Iterator[str]:
    """Yield what refinement gains over rivals, of the rows that there are (``--only``)."""
    present = [rival for rival in rivals if rival in values]
    if PUB in values and present:
        yield "\n".join([PAIRED_HEAD, *(paired(values, PUB, rival) for rival in present)])


def _table1(records: Sequence[Values]) -> Iterator[str]:
    for head, values in _blocks(records):
        yield from (head, scores_table(values))
        unsupervised = [name for name in values if name not in (PUB, PU) and "(" not in name]
        if PUB in values and unsupervised:
            yield "Margins over the best unsupervised rival:"
            yield margins(values, PUB, unsupervised)
        yield from _gains(values, PU, RIVAL)
    yield "Printed by the paper:"
    yield papers_table(paper.TABLE1)


def _table2(records: Sequence[Values]) -> Iterator[str]:
    for head, values in _blocks(records):
        yield from (head, scores_table(values), *_gains(values, PU))
    yield "Printed by the paper:"
    yield papers_table(paper.TABLE2)


def _table3(records: Sequence[Values]) -> Iterator[str]:
    for head, values in _blocks(records):
        yield from (head, scores_table(values))
    yield "Printed by the paper:"
    yield papers_table(paper.TABLE3)


def _table4(records: Sequence[Values]) -> Iterator[str]:
    for head, values in _blocks(records):
        yield from (head, scores_table(values))
    rows = [f"| {name} | {' | '.join(map(str, row))} |" for name, row in paper.TABLE4.items()]
    yield "\n".join(["| the paper's | MAE | F | E |", "|---|---|---|---|", *rows])


def _figure5(records: Sequence[Values]) -> Iterator[str]:
    yield "![density, truth and masks](results-figure5.png)"
    for head, values in _blocks(records):
        yield from (head, scores_table(values))


def _refine(records: Sequence[Values]) -> Iterator[str]:
    yield "![gain over cost](results-refine.png)"
    full = [record for record in records if record["data"] != EMPTY]
    for dim in sorted({record["dim"] for record in records}):
        merged = merge(full, dim)
        yield f"### {dim}-D, all data sets with objects"
        if PU in merged:
            lines = [paired(merged, name, PU) for name in merged if name != PU]
            yield "\n".join([PAIRED_HEAD, *lines])
        if {PU, PUB} <= merged.keys():
            yield from kept_of_dearer(merged)
        yield scores_table(merged)
    for head, values in _blocks(records):
        yield head
        yield scores_table({n: values[n] for n in (PUB, PU, RIVAL) if n in values})
        yield from _gains(values, PU)


def kept_of_dearer(values: Series) -> Iterator[str]:
    """Yield, where there are any, a table of what dearer settings than the default gain.

    Over the network alone, and which share of it the default keeps.
    """
    means = {m: sum(scores["seconds"]) / len(scores["seconds"]) for m, scores in values.items()}
    dearer = [m for m in sorted(means, key=means.__getitem__) if means[m] > means[PUB]]
    lines = [
        f"| dearer than {PUB} | seconds | gain in F | gain of {PUB} | of it |",
        "|---" * 5 + "|",
    ]
    for method in dearer:
        own, other = (
            sum(gains) / len(gains)
            for gains in (gains_of(values, name, PU, JUDGED["F"]) for name in (PUB, method))
        )
        share = f"{100 * own / other:.0f} %" if other > 0 else "gains nothing"
        lines.append(f"| {method} | {means[method]:.1f} | {other:+.4f} | {own:+.4f} | {share} |")
    if dearer:
        yield "\n".join(lines)


def merge(records: Sequence[Values], dim: int) -> Series:
    """Return the scores of all data sets of a dimension, one after the other."""
    whole: Series = {}
    for data in dict.fromkeys(record["data"] for record in records):
        for method, scores in series(records, dim, data).items():
            for name, values in scores.items():
                whole.setdefault(method, {}).setdefault(name, []).extend(values)
    return whole


_SECTIONS: dict[str, Callable[[Sequence[Values]], Iterator[str]]] = {
    "table1": _table1,
    "table2": _table2,
    "table3": _table3,
    "table4": _table4,
    "figure5": _figure5,
    "refine": _refine,
}
