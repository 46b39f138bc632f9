"""What the garbage collector goes through in a process whose loop has deadlines."""

from __future__ import annotations

import gc


def spare_what_is_loaded() -> None:
    """Takes what was made so far out of the collector's rounds; to be called once, when serving.

    Modules, descriptors and plugins live as long as the process. They are some hundred
    thousand objects, and to go through them holds up the loop for 40 to 70 ms, every now and
    then, in the middle of everybody's video. What sessions make is a few hundred each.
    """
    gc.collect()
    gc.freeze()
