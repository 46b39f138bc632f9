"""Files that hold secrets are to be read by those alone who need them."""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path

import structlog

_log = structlog.get_logger(__name__)


def warn_of_readers(path: Path, what: str) -> None:
    """Says in the log when every user of this machine may read a file.

    Args:
        path: The file.
        what: What it holds, for people; never the secret itself.
    """
    with suppress(OSError):
        if path.stat().st_mode & stat.S_IROTH:
            _log.warning("secret.readable_by_all", what=what, remedy="chmod o-rwx")
