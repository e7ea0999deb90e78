"""Packages that only the `simulate` extra installs."""

import importlib
from typing import Any

from tomoseg.errors import RequestError


def optional(package: str, purpose: str) -> Any:
    """Import a package of the extra.

    Parameters
    ----------
    package
        Its import name.
    purpose
        What it is needed for, as in "to read PDB files".

    Raises
    ------
    RequestError
        Where it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise RequestError(
            f"The package {package} is needed {purpose}, and is not installed.",
            "Run: pip install 'tomoseg[simulate]'",
        ) from error
