"""The folder in a host's memory where actors keep the states of sessions.

It belongs to whoever started the host's part of the service, not to an actor: it outlives
an actor that is killed, and goes when that part of the service ends. One whose owner was
killed is removed by the next one that starts.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from scheduler.core.errors import ConfigurationError

FOLDER: Final = "SANA_KEPT_STATES"
"""Variable by which the processes of a Ray node know the folder."""
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - made private below


def folder_of_node() -> str:
    """Returns the folder that this process was told of; empty if none."""
    return os.environ.get(FOLDER, "")


class KeptStates:
    """Such a folder, made at once and private to this user.

    Args:
        memory: File system that lies in memory; None: the usual one, else a folder on disk.

    Raises:
        ConfigurationError: Somebody else has taken its place.
    """

    def __init__(self, memory: Path | None = None) -> None:
        base = memory or (_MEMORY if _MEMORY.is_dir() else Path(tempfile.gettempdir()))
        shared = base / f"sana-gateway-{os.getuid()}"
        shared.mkdir(mode=0o700, exist_ok=True)
        if shared.is_symlink() or shared.stat().st_uid != os.getuid():
            raise ConfigurationError(f"{shared} belongs to somebody else")
        _sweep(shared)
        self.path = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=shared))
        """Where it is."""

    def remove(self) -> None:
        """Removes it with all that is in it. Repeating it does nothing."""
        shutil.rmtree(self.path, ignore_errors=True)


def _sweep(shared: Path) -> None:
    """Removes the folders of owners that are gone."""
    for folder in shared.iterdir():
        owner = folder.name.partition("-")[0]
        if owner.isdigit() and not _runs(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
