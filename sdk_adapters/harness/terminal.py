"""What a run shows on a terminal: a live view while it goes, a summary when it is over."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sdk_adapters.harness.metrics import Side
from sdk_adapters.harness.plan import Plan
from sdk_adapters.harness.records import Second
from sdk_adapters.harness.report import words
from sdk_adapters.harness.report.model import Distribution, LoadReport
from sdk_adapters.harness.report.words import Ending, digits

RECENT_S: Final = 10.0
"""What is shown of waits is of so many seconds."""
PLAIN_S: Final = 5.0
"""Time between two lines where there is no terminal."""
REFRESH_S: Final = 0.25
_WAITS: Final = ("join", "start_to_first_frame", "command_ack", "prompt_to_pixels")
_LEVELS: Final = (
    ("sessions_active", "active"),
    ("sessions_resident", "resident"),
    ("sessions_parked", "parked"),
    ("sessions_queued", "queued"),
    ("batch_fill", "in a batch"),
    ("loop_lag", "ms late"),
)
_COLOURS: Final = {
    Ending.PASSED: "bold green",
    Ending.FAILED: "bold red",
    Ending.INVALID: "bold yellow",
    Ending.MEASURED: "bold",
}
_BAR_WIDTH: Final = 48


class Standing:
    """What a run has come to so far: the seconds of all processes put together. Pure."""

    def __init__(self, warm_up_s: float, end_s: float) -> None:
        """Nothing was seen yet.

        Args:
            warm_up_s: When what counts begins.
            end_s: When the run ends.
        """
        self.warm_up_s = warm_up_s
        self.end_s = end_s
        self.at_s = 0.0
        self.lost = self.freezes = self.failures = 0
        """Since the beginning, warm-up included."""
        self._latest: dict[int, Second] = {}
        self._recent: deque[Second] = deque()

    def add(self, second: Second) -> None:
        """Takes a second of a process."""
        self.at_s = max(self.at_s, second.at_s)
        self.lost += second.lost
        self.freezes += second.freezes
        self.failures += second.failures
        self._latest[second.process] = second
        self._recent.append(second)
        while self._recent[0].at_s < self.at_s - RECENT_S:
            self._recent.popleft()

    @property
    def left_s(self) -> float:
        """Time to the planned end."""
        return max(0.0, self.end_s - self.at_s)

    def total(self, of: Callable[[Second], int]) -> int:
        """Returns a figure of the last second, over all processes."""
        return sum(map(of, self._latest.values()))

    @property
    def cpu(self) -> float:
        """CPU of the busiest process, of one core."""
        return max((each.cpu for each in self._latest.values()), default=0.0)

    @property
    def lag_ms(self) -> float:
        """How late the latest event loop ran within the last seconds."""
        return max((each.lag_ms for each in self._recent), default=0.0)

    def wait(self, metric: str) -> tuple[float, float] | None:
        """Returns what a metric was within the last seconds: the middle median, and the
        highest 95th percentile; None where there was no value.
        """
        seen = [each.values[metric] for each in self._recent if metric in each.values]
        if not seen:
            return None
        return sorted(p50 for p50, _ in seen)[len(seen) // 2], max(p95 for _, p95 in seen)


class Screen:
    """A run while it goes. A context manager: the view is gone when it is left."""

    def __init__(self, console: Console, *, plain: bool = False) -> None:
        """Shows nothing yet.

        Args:
            console: Where to.
            plain: One line now and then; without a terminal it is so anyway.
        """
        self._console = console
        self._live = None if plain or not console.is_terminal else _live(console)
        self._standing = Standing(0.0, 0.0)
        self._levels: Callable[[], Mapping[str, float]] = dict
        self._title = ""
        self._note = ""
        self._shown_at = 0.0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, note: str) -> None:
        """Tells what goes on."""
        self._note = note
        if self._live is None:
            self._console.print(note, markup=False, highlight=False)
        else:
            self._refresh(self._live)

    def log(self, line: str) -> None:
        """Tells what stays on the screen, above the live view."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def begins(self, plan: Plan, levels: Callable[[], Mapping[str, float]]) -> None:
        """A run begins.

        Args:
            plan: What will be run.
            levels: Returns what the service said of itself last.
        """
        self._standing = Standing(plan.warm_up_s, plan.end_s)
        self._levels = levels
        processes = f"{plan.processes} process" + ("es" if plan.processes != 1 else "")
        self._title = (
            f"{plan.name}: {words.sessions(len(plan.visits))} in {words.clock(plan.end_s)}, "
            f"from {processes}, seed {plan.seed}"
        )
        self._shown_at = time.monotonic()
        self.say(self._title)

    def second(self, second: Second) -> None:
        """A process tells of a second."""
        self._standing.add(second)
        now = time.monotonic()
        if now - self._shown_at < (PLAIN_S if self._live is None else REFRESH_S):
            return
        self._shown_at = now
        if self._live is None:
            line = plain_line(self._standing, self._levels())
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            self._refresh(self._live)

    def _refresh(self, live: Live) -> None:
        parts: list[RenderableType] = [
            Text(self._title, style="bold"),
            *_view(self._standing, self._levels()),
        ]
        if self._note and self._note != self._title:
            parts.append(Text(self._note, style="yellow"))
        live.update(Group(*parts), refresh=True)


