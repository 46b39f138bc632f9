"""What a run shows while it goes, and when it is over."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sdk_adapters.harness import terminal
from sdk_adapters.harness.plan import plan
from sdk_adapters.harness.terminal import Screen, Standing, plain_line
from tests.unit.sdk_adapters.load_reports import LEVELS, bounds, empty, full
from tests.unit.sdk_adapters.load_runs import scenario, second

pytestmark = pytest.mark.unit


def console(*, terminal: bool = False) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=100, height=40), out


@pytest.fixture
def standing() -> Standing:
    """Two processes after twelve seconds."""
    made = Standing(warm_up_s=10.0, end_s=40.0)
    for at in range(1, 13):
        for process in (0, 1):
            values = {"join": (100.0 + at, 200.0 + at)} if at in (2, 11) else {}
            busy = {"cpu": 0.2 + process / 10, "lag_ms": float(at), "lost": 1, "values": values}
            made.add(second(at + process / 100, process, **busy))
    return made


def test_processes_are_put_together(standing: Standing) -> None:
    assert standing.total(lambda each: each.connected) == 4
    assert standing.total(lambda each: each.frames) == 48
    assert standing.lost == 24
    assert standing.cpu == pytest.approx(0.3)
    assert standing.lag_ms == 12.0
    assert standing.left_s == pytest.approx(27.99)


def test_waits_are_those_of_the_last_seconds(standing: Standing) -> None:
    assert standing.wait("join") == (111.0, 211.0)
    assert standing.wait("command_ack") is None
    standing.add(second(30.0))
    assert standing.wait("join") is None


def test_a_line_tells_it_all(standing: Standing) -> None:
    assert plain_line(standing, {**LEVELS, "sessions_parked": 3.0}) == (
        "12 s of 40 s | 4 connected, 2 playing, 0 waiting, 0 failed | 48/s, 24 lost, 0 freezes"
        " | join p50 111, p95 211 ms | generator 0.30 of a core, 12 ms late"
        " | service: 1 active, 2 resident, 3 parked, 0 queued, 1.5 in a batch, 3 ms late"
    )


def test_a_line_before_the_measured_time_says_so() -> None:
    made = Standing(warm_up_s=10.0, end_s=40.0)
    made.add(second(3.0))
    assert plain_line(made, {}).startswith("3 s of 40 s (warm-up) | ")


def test_without_a_terminal_there_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    where, out = console()
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    with Screen(where) as screen:
        screen.begins(plan(scenario()), lambda: LEVELS)
        for at in range(1, 12):
            now[0] += 1.0
            screen.second(second(float(at)))
    lines = out.getvalue().splitlines()
    assert lines[0] == "made-up: 1 session in 40 s, from 1 process, seed 1"
    assert [line.split(" of ")[0] for line in lines[1:]] == ["5 s", "10 s"]


def test_on_a_terminal_the_view_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    where, out = console(terminal=True)
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    with Screen(where) as screen:
        screen.begins(plan(scenario()), dict)
        now[0] += 1.0
        screen.second(second(21.0))
        screen.say("Ending the run early")
        shown = out.getvalue()
    assert "21 s of 40 s, measuring, 19 s to go" in shown
    assert "Ending the run early" in shown
    assert "tells nothing yet" in shown
    # The last lines are cleared: ESC [2K.
    assert out.getvalue().endswith("\x1b[2K")


def test_the_summary_says_what_came_of_it() -> None:
    where, out = console()
    terminal.summary(where, full({"join": bounds(p95=100), "frames_lost": bounds(total=0)}))
    text = out.getvalue()
    for part in (
        "made-up  Nobody came.",
        "FAILED: 1 of 2 thresholds missed.",
        "1 session lost: actor_lost",
        "migration_gap: no session moved",
        "≤ 100 ms",
        "missed",
        "met",
    ):
        assert part in text, part


def test_the_summary_of_an_invalid_run_says_why() -> None:
    where, out = console()
    terminal.summary(where, empty())
    assert "INVALID" in out.getvalue()
    assert "no session counts" in out.getvalue()


def test_names_with_the_terminals_markup_stay_names() -> None:
    where, out = console()
    report = full()
    run = report.run.model_copy(update={"summary": "[red]x[/nope]", "scenario": "[bold]"})
    terminal.summary(where, report.model_copy(update={"run": run, "notes": ("[/x]",)}))
    assert "[bold]  [red]x[/nope]" in out.getvalue()
