"""How many descriptors a process that terminates clients may have open."""

from __future__ import annotations

import resource
from typing import Final

WANTED: Final = 65_536
"""Enough for every connection that is let in; a shell's usual limit is 1,024."""


def allow_many_files() -> None:
    """Raises this process's own limit as far as it is allowed to, up to `WANTED`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