def plain_line(standing: Standing, levels: Mapping[str, float]) -> str:
    """Returns a run in one line, for logs."""
    parts = [
        f"{words.clock(standing.at_s)} of {words.clock(standing.end_s)}"
        + (" (warm-up)" if standing.at_s < standing.warm_up_s else ""),
        _people(standing),
        _frames(standing),
        *(f"{name} {_wait(standing, name)}" for name in _WAITS if standing.wait(name)),
        _generator(standing),
    ]
    if told := _told(levels):
        parts.append(f"service: {told}")
    return " | ".join(parts)


def _live(console: Console) -> Live:
    # What is drawn is drawn by us: a thread of its own would read while we write.
    return Live(console=console, auto_refresh=False, transient=True)


def _view(standing: Standing, levels: Mapping[str, float]) -> Iterator[Table]:
    if not standing.end_s:
        return
    bar = Table.grid(padding=(0, 1))
    phase = "warm-up" if standing.at_s < standing.warm_up_s else "measuring"
    bar.add_row(
        ProgressBar(total=standing.end_s, completed=standing.at_s, width=_BAR_WIDTH),
        f"{words.clock(standing.at_s)} of {words.clock(standing.end_s)}, {phase}, "
        f"{words.clock(standing.left_s)} to go",
    )
    yield bar
    table = Table.grid(padding=(0, 2))
    table.add_row("sessions", _people(standing))
    table.add_row("frames", _frames(standing))
    for name in _WAITS:
        table.add_row(name, _wait(standing, name))
    table.add_row("generator", _generator(standing).removeprefix("generator "))
    table.add_row("service", _told(levels) or "tells nothing yet")
    yield table


def _people(standing: Standing) -> str:
    return (
        f"{standing.total(lambda each: each.connected)} connected, "
        f"{standing.total(lambda each: each.playing)} playing, "
        f"{standing.total(lambda each: each.waiting)} waiting, {standing.failures} failed"
    )


def _frames(standing: Standing) -> str:
    return (
        f"{standing.total(lambda each: each.frames):,}/s, {standing.lost:,} lost, "
        f"{standing.freezes:,} freezes"
    )


def _wait(standing: Standing, name: str) -> str:
    found = standing.wait(name)
    return f"p50 {digits(found[0])}, p95 {digits(found[1])} ms" if found else "-"


def _generator(standing: Standing) -> str:
    return f"generator {standing.cpu:.2f} of a core, {digits(round(standing.lag_ms, 1))} ms late"


def _told(levels: Mapping[str, float]) -> str:
    return ", ".join(f"{digits(levels[name])} {what}" for name, what in _LEVELS if name in levels)


# -- when it is over -----------------------------------------------------------------------


def answer(console: Console, lines: Sequence[str]) -> None:
    """Prints an answer, and what explains it below."""
    for number, line in enumerate(lines):
        console.print(Text(line, style="" if number else "bold"), soft_wrap=True)


def summary(console: Console, report: LoadReport) -> None:
    """Prints what came of a run."""
    run, head = report.run, words.headline(report)
    begin, end = run.measured_s
    console.print()
    console.print(Text(f"{run.scenario}  {run.summary}", style="bold"))
    console.print(
        Text(
            f"{words.clock(end - begin)} measured, {words.sessions(report.sessions.counted)}, "
            f"seed {run.seed}; {run.service.gateways} gateway(s), model "
            f"{run.service.model or 'unknown'}; began {run.began_at}",
            style="dim",
        )
    )
    console.print(_distributions(report))
    console.print(_others(report))
    for failure in report.failures:
        what = f"{words.sessions(failure.sessions)} {failure.outcome}: {failure.kind}"
        console.print(Text(what, style="red"))
    _not_measured(console, report)
    if report.verdicts:
        console.print(_verdicts(report))
    for note in report.notes:
        console.print(Text(note, style="dim"))
    console.print(Text(f"{head.ending.value.upper()}: {head.text}", style=_COLOURS[head.ending]))
    if head.ending is Ending.INVALID:
        for reason in head.reasons:
            console.print(Text(f"  {reason}", style="yellow"))


def _distributions(report: LoadReport) -> Table:
    table = Table("metric", "unit", box=None, header_style="bold")
    for heading in ("values", "p50", "p90", "p95", "p99", "max"):
        table.add_column(heading, justify="right")
    for name, result in report.metrics.items():
        if isinstance(value := result.value, Distribution):
            ends = (value.p50, value.p90, value.p95, value.p99, value.max)
            table.add_row(name, result.unit, f"{value.count:,}", *map(digits, ends))
    return table


def _others(report: LoadReport) -> Table:
    table = Table("metric", "value", box=None, header_style="bold")
    for side in (Side.CLIENT, Side.SERVER, Side.GENERATOR):
        for name, result in report.metrics.items():
            if result.side is side and not isinstance(result.value, Distribution):
                table.add_row(name, words.summary(result))
    return table


def _not_measured(console: Console, report: LoadReport) -> None:
    if not report.not_measured:
        return
    console.print(Text("not measured", style="bold"))
    for name, why in report.not_measured.items():
        console.print(Text(f"  {name}: {why}", style="dim"))


def _verdicts(report: LoadReport) -> Table:
    table = Table("threshold", "measured", "asked", "", box=None, header_style="bold")
    for each in report.verdicts:
        unit = words.unit_beside(words.unit_of(report, each.metric))
        measured = each.why if each.value is None else words.number(each.value, unit)
        table.add_row(
            words.label(each),
            Text(measured),
            words.limit(report, each),
            "[green]met[/green]" if each.met else "[red]missed[/red]",
        )
    return table
