"""One timer for the play-out of all sessions."""

from __future__ import annotations

import asyncio

import pytest

from gateway.pacing import INTERVAL_S, RETRY_S, Pacing

pytestmark = pytest.mark.unit


class ManualLoop:
    """Stands for an event loop whose time the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[ManualTimer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, callback: object) -> ManualTimer:
        self.timers = [timer for timer in self.timers if not timer.over]
        self.timers.append(ManualTimer(at, callback))
        return self.timers[-1]

    def run_until(self, end: float, late: float = 0.0) -> None:
        while live := [each for each in self.timers if not each.over and each.at + late <= end]:
            timer = min(live, key=lambda each: each.at)
            self.now = max(self.now, timer.at + late)
            timer.over = True
            timer.callback()
        self.now = max(self.now, end)


class ManualTimer:
    def __init__(self, at: float, callback: object) -> None:
        assert callable(callback)
        self.at = at
        self.callback = callback
        self.over = False

    def cancel(self) -> None:
        self.over = True


class Ticker:
    """A play-out with a frame every so often."""

    def __init__(self, log: list[tuple[str, float, float]], name: str, period: float) -> None:
        self.log = log
        self.name = name
        self.period = period
        self.due_at = 0.0
        self.left = 1_000_000

    def play(self, now: float) -> float | None:
        while self.due_at <= now and self.left:
            self.log.append((self.name, self.due_at, now))
            self.due_at += self.period
            self.left -= 1
        return self.due_at if self.left else None


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> ManualLoop:
    manual = ManualLoop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: manual)
    return manual


def begin(pacing: Pacing, ticker: Ticker, at: float) -> None:
    ticker.due_at = at
    pacing.wake(ticker, at)


def test_one_session_is_served_exactly_when_its_frames_are_due(loop: ManualLoop) -> None:
    pacing, log = Pacing(), []
    begin(pacing, Ticker(log, "one", 1 / 24), 100.5)
    loop.run_until(101.99)
    assert len(log) == 36
    assert all(now == due for _, due, now in log)
    assert pacing.wakes == 36


def test_many_sessions_share_wake_ups_and_none_is_early_or_late_by_more(loop: ManualLoop) -> None:
    pacing, log = Pacing(), []
    for number in range(64):
        begin(pacing, Ticker(log, str(number), 1 / 24), 100.01 + number * 0.00065)
    loop.run_until(102.0)
    assert len(log) >= 64 * 47
    assert pacing.wakes <= 2.0 / INTERVAL_S + 1
    assert all(0 <= now - due <= INTERVAL_S + 1e-9 for _, due, now in log)


def test_what_is_due_together_is_served_earliest_deadline_first(loop: ManualLoop) -> None:
    pacing, log = Pacing(), []
    for name, at in (("c", 100.3), ("a", 100.1), ("b", 100.2)):
        begin(pacing, Ticker(log, name, 10.0), at)
    loop.run_until(101.0, late=0.5)
    assert [name for name, _, _ in log] == ["a", "b", "c"]
    assert pacing.wakes == 1


def test_an_earlier_time_replaces_a_later_one_and_a_later_one_an_earlier(loop: ManualLoop) -> None:
    pacing, log = Pacing(), []
    ticker = Ticker(log, "one", 50.0)
    begin(pacing, ticker, 110.0)
    begin(pacing, ticker, 101.0)
    begin(pacing, ticker, 102.0)
    loop.run_until(111.0)
    assert log == [("one", 102.0, 102.0)]


def test_who_waits_for_nothing_is_not_called(loop: ManualLoop) -> None:
    pacing, log = Pacing(), []
    ticker = Ticker(log, "one", 1.0)
    begin(pacing, ticker, 101.0)
    pacing.wake(ticker, None)
    pacing.wake(ticker, None)
    loop.run_until(110.0)
    assert log == []
    ticker.left = 2
    begin(pacing, ticker, 111.0)
    loop.run_until(120.0)
    assert [due for _, due, _ in log] == [111.0, 112.0]


def test_a_session_that_fails_harms_no_other_and_goes_on_later(loop: ManualLoop) -> None:
    pacing, log = Pacing(), []

    class Failing(Ticker):
        def play(self, now: float) -> float | None:
            self.left -= 1
            if self.left == 1:
                raise RuntimeError
            self.log.append((self.name, now, now))
            return None

    failing = Failing(log, "failing", 1.0)
    failing.left = 2
    begin(pacing, failing, 101.0)
    begin(pacing, Ticker(log, "sound", 0.25), 101.0)
    loop.run_until(101.9)
    assert [due for name, due, _ in log if name == "sound"] == [101.0, 101.25, 101.5, 101.75]
    assert ("failing", 101.0 + RETRY_S, 101.0 + RETRY_S) in log


async def test_it_wakes_on_a_real_loop() -> None:
    loop, pacing, over = asyncio.get_running_loop(), Pacing(), asyncio.Event()
    served: list[float] = []

    class Once:
        def play(self, now: float) -> None:
            served.append(now)
            over.set()

    due_at = loop.time() + 0.02
    pacing.wake(Once(), due_at)
    await over.wait()
    assert served[0] >= due_at - 1e-6
