"""Fixtures that every test may ask for."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of test data: $TOMOSEG_DATA, or ../shared/data from the repository's root.

    Without it tests are skipped, and fail where CI is set: there it has to be.
    """
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TOMOSEG_DATA", beside))
    if not folder.is_dir():
        reason = f"no test data at {folder}; set TOMOSEG_DATA"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
