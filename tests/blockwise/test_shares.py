"""A tomogram computed by processes that never meet, as the tasks of an array are."""

import subprocess
import sys

import pytest
from engine import command, config, digests, run

from tomoseg.blockwise.execute import Resources
from tomoseg.blockwise.prepare import prepare_again
from tomoseg.blockwise.run import Share
from tomoseg.blockwise.status import read_status
from tomoseg.errors import RequestError
from tomoseg.io.omezarr import read_attributes, update_attributes

TASKS = 3
OPTIONS = ("--halo", "0", "--rule", "teacher", "--iterations", "2", "--threads", "1")


def finalize(output):
    arguments = [sys.executable, "-m", "tomoseg_cli.main", "finalize", str(output)]
    return subprocess.run(arguments, capture_output=True, text=True)


@pytest.mark.parametrize("scope", ["none", "volume"])
def test_shares_and_finalize_give_the_bits_of_one_process(tmp_path, volume, weights, scope):
    output = tmp_path / "out.zarr"

    def task(number):
        share = ("--shard-id", str(number), "--num-shards", str(TASKS))
        line = command(volume, output, weights, *OPTIONS, "--scope", scope, *share)
        return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    tasks = [task(number) for number in range(TASKS - 1)]  # at once; the last one comes later
    for child in tasks:
        _, err = child.communicate(timeout=300)
        assert child.returncode == 0, err
    early = finalize(output)
    assert early.returncode == 3, early.stderr
    assert "2 of 6 shards are not computed yet" in early.stderr
    assert "--num-shards 3" in early.stderr
    last = task(TASKS - 1)
    said, err = last.communicate(timeout=300)
    assert last.returncode == 0, err
    assert "2 shards of this share are computed (2 now)" in said
    assert not read_status(output).complete
    done = finalize(output)
    assert done.returncode == 0, done.stderr
    assert read_status(output, verify=True).complete
    assert finalize(output).returncode == 0  # nothing is left to do
    line = command(volume, tmp_path / "one.zarr", weights, *OPTIONS, "--scope", scope)
    subprocess.run(line, check=True, capture_output=True)
    assert digests(output) == digests(tmp_path / "one.zarr")


def test_a_driver_and_a_share_keep_apart(tmp_path, volume, weights):
    output = tmp_path / "out.zarr"
    seen = []

    def meanwhile(stage, done, total):
        if stage == "segment" and not seen:
            share = ("--scope", "none", "--shard-id", "0", "--num-shards", "2")
            line = command(volume, output, weights, *OPTIONS, *share)
            seen.append(subprocess.run(line, capture_output=True, text=True))

    run(volume, output, config(weights, halo=0), progress=meanwhile)
    assert seen[0].returncode == 2
    assert "another run works on it" in seen[0].stderr or "another request" in seen[0].stderr


@pytest.mark.parametrize(("number", "count"), [(3, 3), (-1, 2), (0, 0)])
def test_a_share_lies_within_all(number, count):
    with pytest.raises(RequestError, match="--shard-id"):
        Share(number, count)


def test_finalize_needs_no_device_that_the_network_ran_on(tmp_path, volume, weights):
    output = tmp_path / "out.zarr"
    run(volume, output, config(weights))
    begun = (read_attributes(output) or {})["fingerprint"] | {"device": "cuda"}
    update_attributes(output, {"fingerprint": begun})
    assert prepare_again(output, Resources()).fingerprint == begun


def test_finalize_wants_an_output(tmp_path):
    found = finalize(tmp_path / "nothing.zarr")
    assert found.returncode == 1
    assert "expected an output of tomoseg segment" in found.stderr
    assert "Traceback" not in found.stderr
