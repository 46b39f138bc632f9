"""The rules that `tests/conftest.py` holds all tests to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.required import ROOT, require, require_command

pytestmark = pytest.mark.contract


def run(folder: Path, name: str, content: str) -> subprocess.CompletedProcess[str]:
    """Runs one test module in a tree of its own under our rules."""
    module = folder / name
    module.parent.mkdir(parents=True)
    module.write_text(content)
    for rules in ("conftest.py", "logs.py"):
        shutil.copy(ROOT / "tests" / rules, folder / "tests" / rules)
    shutil.copy(ROOT / "pyproject.toml", folder)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=110, check=False
    )


MARKED = "import pytest\npytestmark = pytest.mark.unit\n"


def test_a_marked_module_passes(tmp_path: Path) -> None:
    done = run(tmp_path, "tests/unit/test_x.py", MARKED + "def test_x(): ...\n")
    assert done.returncode == 0, done.stdout


def test_a_module_without_a_kind_is_refused_at_collection(tmp_path: Path) -> None:
    done = run(tmp_path, "tests/test_x.py", "def test_x(): ...\n")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "tests/test_x.py: set pytestmark" in done.stderr


def test_a_module_of_another_kind_than_its_folder_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "tests/e2e/test_x.py", MARKED + "def test_x(): ...\n")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "marked e2e" in done.stderr


def test_a_process_left_running_fails_the_run_and_is_ended(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "tests/unit/test_x.py",
        MARKED
        + "import pathlib, subprocess\n"
        + "def test_x():\n"
        + "    left = subprocess.Popen(['sh', '-c', 'sleep 60 & echo $!'], text=True,\n"
        + "        stdout=subprocess.PIPE, start_new_session=True)\n"
        + "    pathlib.Path('pid').write_text(left.stdout.readline())\n"
        + "    left.stdout.close()\n"
        + "    left.wait()\n",
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert "left running" in done.stdout
    with suppress(psutil.NoSuchProcess):
        left = psutil.Process(int((tmp_path / "pid").read_text()))
        psutil.wait_procs([left], timeout=10)
        assert left.status() == psutil.STATUS_ZOMBIE


def test_what_is_missing_is_a_skip_here_and_a_failure_in_ci(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"no/such/file is missing.*make setup"):
        require("no/such/file")
    with pytest.raises(pytest.skip.Exception, match="no-such-command is missing"):
        require_command("no-such-command")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no/such/file is missing"):
        require("no/such/file")


def test_what_is_there_is_returned() -> None:
    assert require("pyproject.toml") == ROOT / "pyproject.toml"
    assert os.access(require_command("sh"), os.X_OK)
