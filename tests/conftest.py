"""Rules for all tests: every module has a kind, and nothing is left running.

Kept free of imports of this project, so that the rules hold for any of its test modules.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import psutil
import pytest

KINDS: Final = frozenset({"unit", "properties", "contract", "media", "integration", "e2e", "slow"})
"""Markers that say what kind of test a module holds; `pyproject.toml` explains them."""

RUN: Final = "SANA_TEST_RUN"
"""Variable by which a process started in this run is known, whoever its parent became."""

ENDING_S: Final = 5.0
"""Time for processes that are ending to be gone."""

# Processes of the interpreter itself, which end with it.
_OWN_TO_PYTHON: Final = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


def pytest_configure() -> None:
    """Marks all that the tests will start."""
    os.environ[RUN] = uuid.uuid4().hex


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


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails a run that leaves processes behind, and ends them."""
    deadline = time.monotonic() + ENDING_S
    while (left := list(_started_here())) and time.monotonic() < deadline:
        time.sleep(0.05)
    if not left:
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    for process in left:
        with suppress(psutil.Error):
            if reporter is not None:
                name = " ".join(process.cmdline())[:120]
                reporter.write_line(f"left running: {process.pid} {name}", red=True)
            process.kill()
    session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _started_here() -> Iterator[psutil.Process]:
    """Yields the processes that this run started and that still run.

    A zombie does not: some containers have nobody to reap what lost its parent.
    """
    children = {child.pid for child in psutil.Process().children(recursive=True)}
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with suppress(psutil.Error):
            ours = process.environ().get(RUN) == os.environ[RUN] or process.pid in children
            if not ours or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if not any(name in " ".join(process.cmdline()) for name in _OWN_TO_PYTHON):
                yield process
