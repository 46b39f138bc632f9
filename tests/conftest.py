"""Rules for all tests: every module has a kind, nothing is left running, and nothing that was
logged holds a secret or what users brought.

Kept free of imports of this project, so that the rules hold for any of its test modules.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from hypothesis import settings

from tests import logs

KINDS: Final = frozenset({"unit", "properties", "contract", "media", "integration", "e2e", "slow"})
"""Markers that say what kind of test a module holds; `pyproject.toml` explains them."""

RUN: Final = "SANA_TEST_RUN"
"""Variable by which a process started in this run is known, whoever its parent became."""

ENDING_S: Final = 5.0
"""Time for processes that are ending to be gone."""

_LEFT: Final = pytest.StashKey[list[str]]()
"""What workers of xdist found running."""

# Processes of the interpreter itself, which end with it.
_OWN_TO_PYTHON: Final = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


# How long an example takes depends on what else the machine does.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    """Marks all that the tests will start; a worker of xdist adds to the mark of its run."""
    whose = os.environ[RUN] if hasattr(config, "workerinput") else ""
    os.environ[RUN] = whose + uuid.uuid4().hex
    config.stash[_LEFT] = []
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Logs(), "logs of the run")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuses test modules without a kind, or of another kind than their folder's."""
    faults: dict[str, str] = {}
    for item in items:
        kinds = {mark.name for mark in item.iter_markers()} & KINDS
        folder = next((part for part in item.path.parts[::-1] if part in KINDS), None)
        name = item.nodeid.partition("::")[0]
        if not kinds:
            faults[name] = f"set pytestmark to one of {', '.join(sorted(KINDS))}"
        elif folder is not None and folder not in kinds:
            faults[name] = f"a module below tests/{folder} is marked {folder}"
    if faults:
        lines = [f"{name}: {fault}" for name, fault in sorted(faults.items())]
        raise pytest.UsageError("test modules without their kind:\n" + "\n".join(lines))


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """Fails a run that leaves processes behind, and ends them.

    Where xdist runs the tests, its workers look after what they started themselves.
    """
    yield
    left = [*session.config.stash[_LEFT], *_end_what_is_left()]
    if left and (told := getattr(session.config, "workeroutput", None)) is not None:
        told["left running"] = left
    elif left:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        for name in left:
            if reporter is not None:
                reporter.write_line(f"left running: {name}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session", autouse=True)
def _keep_logs_of_the_harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Has what services of the load harness logged looked at, too."""
    yield
    for log in tmp_path_factory.getbasetemp().rglob("service.log"):
        logs.keep(log)


class _Logs:
    """Fails a run in which a log holds what it must not; see `tests/logs.py`."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="sana-test-logs-"))
        self._scan = logs.Scan(logs.prompts(Path(__file__).parent))
        self._found: list[str] = []
        os.environ[logs.FOLDER] = str(self._folder)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Looks at what a test's own process said."""
        if report.passed:
            said = (logs.said_by(section, text) for section, text in report.sections)
            self._found += [
                f"{report.nodeid}: {fault}" for text in said for fault in self._scan.faults(text)
            ]

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None]:
        """Looks at the logs of services."""
        yield
        self._found += logs.faults_of_run(self._folder, Path(__file__).parent)
        shutil.rmtree(self._folder, ignore_errors=True)
        del os.environ[logs.FOLDER]
        if self._found:
            reporter = session.config.pluginmanager.get_plugin("terminalreporter")
            for fault in dict.fromkeys(self._found):
                if reporter is not None:
                    reporter.write_line(f"in a log: {fault}", red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes over what a worker of xdist found."""
    told: dict[str, list[str]] = getattr(node, "workeroutput", None) or {}
    node.config.stash[_LEFT] += told.get("left running", [])


def _end_what_is_left() -> list[str]:
    """Ends the processes that this run started and that do not end; returns their names."""
    deadline = time.monotonic() + ENDING_S
    while (left := list(_started_here())) and time.monotonic() < deadline:
        time.sleep(0.05)
    names = []
    for process in left:
        with suppress(psutil.Error):
            names.append(f"{process.pid} {' '.join(process.cmdline())[:120]}")
            process.kill()
    return names


def _started_here() -> Iterator[psutil.Process]:
    """Yields the processes that this run started and that still run.

    A zombie does not: some containers have nobody to reap what lost its parent.
    """
    children = {child.pid for child in psutil.Process().children(recursive=True)}
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with suppress(psutil.Error):
            mark = process.environ().get(RUN, "")
            ours = mark.startswith(os.environ[RUN]) or process.pid in children
            if not ours or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if not any(name in " ".join(process.cmdline()) for name in _OWN_TO_PYTHON):
                yield process
