"""Dask clusters as users start them: encrypted, closed to strangers, and mortal."""

import concurrent.futures
import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from engine import config, digests, run

from tomoseg.blockwise.certificates import make_certificates, security
from tomoseg.blockwise.clusters import local_cluster
from tomoseg.blockwise.execute import OnDask
from tomoseg.errors import ExecutorError, OutputExistsError, Stopped

ADDRESS = "127.0.0.1:0"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tls") / "certificates"
    make_certificates(folder)
    return folder


@contextlib.contextmanager
def started(folder: Path, certificates: Path):
    """Start a scheduler and a worker as the pages of deploy/ say; yield its file and them."""
    file = folder / "dask.json"
    environment = os.environ | {"DASK_CONFIG": str(certificates), "OMP_NUM_THREADS": "1"}
    options = ["--scheduler-file", str(file), "--dashboard-address", ADDRESS, "--no-dashboard"]
    host = ["--host", "127.0.0.1"]
    commands = [
        ["scheduler", *options, *host, "--port", "0"],
        ["worker", *options, *host, "--nworkers", "1", "--nthreads", "2", "--death-timeout", "60"],
    ]
    children = []
    try:
        for command in commands:
            line = [sys.executable, "-m", "dask", *command]
            log = (folder / f"{command[0]}.log").open("w")
            children.append(
                subprocess.Popen(line, env=environment, stdout=log, stderr=log, cwd=folder)
            )
            deadline = time.monotonic() + 60
            while not (file.exists() and file.read_text()):
                assert time.monotonic() < deadline, (folder / "scheduler.log").read_text()
                time.sleep(0.1)
        yield file, children
    finally:
        for child in reversed(children):
            for process in psutil.Process(child.pid).children(recursive=True):
                process.kill()
            child.kill()
            child.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, certificates):
    with started(tmp_path_factory.mktemp("cluster"), certificates) as (file, _):
        yield file


def address_in(file: Path) -> str:
    import json

    return json.loads(file.read_text())["address"]


def test_an_encrypted_cluster_gives_the_same_bits(
    tmp_path, volume, weights, expected, cluster, certificates
):
    output = tmp_path / "out.zarr"
    found = {"scheduler_file": str(cluster), "certificates": certificates}
    run(volume, output, config(weights), **found)
    assert digests(output) == expected["none"]


STRANGER = """
import sys
from pathlib import Path
from distributed import Client
from tomoseg.blockwise.certificates import security
own = security(Path(sys.argv[2])) if sys.argv[2:] else None
with Client(sys.argv[1], timeout=5, security=own) as client:
    print("in:", client.submit(sum, [1, 2]).result())
"""


def test_strangers_are_refused(tmp_path, cluster, certificates):
    """Plain TCP, no certificate, and a certificate of another authority."""

    def knock(*arguments):
        line = [sys.executable, "-c", STRANGER, *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, timeout=120)

    address = address_in(cluster)
    assert address.startswith("tls://127.0.0.1:")
    make_certificates(tmp_path / "other")
    plain = address.replace("tls://", "tcp://")
    for wrong in ((plain,), (address,), (address, tmp_path / "other")):
        found = knock(*wrong)
        assert found.returncode != 0
        assert "in:" not in found.stdout
    assert "in: 3" in knock(address, certificates).stdout


