"""Certificates for a Dask cluster: who holds a folder of them may talk to it, nobody else.

Knows files and X.509; knows no cluster.
"""

import contextlib
import datetime
import ipaddress
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tomoseg.errors import ExecutorError, OutputExistsError
from tomoseg.io.storage import storage_errors

AUTHORITY, CERTIFICATE, KEY, SETTINGS = "ca.pem", "cert.pem", "key.pem", "dask.yaml"

DAYS = 365
"""For which certificates are valid."""


def make_certificates(folder: Path, *, days: int = DAYS) -> None:
    """Make an authority, and one certificate of it for scheduler, workers and clients.

    The authority's key is thrown away: there will never be another certificate of it.
    ``dask.yaml`` beside them makes every Dask process with ``DASK_CONFIG=folder`` use them.

    Parameters
    ----------
    folder
        Made with mode 0700, or there and empty; the files in it with 0600.
    days
        Until they expire.

    Raises
    ------
    OutputExistsError
        Where something else is at `folder`.
    StorageError
        Where the file system refuses.
    """
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise OutputExistsError(
            f"{folder}: expected nothing there or an empty folder.", "Choose another one."
        )
    with storage_errors("Writing", folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        for name, content in (_certificates(days) | {SETTINGS: _settings(folder)}).items():
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)


@contextlib.contextmanager
def temporary_certificates(parent: Path) -> Iterator[Path]:
    """Make certificates that go with the context, in a private folder within `parent`."""
    with storage_errors("Writing", parent):
        holder = Path(tempfile.mkdtemp(prefix=".tomoseg-certificates-", dir=parent))
    try:
        make_certificates(holder / "tls", days=DAYS)
        yield holder / "tls"
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def security(folder: Path) -> Any:
    """Return Dask's ``Security`` of a folder of certificates; plain traffic is refused.

    Raises
    ------
    ExecutorError
        Where the folder lacks one, or everybody may read its key. A group may, as it must
        where Kubernetes mounts a secret; it is part of the cluster then.
    """
    from distributed import Security

    for name in (AUTHORITY, CERTIFICATE, KEY):
        if not (folder / name).is_file():
            raise ExecutorError(
                f"{folder}: expected {AUTHORITY}, {CERTIFICATE} and {KEY}, found no {name}.",
                f"Make them with 'tomoseg cluster-certs {folder}'.",
            )
    if (folder / KEY).stat().st_mode & 0o007:
        raise ExecutorError(
            f"{folder / KEY}: expected a key that not everybody can read.",
            f"If nobody else has read it: 'chmod 600 {folder / KEY}'; otherwise make new ones.",
        )
    authority, certificate, key = (str(folder / name) for name in (AUTHORITY, CERTIFICATE, KEY))
    roles = ("scheduler", "worker", "client")
    files = {f"tls_{role}_cert": certificate for role in roles}
    files |= {f"tls_{role}_key": key for role in roles}
    return Security(require_encryption=True, tls_ca_file=authority, **files)


def _settings(folder: Path) -> bytes:
    """Return Dask's configuration; JSON is YAML."""
    where = folder.absolute()
    own = {"cert": str(where / CERTIFICATE), "key": str(where / KEY)}
    tls = {"ca-file": str(where / AUTHORITY), "scheduler": own, "worker": own, "client": own}
    comm = {"require-encryption": True, "default-scheme": "tls", "tls": tls}
    settings = {"distributed": {"comm": comm, "scheduler": {"worker-ttl": None}}}
    return json.dumps(settings, indent=2).encode() + b"\n"


def _certificates(days: int) -> dict[str, bytes]:
    """Return the three files' content."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.datetime.now(datetime.UTC)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def begun(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("tomoseg authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=10))  # clocks differ
            .not_valid_after(now + datetime.timedelta(days=days))
        )

    authority, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = begun("tomoseg authority", authority).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    member = (
        begun("tomoseg cluster", own)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    signed = [builder.sign(authority, hashes.SHA256()) for builder in (root, member)]
    pem = serialization.Encoding.PEM
    key = own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {
        AUTHORITY: signed[0].public_bytes(pem),
        CERTIFICATE: signed[1].public_bytes(pem),
        KEY: key,
    }
