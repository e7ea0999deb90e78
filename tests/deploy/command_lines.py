"""Command lines in scripts, manifests and pages against the options that there really are."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
from distributed.cli.dask_scheduler import main as dask_scheduler
from distributed.cli.dask_worker import main as dask_worker
from tomoseg_cli.main import cli

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DASK = {"scheduler": dask_scheduler, "worker": dask_worker}
PASSES_ON = ("one-node.sbatch", "many-nodes.sbatch", "array.sbatch", "tomograms.sbatch")
"""Scripts whose options after INPUT and OUTPUT are those of segment."""


def check_tomoseg(arguments: list[str]) -> None:
    """Raise where tomoseg would refuse these arguments as a wrong usage."""
    name, *rest = arguments
    if name in ("--version", "--help"):
        return
    command = cli.commands.get(name)
    assert command is not None, f"tomoseg has no command {name}"
    context = click.Context(command, info_name=name)
    values, surplus, _ = command.make_parser(context).parse_args(list(rest))
    assert not surplus, f"tomoseg {name} does not take {surplus}"
    for parameter in command.params:
        given = values.get(parameter.name)
        assert given or not parameter.required, f"tomoseg {name} needs {parameter.name}"
        if isinstance(given, str) and not isinstance(parameter.type, click.Path):
            parameter.type.convert(given, parameter, context)


def check_dask(arguments: list[str]) -> None:
    """Raise where dask lacks an option; its own commands pass over those in silence."""
    name, *rest = arguments
    known = {o for p in DASK[name].params for o in (*p.opts, *p.secondary_opts)}
    unknown = [a for a in rest if a.startswith("--") and a.partition("=")[0] not in known]
    assert not unknown, f"dask {name} has no {unknown}"


def check_line(words: list[str]) -> bool:
    """Check a shell command that calls tomoseg, dask or one of our scripts; tell if it did."""
    if words[:1] == ["kubectl"] or words[1:2] in (["build"], ["test"]):
        return False  # these name an image or a namespace tomoseg, and call nothing
    for position, word in enumerate(words):
        rest = words[position + 1 :]
        if re.fullmatch(r"(.*/)?tomoseg|(.*/)?tomoseg\.sif|(\S+/)?tomoseg:\w+", word) and rest:
            check_tomoseg(rest)
            return True
        if word == "dask" and rest and rest[0] in DASK:
            check_dask(rest)
            return True
        if word.endswith((".sbatch", "submit-array.sh")):
            check_script(DEPLOY / "slurm" / Path(word).name, rest)
            return True
    return False


def check_script(script: Path, arguments: list[str]) -> None:
    """Check that a script is there, and the options that it passes on to segment."""
    assert script.is_file(), f"{script.name} is not in deploy/slurm"
    if script.name in PASSES_ON:
        source, output, *options = arguments
        check_tomoseg(["segment", source, "--out", output, *options])
    elif script.name == "submit-array.sh":
        source, output, tasks, *options = arguments
        assert tasks.isdigit()
        check_tomoseg(["segment", source, "--out", output, *options])


def page_lines(page: Path) -> Iterator[list[str]]:
    """Yield the words of every shell line in the code blocks of a Markdown page."""
    text = page.read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line.startswith("    "):
            yield shlex.split(line, comments=True)
