"""The command `ray` for a node of ours: `python -m scheduler.backends.ray_command start`.

Must lead a process group of its own. Three things differ: the node ends when its standard
input does, so that it never outlives whoever started it, even if that one was killed;
there is no grpcio: where it can be imported, `ray start` adds a server for remote clients,
on a fixed port, that takes 60 MB and nearly 2 s of CPU to start; and what streams goes before
the node and before workers that are still loading Ray, which inherit its niceness.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Final

from scheduler.process.priority import NODE

_TERM_S: Final = 8.0
"""Seconds that Ray gets to end what it started."""


def main() -> None:
    """Runs the command line of Ray on our arguments."""
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    os.nice(max(0, NODE - os.nice(0)))
    sys.modules["grpc"] = None  # type: ignore[assignment]
    from ray.scripts.scripts import main as ray_command

    ray_command()  # type: ignore[no-untyped-call]


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    # Before it has its handler, Ray would leave behind what it has started so far.
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_TERM_S)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
