"""Figures that outlive a run: each row is written down as soon as it is measured.

A row is of one state of the code, one device and one size. What of that changes is measured
anew; the rest is there the next time.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[3]
_SOURCES: Final = ("model_actor/models/sana_streaming", "model_actor/snapshots", "tests/bench/sana")


def code() -> str:
    """Returns what tells one state of the measured code from another: a hash of its files, which
    is the same in a copy that has no history.
    """
    digest = hashlib.sha256()
    for folder in _SOURCES:
        for path in sorted((ROOT / folder).glob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def commit() -> str:
    """Returns the commit, marked where files differ from it; empty where that is not known."""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return told.stdout.strip()


class Store:
    """A JSON file of rows."""

    def __init__(self, path: Path, device: str, size: str, *, key: str | None = None) -> None:
        """Reads what is there.

        Args:
            path: The file.
            device: What the rows are measured on.
            size: Which model.
            key: Of the code; None: as it is.
        """
        self._path = path
        self._key = "/".join((key or code(), device, size))
        self._all: dict[str, dict[str, Any]] = {}
        if path.is_file():
            self._all = json.loads(path.read_text())

    @property
    def rows(self) -> dict[str, Any]:
        """Rows of this code, device and size, by name."""
        return self._all.get(self._key, {})

    def add(self, name: str, row: dict[str, Any]) -> None:
        """Writes a row down."""
        self._all.setdefault(self._key, {})[name] = {**row, "commit": commit()}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(self._all, indent=1) + "\n")
        fresh.replace(self._path)
