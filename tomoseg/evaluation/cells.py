"""Results that are kept, one small JSON file each: a killed benchmark goes on with the next.

Knows files, and nothing of what is in them.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tomoseg.errors import StorageError
from tomoseg.io.storage import storage_errors, write_json

Values = dict[str, Any]


class Cells:
    """A folder of results by what decides them.

    Parameters
    ----------
    folder
        Made where it is missing.

    Raises
    ------
    StorageError
        Where it can't be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with storage_errors("Creating", folder):
            folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: Mapping[str, Any]) -> Values | None:
        """Return what was kept under `key`, or None.

        Raises
        ------
        StorageError
            Where the file cannot be read or is damaged.
        """
        path = self._path(key)
        try:
            kept: Values = json.loads(path.read_text(encoding="utf-8"))["value"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(
                f"{path}: expected a result of the benchmark, got {error!r}.",
                "Remove the file; it is computed again.",
            ) from error
        return kept

    def put(self, key: Mapping[str, Any], value: Values) -> None:
        """Keep `value` under `key`, in one step."""
        write_json(self._path(key), {"key": key, "value": value})

    def _path(self, key: Mapping[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self._folder / f"{digest[:24]}.json"