def test_a_worker_without_the_certificate_is_refused(tmp_path, cluster, certificates):
    make_certificates(tmp_path / "other")
    environment = os.environ | {"DASK_CONFIG": str(tmp_path / "other")}
    line = [
        *(sys.executable, "-m", "dask", "worker", address_in(cluster), "--host", "127.0.0.1"),
        *("--dashboard-address", ADDRESS, "--no-nanny", "--death-timeout", "5"),
    ]
    ended = subprocess.run(
        line, env=environment, capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert "Registered to" not in ended.stderr
    assert ended.returncode != 0 or "closed" in ended.stderr.lower()


def test_the_wrong_certificates_are_named(tmp_path, volume, weights, cluster):
    make_certificates(tmp_path / "other")
    with pytest.raises(ExecutorError, match="--certificates"):
        run(
            volume, tmp_path / "out.zarr", config(weights), scheduler_file=str(cluster),
            certificates=tmp_path / "other",
        )  # fmt: skip


def test_the_workers_say_which_device_they_have(
    tmp_path, volume, weights, expected, cluster, certificates
):
    """The machine of the driver may have others: here, as there, is no GPU."""
    output = tmp_path / "out.zarr"
    found = {"scheduler_file": str(cluster), "certificates": certificates}
    with pytest.raises(ExecutorError, match=r"on a worker: device: .*got cuda"):
        run(volume, output, config(weights), device="cuda", **found)
    assert not output.exists()
    run(volume, output, config(weights), device="auto", **found)
    assert digests(output) == expected["none"]


class Unlike:
    """A client with a worker for each device."""

    def __init__(self, *devices):
        self._left = list(devices)

    def nthreads(self):
        return list(self._left)

    def submit(self, *_, **__):
        answer = concurrent.futures.Future()
        answer.set_result(self._left.pop())
        return answer


def test_workers_that_are_unlike_are_named():
    assert OnDask(Unlike("cuda:0", "cuda:0"), threading.Event()).device("auto") == "cuda:0"
    with pytest.raises(ExecutorError, match=r"alike, found cpu, cuda:0"):
        OnDask(Unlike("cuda:0", "cpu"), threading.Event()).device("auto")


def test_a_lost_scheduler_stops_the_run_and_another_goes_on(
    tmp_path, volume, weights, expected, certificates
):
    output = tmp_path / "out.zarr"

    def kill(children):
        def progress(stage, done, total):
            if stage == "segment" and done == 1:
                children[0].send_signal(signal.SIGKILL)

        return progress

    with started(tmp_path, certificates) as (file, children):
        found = {"scheduler_file": str(file), "certificates": certificates}
        with pytest.raises(Stopped, match="same command goes on"):
            run(volume, output, config(weights), progress=kill(children), **found)
    run(volume, output, config(weights))
    assert digests(output) == expected["none"]


def test_nothing_listens_off_loopback_and_nobody_gets_in_there():
    """All sockets of an embedded cluster, its workers' included."""
    with local_cluster(2, 2**30, ()) as client:
        client.wait_for_workers(2, timeout=60)
        own = psutil.Process()
        listening = [
            connection.laddr
            for process in (own, *own.children(recursive=True))
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert len(listening) >= 5  # scheduler, and a nanny and a worker each twice
        assert {address.ip for address in listening} <= {"127.0.0.1", "::1"}
        speaking = [client.scheduler.address, *client.nthreads()]
        assert all(address.startswith("tls://") for address in speaking)
        for address in speaking:
            port = int(address.rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
                plain.settimeout(10)
                plain.sendall(b"\x01" + bytes(200))
                with contextlib.suppress(ConnectionError):
                    assert len(plain.recv(64)) < 16  # at most an alert, no Dask


def test_each_device_has_a_process_that_sees_no_other():
    with local_cluster(2, 2**30, ("cuda:1", "cuda:3")) as client:
        client.wait_for_workers(2, timeout=60)
        seen = client.run(lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))
    assert sorted(seen.values()) == ["1", "3"]


# Certificates ----------------------------------------------------------------------------


def test_certificates_are_private_and_never_replaced(tmp_path):
    folder = tmp_path / "certificates"
    make_certificates(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name for path in folder.iterdir()} == {
        "ca.pem", "cert.pem", "key.pem", "dask.yaml"
    }  # fmt: skip
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    before = (folder / "key.pem").read_bytes()
    with pytest.raises(OutputExistsError):
        make_certificates(folder)
    assert (folder / "key.pem").read_bytes() == before
    (folder / "key.pem").chmod(0o644)
    with pytest.raises(ExecutorError, match="chmod 600"):
        security(folder)
    (folder / "cert.pem").unlink()
    with pytest.raises(ExecutorError, match=r"no cert\.pem"):
        security(folder)


def test_temporary_certificates_leave_nothing(tmp_path):
    from tomoseg.blockwise.certificates import temporary_certificates

    with temporary_certificates(tmp_path) as folder:
        assert (folder / "key.pem").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_queue_that_is_not_there_is_an_error_of_the_request(tmp_path, monkeypatch):
    from tomoseg.blockwise.clusters import Jobs, job_queue

    monkeypatch.setenv("PATH", str(tmp_path))  # no sbatch
    jobs = Jobs(folder=str(tmp_path / "jobs"), interface="lo")
    with (
        pytest.raises(ExecutorError, match="sbatch"),
        job_queue(jobs, threading.Event()),
    ):
        pass
