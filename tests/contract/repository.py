"""The files of the repository, as a commit of everything would hold them."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from tests.required import ROOT, require, require_command


@functools.cache
def files() -> tuple[Path, ...]:
    """Lists the files that are tracked or would be added, relative to the root."""
    require(".git", "run from a git checkout")
    listing = subprocess.run(
        [require_command("git"), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    paths = sorted({Path(name) for name in listing.split("\0") if name})
    return tuple(path for path in paths if (ROOT / path).is_file())


def python_files() -> list[Path]:
    """Lists the Python files that people wrote."""
    return [path for path in files() if path.suffix == ".py" and "_pb2" not in path.name]


def text_of(path: Path) -> str | None:
    """Returns the content of a file; None if it is no text."""
    data = (ROOT / path).read_bytes()
    return None if b"\0" in data else data.decode("utf-8", errors="replace")
