"""Where ``tomoseg pick`` writes, and which tomogram's particles go to which file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tomoseg.errors import RequestError
from tomoseg.io.copick import ensure_project, picks_destination
from tomoseg.io.particle_files import (
    IN_PIXELS,
    Destination,
    Export,
    parse_destination,
    read_tomograms,
    require_room,
    write_particles,
)
from tomoseg.io.particle_frames import require_tomogram
from tomoseg.io.picks import Picks
from tomoseg.io.storage import require_writable
from tomoseg.particles.target import Target

Named = TypeVar("Named", Target, Picks)


@dataclass(frozen=True)
class PickFiles:
    """Everything that a command is to write.

    Parameters
    ----------
    destinations
        Files that hold the particles of all tomograms.
    copick
        Project with a file for each tomogram; None for none.
    labels
        OME-Zarr with the number of each voxel's particle; None for none.
    export
        How particles are written.
    overwrite
        Whether what is there may go.
    """

    destinations: list[Destination]
    copick: Path | None
    labels: Path | None
    export: Export
    overwrite: bool

    @classmethod
    def of_flags(cls, flags: dict[str, Any]) -> "PickFiles":
        """Return what flags ask for.

        Raises
        ------
        RequestError
            Where that is nothing, or twice the same.
        """
        export = Export(
            centre=flags["centre"],
            binning=flags["binning"],
            tomograms=read_tomograms(flags["tomograms"]) if flags["tomograms"] else None,
            object_name=flags["object_name"],
            user=flags["user"],
            session=flags["session"],
        )
        found = [parse_destination(text, flags["file_format"]) for text in flags["out"]]
        if not (found or flags["copick"] or flags["labels"]):
            raise RequestError(
                "pick: expected somewhere to write to, got nothing.",
                "Give --out particles.star, --copick PROJECT or --labels LABELS.zarr.",
            )
        if len({destination.path for destination in found}) < len(found):
            raise RequestError("--out: expected different files, got one twice.")
        return cls(found, flags["copick"], flags["labels"], export, flags["overwrite"])

    def require_room(self, targets: Sequence[Target]) -> None:
        """Refuse to replace what is there, and files that cannot hold so many tomograms."""
        for some, destination in self._files(targets):
            require_room(destination, len(some), overwrite=self.overwrite)
        if self.labels:
            require_writable(self.labels, overwrite=self.overwrite)

    def require_known(self, target: Target) -> None:
        """Refuse a tomogram that ``--tomograms`` lacks, where files need what it says."""
        if any(destination.format in IN_PIXELS for destination in self.destinations):
            require_tomogram(target.name, self.export.tomograms)

    def scratch(self, target: Target) -> Path:
        """Return where it is kept what was computed: beside what is written."""
        first = self.destinations[0].path if self.destinations else self.copick or self.labels
        assert first is not None
        folder = first.absolute().parent
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f".{first.name}.{target.name}.picking"

    def write(self, found: Sequence[Picks]) -> list[str]:
        """Write the particles of all tomograms; return the paths."""
        if self.copick:
            ensure_project(self.copick, self.export, is_particle=True)
        written = []
        for some, destination in self._files(found):
            write_particles(some, destination, self.export, overwrite=self.overwrite)
            written.append(str(destination.path))
        return written + ([str(self.labels)] if self.labels else [])

    def _files(self, every: Sequence[Named]) -> list[tuple[Sequence[Named], Destination]]:
        """Return which tomograms, or their particles, go to which file."""
        files = [(every, destination) for destination in self.destinations]
        if self.copick:
            for one in every:
                place = picks_destination(self.copick, one.name, self.export)
                files.append(([one], place))
        return files
