import os
from pathlib import Path

import pytest

from tomoseg.blockwise.journal import JournalWriter, read_state
from tomoseg.errors import StorageError


def test_a_shard_is_done_once_its_done_is_on_disk(tmp_path):
    writer = JournalWriter(tmp_path, run=1)
    writer.append(3, "begin")
    assert 3 not in read_state(tmp_path).done
    writer.append(3, "done", arrays={"mask": {"sha256": "ab"}})
    state = read_state(tmp_path)
    assert state.done[3].details["arrays"]["mask"]["sha256"] == "ab"
    assert state.last_run == 1


def test_a_silent_writer_leaves_the_shard_open(tmp_path):
    # one writer unlinked what the other had finished, then died
    first, second = JournalWriter(tmp_path, run=1), JournalWriter(tmp_path, run=1)
    first.append(0, "begin")
    second.append(0, "begin")
    second.append(0, "done")
    assert not read_state(tmp_path).done
    third = JournalWriter(tmp_path, run=2)
    third.append(0, "begin")
    third.append(0, "done")
    assert set(read_state(tmp_path).done) == {0}


def test_a_later_run_overrides_an_earlier_one(tmp_path):
    first, second = JournalWriter(tmp_path, run=1), JournalWriter(tmp_path, run=2)
    first.append(0, "begin")
    first.append(0, "done")
    second.append(0, "begin")
    assert not read_state(tmp_path).done
    second.append(0, "failed", error="no memory")
    assert read_state(tmp_path).failed[0].details["error"] == "no memory"


def test_damage_found_later_reopens_a_shard_until_it_is_redone(tmp_path):
    for run, events in enumerate([("begin", "done"), ("invalid",), ("begin", "done")], start=1):
        writer = JournalWriter(tmp_path, run=run)
        for event in events:
            writer.append(7, event)
        assert (7 in read_state(tmp_path).done) == (events[-1] == "done")
    assert read_state(tmp_path).invalid == frozenset()


@pytest.mark.parametrize("kept", [1, 10, 25])
def test_a_torn_last_line_is_no_record(tmp_path, kept):
    writer = JournalWriter(tmp_path, run=1)
    writer.append(0, "begin")
    (path,) = tmp_path.glob("*.jsonl")
    before = path.stat().st_size
    writer.append(0, "done")
    os.truncate(path, before + kept)
    assert not read_state(tmp_path).done
    assert read_state(tmp_path).last_run == 1


def test_damage_inside_is_not_passed_over(tmp_path):
    writer = JournalWriter(tmp_path, run=1)
    writer.append(0, "begin")
    (path,) = tmp_path.glob("*.jsonl")
    path.write_bytes(b"\x00garbage\n" + path.read_bytes())
    with pytest.raises(StorageError, match="damaged"):
        read_state(tmp_path)


def test_a_full_disk_is_a_clear_error(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    writer = JournalWriter(tmp_path, run=1)
    writer._path = Path("/dev/full")
    with pytest.raises(StorageError, match="No space left"):
        writer.append(0, "begin")
