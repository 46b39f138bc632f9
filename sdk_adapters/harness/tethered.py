"""Runs a module that ends when whoever started it does, however that ended.

`python -m sdk_adapters.harness.tethered MODULE WORDS...`: standard input is a pipe from the
one who started it, and at its end the process tells itself to end in order.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def _end_with_input() -> None:
    while os.read(0, 4096):
        """What is written there is for nobody."""
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
