"""How far chance in who was there moves the figures of one run: sessions are drawn anew. Pure.

A report holds a summary of each session, not its values. A session's distribution is taken
to be a straight line between its least, median, 95th percentile and largest value; a metric
over drawn sessions is that of all their values together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sdk_adapters.harness.metrics import Kind, Metric
from sdk_adapters.harness.records import Outcome
from sdk_adapters.harness.report.model import LoadReport, Row, Spread

DRAWS: Final = 400
"""Times that sessions are drawn."""
SESSIONS: Final = 5
"""Fewer sessions with a value tell nothing of their spread."""
_ATOMS: Final = 10
"""Values that stand for a session's distribution."""

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Resampled:
    """Deviations of a figure from its middle, over all draws."""

    deviations: _Floats

    def less(self, other: Resampled) -> Resampled:
        """Returns the deviations of the difference of two figures."""
        return Resampled(self.deviations - other.deviations)

    @property
    def low(self) -> float:
        """Of 95 in 100 draws, the lowest deviation."""
        return float(np.quantile(self.deviations, 0.025))

    @property
    def high(self) -> float:
        """And the highest."""
        return float(np.quantile(self.deviations, 0.975))


def resampled(metric: Metric, report: LoadReport, *, seed: int) -> Resampled | None:
    """Returns how a metric moves when the sessions of a report are drawn anew.

    Args:
        metric: A metric of the clients.
        report: The run; sessions that stand in it only as the worst are left out.
        seed: Draws.

    Returns:
        None where sessions do not tell: there are too few, or it is a level.
    """
    rows = [row for row in report.sessions.rows if row.sampled]
    match metric.kind:
        case Kind.DISTRIBUTION:
            share = 0.5 if metric.more_is_better else 0.95
            figures = _percentiles(metric.name, rows, share, seed)
        case Kind.COUNT | Kind.SHARE:
            figures = _ratios(metric.name, rows, seed)
        case Kind.LEVEL:
            return None
    return None if figures is None else Resampled(figures - figures.mean())


def _draws(sessions: int, seed: int) -> npt.NDArray[np.int64]:
    """Returns how often each session is drawn, in each draw."""
    chance = np.full(sessions, 1.0 / sessions)
    return np.random.default_rng(seed).multinomial(sessions, chance, size=DRAWS)


def _percentiles(name: str, rows: Sequence[Row], share: float, seed: int) -> _Floats | None:
    spreads = [row.values[name] for row in rows if name in row.values]
    if len(spreads) < SESSIONS:
        return None
    values = np.concatenate([_atoms(spread) for spread in spreads])
    whose = np.repeat(np.arange(len(spreads)), _ATOMS)
    order = np.argsort(values, kind="stable")
    values, whose = values[order], whose[order]
    weights = np.array([spread.count / _ATOMS for spread in spreads])
    figures = np.empty(DRAWS)
    for number, drawn in enumerate(_draws(len(spreads), seed)):
        reached = np.cumsum((drawn * weights)[whose])
        figures[number] = values[np.searchsorted(reached, share * reached[-1])]
    return figures


def _atoms(spread: Spread) -> _Floats:
    """Returns values, equally likely, that stand for a distribution."""
    at = (np.arange(_ATOMS) + 0.5) / _ATOMS
    return np.interp(at, (0.0, 0.5, 0.95, 1.0), (spread.min, spread.p50, spread.p95, spread.max))


_Part = Callable[[Row], float]


def _ended(*outcomes: Outcome) -> _Part:
    return lambda row: float(row.outcome in outcomes)


def _clean(row: Row) -> float:
    faults = ("frames_lost", "frames_repeated", "freezes")
    return float(row.outcome != Outcome.LOST and not any(map(row.counts.get, faults)))


def _judged(row: Row) -> float:
    return float(row.outcome == Outcome.LOST or row.counts.get("frames_shown", 0) > 0)


def _one(_: Row) -> float:
    return 1.0


def _counted(name: str) -> _Part:
    return lambda row: row.counts.get(name, 0.0)


_PARTS: Final[Mapping[str, tuple[_Part, _Part]]] = {
    "sessions_lost": (_ended(Outcome.LOST), _one),
    "sessions_failed": (_ended(Outcome.FAILED), _one),
    "turned_away": (_ended(Outcome.TURNED_AWAY), _one),
    "frozen": (_counted("frozen_s"), _counted("playing_s")),
    "clean_sessions": (lambda row: _clean(row) * _judged(row), _judged),
}
"""Part and whole of shares and of counts that are sessions; other counts are per session."""


def _ratios(name: str, rows: Sequence[Row], seed: int) -> _Floats | None:
    if len(rows) < SESSIONS:
        return None
    of_part, of_whole = _PARTS.get(name, (_counted(name), _one))
    part = np.array([of_part(row) for row in rows])
    whole = np.array([of_whole(row) for row in rows])
    draws = _draws(len(rows), seed)
    wholes = draws @ whole
    if not wholes.all():
        return None
    figures: _Floats = (draws @ part) / wholes
    return figures
