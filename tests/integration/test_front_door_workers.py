"""The media workers of a front door: started, started again, chosen among, ended."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from gateway.child_process import ChildError
from gateway.front_door import workers as module
from gateway.front_door.routing import Route, worker_of
from gateway.front_door.workers import MediaWorkers, NoWorkerError, WorkerDownError
from gateway.settings import GatewaySettings
from tests.fakes.changes import Changes

pytestmark = pytest.mark.integration

ANY = Route("create")


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MODULE", "tests.fakes.media_worker")
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(module, "SILENT_S", 60.0)


class Bench:
    """Workers whose changes can be awaited."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.changes = Changes()
        settings = GatewaySettings(media_workers=2, host=host)
        self.workers = MediaWorkers(settings, self.changes.happened)

    def pids(self) -> list[int]:
        return [each.child.pid for each in self.workers.all if each.child is not None]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench()
    await made.workers.start(tmp_path)
    yield made
    await made.workers.stop()


async def test_they_run_once_started_and_none_once_stopped(bench: Bench) -> None:
    assert [each.index for each in bench.workers.running] == [0, 1]
    pids = bench.pids()
    assert all(psutil.pid_exists(each) for each in pids)
    await bench.workers.stop()
    assert not any(psutil.pid_exists(each) for each in pids)
    with pytest.raises(WorkerDownError, match="is stopping"):
        bench.workers.choose(ANY)


async def test_they_serve_when_all_of_them_do(bench: Bench) -> None:
    assert [each.is_serving for each in bench.workers.all] == [False, True]
    assert not bench.workers.are_serving
    bench.workers.all[0].heard({"serving": True, "sessions": 0})
    assert bench.workers.are_serving


async def test_sessions_go_to_the_worker_with_the_fewest(bench: Bench) -> None:
    # As reported: 0 and 2; and what was sent there since.
    chosen = [bench.workers.choose(ANY).index for _ in range(2)]
    assert chosen == [0, 0]
    assert sorted(bench.workers.choose(ANY).index for _ in range(2)) == [0, 1]
    bench.workers.all[0].heard({"serving": True, "sessions": 9})
    assert bench.workers.choose(ANY).index == 1


async def test_a_repeated_request_goes_where_it_went_before(bench: Bench) -> None:
    first = bench.workers.choose(Route("create", "r1")).index
    bench.workers.all[first].heard({"serving": True, "sessions": 99})
    assert bench.workers.choose(Route("create", "r1")).index == first
    assert bench.workers.choose(Route("create", "r2")).index != first


async def test_the_oldest_requests_are_forgotten(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUEST_IDS_KEPT", 1)
    first = bench.workers.choose(Route("create", "r1")).index
    bench.workers.choose(Route("create", "r2"))
    bench.workers.all[first].heard({"serving": True, "sessions": 99})
    assert bench.workers.choose(Route("create", "r1")).index != first


async def test_other_routes_say_themselves_who_it_is(bench: Bench) -> None:
    choose = bench.workers.choose
    for key in ("s1", "s2", "s3", ""):
        assert choose(Route("session", key)).index == worker_of(key, 2)
    assert choose(Route("worker", "1")).index == 1
    assert choose(Route("any")).index == 0
    for key in ("2", "10000000000000"):
        with pytest.raises(NoWorkerError):
            choose(Route("worker", key))


async def test_one_that_is_killed_is_down_and_then_another(bench: Bench) -> None:
    (victim, other), worker = bench.pids(), bench.workers.all[0]
    backend = worker.backend
    os.kill(victim, signal.SIGKILL)
    await bench.changes.until(lambda: worker.backend is None)
    with pytest.raises(WorkerDownError, match="starts again"):
        bench.workers.choose(Route("any"))
    assert bench.workers.choose(ANY).index == 1
    await bench.changes.until(lambda: worker.backend is not None, 30.0)
    assert worker.backend is not backend
    assert bench.pids()[1] == other
    assert bench.pids()[0] != victim


async def test_one_that_hangs_is_killed_and_then_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENT_S", 1.0)
    bench = Bench(host="beating")
    await bench.workers.start(tmp_path)
    try:
        (victim, other), worker = bench.pids(), bench.workers.all[0]
        os.kill(victim, signal.SIGSTOP)
        await bench.changes.until(lambda: worker.backend is None, 30.0)
        assert not psutil.pid_exists(victim)
        await bench.changes.until(lambda: worker.backend is not None, 30.0)
        assert bench.pids()[1] == other
    finally:
        await bench.workers.stop()


async def test_one_that_does_not_come_up_ends_the_start_and_the_others(tmp_path: Path) -> None:
    workers = MediaWorkers(GatewaySettings(media_workers=2, host="nowhere"), Changes().happened)
    with pytest.raises(ChildError, match=r"media worker \d did not start \(exit status 3\)"):
        await workers.start(tmp_path)
    await workers.stop()
    assert workers.running == []


async def test_it_ends_with_the_process_that_started_it(bench: Bench) -> None:
    child = bench.workers.all[0].child
    assert child is not None
    pid = child.pid
    # As the kernel does when the parent is killed.
    assert child._process.stdin is not None
    child._process.stdin.close()
    await bench.changes.until(lambda: bench.pids()[:1] != [pid])
    assert not psutil.pid_exists(pid)
