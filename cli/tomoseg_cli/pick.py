"""``tomoseg pick``: masks in, particles out, in the files of the field's programs."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from tomoseg.config import (
    PARTICLE_SUFFIXES,
    Centre,
    Connectivity,
    ParticleFormat,
    PickConfig,
    Split,
)
from tomoseg.errors import RequestError
from tomoseg_cli.console import ProgressReport, common_options, configure_logging, print_result
from tomoseg_cli.resources import cluster_of, cluster_options
from tomoseg_cli.running import (
    Failed,
    each,
    exit_code,
    open_lazily,
    stop_on_signal,
    write_table,
)

if TYPE_CHECKING:
    from tomoseg.io.picks import Picks
    from tomoseg.particles.target import Target
    from tomoseg_cli.pick_files import PickFiles

DEFAULT = PickConfig()

LIMITS = {
    "min_volume": "min_volume_angstrom3",
    "max_volume": "max_volume_angstrom3",
    "min_mass": "min_mass_kda",
    "max_mass": "max_mass_kda",
    "min_diameter": "min_diameter_angstrom",
    "max_diameter": "max_diameter_angstrom",
    "diameter": "diameter_angstrom",
    "min_distance": "min_distance_angstrom",
}
"""Flags and what they are in the configuration."""


@click.command()
@click.argument("masks", nargs=-1, required=True)
@click.option(
    "--out",
    multiple=True,
    help="File to write, PATH or FORMAT:PATH; may be given several times. Suffixes: "
    + ", ".join(f"{suffix} ({name})" for suffix, name in PARTICLE_SUFFIXES.items())
    + ".",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(get_args(ParticleFormat)),
    help="Of every --out that names none.",
)
@click.option("--copick", type=click.Path(path_type=Path), help="Copick project to write to.")
@click.option(
    "--object", "object_name", default="particle", show_default=True, help="Name in copick."
)
@click.option("--user", default="tomoseg", show_default=True, help="Of copick.")
@click.option("--session", default="0", show_default=True, help="Of copick.")
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="OME-Zarr to write with the number of each voxel's particle.",
)
@click.option("--array", help="Path of the mask in a Zarr that holds several arrays.")
@click.option("--voxel-size", type=float, help="Angstrom; overrides the header.")
@click.option("--tomo-name", help="Name of the tomogram (rlnTomoName); else the file's.")
@click.option("--diameter", type=float, help="Of the particles, angstrom: splits and suppresses.")
@click.option(
    "--split",
    type=click.Choice(get_args(Split)),
    help="Tell touching particles apart, with --diameter: by saliency (the default where there "
    "is any) or by distance from the mask's surface.",
)
@click.option(
    "--min-distance",
    type=float,
    help="Angstrom between two particles; half of --diameter by default.",
)
@click.option(
    "--connectivity",
    type=click.Choice([str(choice) for choice in get_args(Connectivity)]),
    default=str(DEFAULT.connectivity),
    show_default=True,
    help="Neighbours that belong together.",
)
@click.option("--min-volume", type=float, help="Cubic angstrom.")
@click.option("--max-volume", type=float, help="Cubic angstrom.")
@click.option("--min-mass", type=float, help="kDa of protein that fills it (1.21 A^3 a dalton).")
@click.option("--max-mass", type=float, help="kDa.")
@click.option("--min-diameter", type=float, help="Angstrom, of the ball of its volume.")
@click.option("--max-diameter", type=float, help="Angstrom.")
@click.option("--min-score", type=float, help="Mean saliency, 0 to 1.")
@click.option("--max-elongation", type=float, help="Longest over shortest axis.")
@click.option(
    "--min-fill",
    type=float,
    help="Volume over that of its ellipsoid of inertia: 1 for a solid one, little for membranes.",
)
@click.option("--max-fill", type=float, help="The same, to be left with membranes.")
@click.option("--drop-border", is_flag=True, help="Leave out what touches a face of the volume.")
@click.option("--binning", type=float, help="Unbinned pixels in a voxel, for STAR. 1 by default.")
@click.option(
    "--tomograms",
    type=click.Path(dir_okay=False, path_type=Path),
    help="RELION's tomograms.star: unbinned size and pixel; binning follows.",
)
@click.option(
    "--centre",
    type=click.Choice(get_args(Centre)),
    default="half",
    show_default=True,
    help="Middle of RELION 5's coordinates: half the size, or one less, as its picker has it.",
)
@click.option("--shard", type=int, default=DEFAULT.shard, show_default=True)
@cluster_options
@click.option(
    "--table",
    type=click.Path(dir_okay=False, path_type=Path),
    help="CSV file to write of what became of each mask.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@common_options
def pick(masks: tuple[str, ...], as_json: bool, **flags: Any) -> int:
    """Find the particles in MASKS: outputs of segment, or masks as MRC, OME-Zarr or Zarr.

    \b
    tomoseg pick mask.zarr --out particles.star --diameter 250
    tomoseg pick masks/*.zarr --out relion5:all.star --tomograms tomograms.star

    A mask that fails does not hold up the rest. Repeat an interrupted command to go on where it
    stopped.
    """
    configure_logging(quiet=flags["quiet"], verbose=flags["verbose"])
    from tomoseg_cli.pick_files import PickFiles

    config, files = _config(flags), PickFiles.of_flags(flags)
    paths = _masks(masks, flags)
    resources = cluster_of(flags)
    alone = len(paths) == 1
    with (
        stop_on_signal("shards") as stop,
        ProgressReport(quiet=flags["quiet"]) as progress,
        open_lazily(resources, stop) as executor,
    ):
        from tomoseg.particles.pick import forget
        from tomoseg.particles.pick import pick as run

        def one(target: "Target") -> "Picks":
            return run(
                target,
                config,
                executor(),
                scratch=files.scratch(target),
                progress=progress if alone else progress.of(target.name),
                labels=files.labels,
                overwrite=files.overwrite,
                memory_bytes=resources.worker_memory(),
                keep=True,
            )

        opened = each(paths, lambda path: _target(path, files, flags), stop, name=str, alone=alone)
        targets = [target for target in opened if not isinstance(target, Failed)]
        _require_different(targets)
        files.require_room(targets)
        width = 1 if alone or not targets else executor().width
        picked = each(
            targets, one, stop, name=lambda target: target.mask.path, alone=alone, width=width
        )
        found = [picks for picks in picked if not isinstance(picks, Failed)]
        failed = [result for result in (*opened, *picked) if isinstance(result, Failed)]
        complete = len(found) == len(paths)
        written = files.write(found) if complete or (found and not stop.is_set()) else []
        if complete:
            for target in targets:
                forget(files.scratch(target))
    if flags["table"]:
        _write_table(flags["table"], found, failed)
    return _report(found, failed, written, len(paths), as_json=as_json)


def _config(flags: dict[str, Any]) -> PickConfig:
    same = (
        *("split", "min_score", "max_elongation", "min_fill", "max_fill"),
        *("drop_border", "shard"),
    )
    connectivity = {str(choice): choice for choice in get_args(Connectivity)}
    return PickConfig(
        connectivity=connectivity[flags["connectivity"]],
        **{name: flags[name] for name in same},
        **{name: flags[flag] for flag, name in LIMITS.items()},
    )


def _masks(masks: tuple[str, ...], flags: dict[str, Any]) -> list[str]:
    """Return the paths of all masks, and refuse what goes with one of them alone."""
    from tomoseg.io.volume import find_inputs

    paths = find_inputs(masks)
    for flag in ("labels", "tomo_name", "array"):
        if len(paths) > 1 and flags[flag]:
            name = flag.replace("_", "-")
            raise RequestError(f"--{name}: expected one mask with it, got {len(paths)}.")
    return paths


def _target(path: str, files: "PickFiles", flags: dict[str, Any]) -> "Target":
    from tomoseg.particles.target import open_target, renamed

    target = open_target(path, array=flags["array"], voxel_size=flags["voxel_size"])
    target = renamed(target, flags["tomo_name"])
    files.require_known(target)
    return target


def _require_different(targets: "list[Target]") -> None:
    names = [target.name for target in targets]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RequestError(
            f"pick: expected tomograms of different names, got {', '.join(twice)} twice.",
            "Pick them one by one, with --tomo-name.",
        )


def _write_table(path: Path, found: "list[Picks]", failed: list[Failed]) -> None:
    """Write a row for each mask, as CSV."""
    rows: list[dict[str, Any]] = [
        {"tomogram": picks.name, "status": "done", "particles": len(picks)} for picks in found
    ]
    rows += [
        {"tomogram": one.input, "status": "failed", "error": one.error["message"]} for one in failed
    ]
    write_table(path, ("tomogram", "status", "particles", "error"), rows)


def _report(
    found: "list[Picks]",
    failed: list[Failed],
    written: list[str],
    count: int,
    *,
    as_json: bool,
) -> int:
    """Print what became of the masks and return the exit code."""
    tomograms = [
        {
            "name": picks.name,
            "particles": len(picks),
            "shape_zyx": list(picks.shape),
            "voxel_size_angstrom_zyx": list(picks.voxel_size_angstrom),
        }
        for picks in found
    ]
    total = sum(len(picks) for picks in found)
    lines = [f"{t['name']}: {t['particles']} particles" for t in tomograms]
    lines += [f"{one.input}: {one.error['message']}" for one in failed]
    if count > 1:
        part = f"{len(found)} of {count}" if len(found) < count else count
        lines.append(f"{total} particles in {part} tomograms")
    if written and len(found) < count:
        lines.append("The same command with --overwrite adds the rest; what is done is kept.")
    elif found and not written:
        lines.append("Nothing is written yet; the same command goes on.")
    result = {
        "particles": total,
        "tomograms": tomograms,
        "failed": [dataclasses.asdict(one) for one in failed],
        "not_begun": count - len(found) - len(failed),
        "written": written,
    }
    print_result(result, "\n".join([*lines, *written]), as_json=as_json)
    return exit_code([one.error for one in failed], done=len(found), count=count)
