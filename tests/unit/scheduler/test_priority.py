"""Which niceness a process that streams has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scheduler.process import priority

pytestmark = pytest.mark.unit

CHILD = """
import os, threading
from scheduler.process.priority import go_before
os.setpriority(os.PRIO_PROCESS, 0, {before})
begun, over = threading.Event(), threading.Event()
ids = []
def wait():
    ids.append(threading.get_native_id())
    begun.set()
    over.wait()
thread = threading.Thread(target=wait)
thread.start()
begun.wait()
print(go_before(18), os.getpriority(os.PRIO_PROCESS, 0), os.getpriority(os.PRIO_PROCESS, ids[0]))
over.set()
"""


def told(before: int) -> list[str]:
    child = subprocess.run(
        [sys.executable, "-c", CHILD.format(before=before)],
        capture_output=True,
        text=True,
        check=True,
    )
    return child.stdout.split()


def may_raise() -> bool:
    """Tells whether this process has CAP_SYS_NICE."""
    status = Path("/proc/self/status").read_text().splitlines()
    effective = next(line for line in status if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> 23 & 1)


@pytest.mark.skipif(not may_raise(), reason="nobody here may raise a priority")
def test_all_threads_of_a_process_go_before_others() -> None:
    assert told(19) == ["True", "18", "18"]


@pytest.mark.skipif(os.getpriority(os.PRIO_PROCESS, 0) > 17, reason="we are nicer ourselves")
def test_one_that_goes_before_already_stays_there() -> None:
    assert told(17) == ["True", "17", "17"]


def test_without_the_right_to_it_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "getpriority", lambda *_: 19)
    monkeypatch.setattr(os, "setpriority", refuse)
    assert not priority.go_before()
