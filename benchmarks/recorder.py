"""Workers that begin and record shards and do nothing between, for `scale`.

A module of its own, so that tasks name these classes as they name the engine's.
"""

from pathlib import Path

from tomoseg.blockwise.journal import JournalWriter, Turn, journal_folder
from tomoseg.blockwise.prepared import Prepared
from tomoseg.blockwise.shard import Job, Worker
from tomoseg.blockwise.write import ShardResult


class Recorder(Worker):
    """Begins and records a shard, and does nothing between."""

    def segment(self, number: int) -> ShardResult:
        """Record one shard."""
        if "journal" not in vars(self):
            folder = journal_folder(Path(self.job.layout.path))
            self.journal, self.turn = JournalWriter(folder, self.job.run), Turn(folder)
        with self.turn.writing(self.job.run):
            self.journal.append(number, "begin")
            digest = {"sha256": "0" * 64, "empty": True, "nonzero": 0}
            self.journal.append(number, "done", arrays={"image": digest}, seconds={})
        return ShardResult(number, "", {})


class RecordedJob(Job):
    """Opens a `Recorder`."""

    def open(self) -> Worker:
        """Return a worker for it."""
        return Recorder(self)


class RecordedOnly(Prepared):
    """A prepared request of which no shard is computed."""

    def job(self, path: Path, run: int) -> Job:
        """Return what the workers are told."""
        return RecordedJob(**vars(super().job(path, run)))
