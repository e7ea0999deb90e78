"""Tables as Parquet files: the one room that knows pyarrow, which is an extra."""

import io
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

from tomoseg.errors import RequestError


def require_parquet(path: Path) -> None:
    """Refuse a file where nothing is installed that knows Parquet.

    Raises
    ------
    RequestError
        Naming `path` and what to install.
    """
    try:
        _arrow()
    except ImportError as error:
        raise RequestError(
            f"{path}: Parquet takes pyarrow, which is not installed.",
            "Get it with: pip install 'tomoseg[parquet]', or use CSV.",
        ) from error


def parquet_bytes(table: Mapping[str, NDArray[Any]]) -> bytes:
    """Return a Parquet file; NaN becomes null.

    Parameters
    ----------
    table
        Columns of equal length, by name.
    """
    arrow, parquet = _arrow()
    columns = {name: arrow.array(values, from_pandas=True) for name, values in table.items()}
    file = io.BytesIO()
    parquet.write_table(arrow.table(columns), file)
    return file.getvalue()


def read_parquet(path: Path) -> dict[str, list[Any]]:
    """Read the columns of a Parquet file by name.

    Raises
    ------
    RequestError
        Where pyarrow is not installed.
    OSError, ValueError
        Where the file cannot be read.
    """
    require_parquet(path)
    _, parquet = _arrow()
    columns: dict[str, list[Any]] = parquet.read_table(io.BytesIO(path.read_bytes())).to_pydict()
    return columns


def _arrow() -> tuple[ModuleType, ModuleType]:
    import pyarrow
    import pyarrow.parquet

    return pyarrow, pyarrow.parquet
