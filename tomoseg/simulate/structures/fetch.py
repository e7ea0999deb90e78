"""Entries of the Protein Data Bank, fetched once and kept; knows no structures."""

import logging
import os
import re
from pathlib import Path

from tomoseg.errors import InputError
from tomoseg.simulate.structures.extra import optional

_URL = "https://files.rcsb.org/download/"
_TIMEOUT_SECONDS = 30

_logger = logging.getLogger(__name__)


def is_entry_id(source: str) -> bool:
    """Tell whether `source` looks like an entry of the Protein Data Bank, as 4V5A does."""
    return re.fullmatch(r"[1-9][0-9A-Za-z]{3}", source) is not None


def fetch_entry(entry: str) -> Path:
    """Return the mmCIF file of an entry, from the cache or else from RCSB.

    The cache is the folder ``$TOMOSEG_CACHE``, or the system's folder for caches. A file
    that lies there is used as it is, without a network.

    Parameters
    ----------
    entry
        Four characters, in either case.

    Returns
    -------
    Path
        Of the compressed file.

    Raises
    ------
    InputError
        Where the entry is not in the cache and cannot be fetched.
    RequestError
        Where pooch is needed and not installed.
    """
    file = _cache_folder() / f"{entry.upper()}.cif.gz"
    if not file.is_file():
        _download(_URL + file.name, file)
    return file


def _cache_folder() -> Path:
    folder = os.environ.get("TOMOSEG_CACHE")
    return Path(folder or optional("pooch", "to find the cache").os_cache("tomoseg"))


def _download(url: str, file: Path) -> None:
    pooch = optional("pooch", "to fetch entries of the Protein Data Bank")
    pooch.get_logger().setLevel(logging.WARNING)  # it would tell of hashes on stderr
    _logger.info("Fetching %s", url)
    try:
        pooch.retrieve(
            url,
            known_hash=None,
            fname=file.name,
            path=file.parent,
            downloader=pooch.HTTPDownloader(timeout=_TIMEOUT_SECONDS),
        )
    except (OSError, ValueError) as error:  # the errors of requests are OSErrors
        raise InputError(
            f"{url} could not be fetched: {_reason(error)}.",
            f"Give a PDB, mmCIF or MRC file, or put the entry's mmCIF file at {file}.",
        ) from error


def _reason(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 404:
        return "there is no such entry"
    if status is not None:
        return f"the server answers {status}"
    if type(error).__module__.startswith("requests"):
        return f"the server cannot be reached ({type(error).__name__})"
    return str(error)
