"""What a test needs beside Python packages: skipped without it here, failed in CI.

In continuous integration a missing tool is a fault of the set-up, and a skip could pass for
a success.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final, NoReturn

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
SETUP: Final = "run `make setup`"


def require(path: str | Path, hint: str = SETUP) -> Path:
    """Returns a file or folder that the test needs; relative paths begin at the repository.

    Args:
        path: For example `.venvs/gateway/bin/python`. The path is not resolved: the Python of a
            virtual environment is a link.
        hint: What to do when it is missing.
    """
    found = ROOT / path
    if not found.exists():
        missing(str(path), hint)
    return found


def require_command(name: str, hint: str = SETUP) -> Path:
    """Returns the program of this name on the search path."""
    found = shutil.which(name)
    if found is None:
        missing(name, hint)
    return Path(found)


def missing(what: str, hint: str) -> NoReturn:
    """Skips the test, or fails it in CI, for want of something."""
    reason = f"{what} is missing: {hint}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
