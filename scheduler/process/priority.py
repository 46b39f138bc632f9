"""Who goes first where processes want more of a machine than there is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

STREAMING: Final = 5
"""Niceness of a process that streams: behind the gateway (0), before all others."""
NODE: Final = 10
"""That of Ray's own processes, and of a worker until it has loaded Ray (1.5 s of CPU)."""
WORKERS: Final = 15
"""That of a worker afterwards, unless it raises itself."""


def go_before(niceness: int = STREAMING) -> bool:
    """Raises the priority of this process and of all its threads, as far as that is permitted.

    Ray starts all of its processes as the last ones to be served. A scheduler that starts again
    then takes as much of a busy machine as each actor that streams; afterwards it needs next to
    nothing. Without rights (`CAP_SYS_NICE`) nothing changes.

    Args:
        niceness: What it is to be; one that is lower already stays.

    Returns:
        Whether all threads have it.
    """
    for thread in Path("/proc/self/task").iterdir():
        try:
            # On Linux niceness is a thread's own; new ones have that of their makers.
            if os.getpriority(os.PRIO_PROCESS, int(thread.name)) > niceness:
                os.setpriority(os.PRIO_PROCESS, int(thread.name), niceness)
        except PermissionError:
            return False
        except ProcessLookupError:
            continue
    return True
