"""The folder for kept states: private, and gone with its owner."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scheduler.backends import kept_states
from scheduler.backends.kept_states import KeptStates
from scheduler.core.errors import ConfigurationError

pytestmark = pytest.mark.unit


def test_the_folder_is_private_and_removed_with_what_is_in_it(tmp_path: Path) -> None:
    kept = KeptStates(tmp_path)
    (kept.path / "state").write_bytes(b"x")
    assert kept.path.stat().st_mode & 0o077 == 0
    assert kept.path.parent.stat().st_mode & 0o077 == 0
    kept.remove()
    kept.remove()
    assert not kept.path.exists()


def test_what_an_owner_that_was_killed_left_is_swept(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    shared = KeptStates(tmp_path).path.parent
    left, own = shared / f"{ended.pid}-x", shared / f"{os.getpid()}-y"
    foreign = shared / "readme"
    for folder in (left, own, foreign):
        folder.mkdir()
    KeptStates(tmp_path)
    assert [folder.exists() for folder in (left, own, foreign)] == [False, True, True]


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / f"sana-gateway-{os.getuid()}").symlink_to(elsewhere)
    with pytest.raises(ConfigurationError, match="belongs to somebody else"):
        KeptStates(tmp_path)


def test_processes_of_a_node_know_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(kept_states.FOLDER, raising=False)
    assert kept_states.folder_of_node() == ""
    monkeypatch.setenv(kept_states.FOLDER, "/kept")
    assert kept_states.folder_of_node() == "/kept"
