"""``tomoseg pick``: masks in, particles out, in the files of the field's programs."""

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
from tomoseg_cli.running import open_lazily, stop_on_signal

if TYPE_CHECKING:
    from tomoseg.io.particle_files import Destination, Export
    from tomoseg.io.picks import Picks
    from tomoseg.particles.target import Target

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
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@common_options
def pick(masks: tuple[str, ...], as_json: bool, **flags: Any) -> int:
    """Find the particles in MASKS: outputs of segment, or masks as MRC, OME-Zarr or Zarr.

    \b
    tomoseg pick mask.zarr --out particles.star --diameter 250
    tomoseg pick masks/*.zarr --out relion5:all.star --tomograms tomograms.star

    Repeat an interrupted command to go on where it stopped.
    """
    configure_logging(quiet=flags["quiet"], verbose=flags["verbose"])
    config, export = _config(flags), _export(flags)
    destinations = _destinations(flags, len(masks))
    targets = _targets(masks, flags)
    resources = cluster_of(flags)
    _require_writable(targets, destinations, export, flags)
    with (
        stop_on_signal("shards") as stop,
        ProgressReport(quiet=flags["quiet"]) as progress,
        open_lazily(resources, stop) as executor,
    ):
        from tomoseg.particles.pick import pick as run

        found = []
        for target in targets:
            report = progress if len(targets) == 1 else progress.of(target.name)
            found.append(
                run(
                    target,
                    config,
                    executor(),
                    scratch=_scratch(destinations, flags, target),
                    progress=report,
                    labels=flags["labels"],
                    overwrite=flags["overwrite"],
                    memory_bytes=resources.worker_memory(),
                )
            )
    written = _write(found, destinations, export, flags)
    return _report(found, written, as_json=as_json)


def _config(flags: dict[str, Any]) -> PickConfig:
    same = ("split", "min_score", "max_elongation", "drop_border", "shard")
    connectivity = {str(choice): choice for choice in get_args(Connectivity)}
    return PickConfig(
        connectivity=connectivity[flags["connectivity"]],
        **{name: flags[name] for name in same},
        **{name: flags[flag] for flag, name in LIMITS.items()},
    )


def _export(flags: dict[str, Any]) -> "Export":
    from tomoseg.io.particle_files import Export, read_tomograms

    return Export(
        centre=flags["centre"],
        binning=flags["binning"],
        tomograms=read_tomograms(flags["tomograms"]) if flags["tomograms"] else None,
        object_name=flags["object_name"],
        user=flags["user"],
        session=flags["session"],
    )


def _destinations(flags: dict[str, Any], count: int) -> "list[Destination]":
    """Return the files that were asked for, and refuse what cannot be."""
    from tomoseg.io.particle_files import parse_destination

    found = [parse_destination(text, flags["file_format"]) for text in flags["out"]]
    if not (found or flags["copick"] or flags["labels"]):
        raise RequestError(
            "pick: expected somewhere to write to, got nothing.",
            "Give --out particles.star, --copick PROJECT or --labels LABELS.zarr.",
        )
    if len({destination.path for destination in found}) < len(found):
        raise RequestError("--out: expected different files, got one twice.")
    for flag in ("labels", "tomo_name", "array"):
        if count > 1 and flags[flag]:
            name = flag.replace("_", "-")
            raise RequestError(f"--{name}: expected one mask with it, got {count}.")
    return found


def _targets(masks: tuple[str, ...], flags: dict[str, Any]) -> "list[Target]":
    from tomoseg.io.volume import find_inputs
    from tomoseg.particles.target import open_target, renamed

    paths = find_inputs(masks)
    targets = [
        renamed(
            open_target(path, array=flags["array"], voxel_size=flags["voxel_size"]),
            flags["tomo_name"],
        )
        for path in paths
    ]
    names = [target.name for target in targets]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RequestError(
            f"pick: expected tomograms of different names, got {', '.join(twice)} twice.",
            "Pick them one by one, with --tomo-name.",
        )
    return targets


def _everything(
    targets: "list[Any]", destinations: "list[Destination]", export: "Export", flags: dict[str, Any]
) -> "list[tuple[list[Any], Destination]]":
    """Return which tomograms (or their particles) go to which file."""
    from tomoseg.io.copick import picks_destination

    files = [(targets, destination) for destination in destinations]
    if flags["copick"]:
        files += [([t], picks_destination(flags["copick"], t.name, export)) for t in targets]
    return files


def _require_writable(
    targets: "list[Target]",
    destinations: "list[Destination]",
    export: "Export",
    flags: dict[str, Any],
) -> None:
    from tomoseg.io.particle_files import require_room
    from tomoseg.io.storage import require_writable

    for some, destination in _everything(targets, destinations, export, flags):
        require_room(destination, len(some), overwrite=flags["overwrite"])
    if flags["labels"]:
        require_writable(flags["labels"], overwrite=flags["overwrite"])


def _scratch(destinations: "list[Destination]", flags: dict[str, Any], target: "Target") -> Path:
    """Return where results of shards are kept: beside what is written."""
    first: Path = destinations[0].path if destinations else flags["copick"] or flags["labels"]
    folder = first.absolute().parent
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f".{first.name}.{target.name}.picking"


def _write(
    found: "list[Picks]",
    destinations: "list[Destination]",
    export: "Export",
    flags: dict[str, Any],
) -> list[str]:
    from tomoseg.io.copick import ensure_project
    from tomoseg.io.particle_files import write_particles

    if flags["copick"]:
        ensure_project(flags["copick"], export, is_particle=True)
    written = []
    for some, destination in _everything(found, destinations, export, flags):
        write_particles(some, destination, export, overwrite=flags["overwrite"])
        written.append(str(destination.path))
    return written + ([str(flags["labels"])] if flags["labels"] else [])


def _report(found: "list[Picks]", written: list[str], *, as_json: bool) -> int:
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
    if len(found) > 1:
        lines.append(f"{total} particles in {len(found)} tomograms")
    text = "\n".join([*lines, *written])
    result = {"particles": total, "tomograms": tomograms, "written": written}
    print_result(result, text, as_json=as_json)
    return 0
