"""What a soak says of the looks it took."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.soak import EVERY_S, INVALID, SLOTS, Look, Taken, figures, growth, verdict

pytestmark = pytest.mark.unit

LOOKS = 20
LASTS_S = (LOOKS - 1) * EVERY_S


def looks(
    grown_mb: float = 0.0, grown_fds: int = 0, passing: tuple[int, int] = (2, 2)
) -> list[Look]:
    """A gateway that grows evenly, an actor that does not, and decoders that come and go."""
    made = []
    for number in range(LOOKS):
        share = number / (LOOKS - 1)
        processes = {
            (1, 0.0): Taken("gateway", 100.0 + grown_mb * share, 50 + round(grown_fds * share)),
            (2, 0.0): Taken("actor", 300.0, 150),
        }
        for decoder in range(passing[number >= LOOKS // 2]):
            # Each look finds others.
            processes[1000 + 100 * number + decoder, 0.0] = Taken("decoders", 1000.0 * share, 1000)
        made.append(Look(number * EVERY_S, processes))
    return made


def report(sessions: int = 500, lost: int = 0, failed: int = 0) -> dict[str, Any]:
    totals = {
        "sessions_begun": sessions,
        "sessions_lost": lost,
        "sessions_failed": failed,
        "frames_shown": 9,
        "frames_lost": 0,
    }
    return {
        "metrics": {name: {"value": {"total": value}} for name, value in totals.items()},
        "run": {"measured_s": [10.0, 70.0]},
        "timeline": {"at_s": [5.0, 30.0, 65.0], "connected": [1, 14, 14]},
    }


def found(those: list[Look], **told: int) -> dict[str, Any]:
    return figures(report(**told), those, those[0], those[-1])


def test_growth_is_of_a_thousand_sessions_and_a_share_of_the_level() -> None:
    grown = growth(looks(grown_mb=4.1), 500, lambda taken: taken.rss_mb)
    assert grown["all"]["processes"] == 2, "decoders are none of those that last"
    assert grown["all"]["level"] == pytest.approx(402.05, abs=0.1)
    assert grown["all"]["growth_per_1000_sessions"] == pytest.approx(2 * 4.1 / 402, rel=0.01)
    assert grown["gateway"]["growth_per_1000_sessions"] == pytest.approx(2 * 4.1 / 102, rel=0.01)
    assert grown["actor"]["growth_per_1000_sessions"] == 0.0


def test_what_is_flat_passes() -> None:
    flat = found(looks())
    assert flat["share_of_capacity"] == 14 / SLOTS
    assert flat["minutes"] == 1.0
    assert verdict(flat) == []


def test_a_role_that_began_anew_is_named() -> None:
    those = looks()
    for each in those[8:]:
        each.processes[3, 0.0] = each.processes.pop((2, 0.0))
    faults = verdict(found(those))
    assert "the actor died, and another took its place" in faults


def test_a_service_that_was_not_used_is_no_soak() -> None:
    told = report()
    told["timeline"]["connected"] = [1, 12, 12]
    those = looks()
    assert verdict(figures(told, those, those[0], those[-1])) == [
        "only 60% of the capacity was in use"
    ]


@pytest.mark.parametrize(
    ("those", "told", "status", "words"),
    [
        (looks(grown_mb=4.1), {}, 0, "rss_mb grew by 2."),
        (looks(grown_fds=4), {}, 0, "descriptors grew by"),
        (looks(passing=(2, 5)), {}, 0, "became more"),
        (looks(), {"lost": 1}, 1, "sessions_lost is 1"),
        (looks(), {"failed": 2}, 0, "sessions_failed is 2"),
        (looks(), {}, INVALID, "not what the scenario says"),
    ],
)
def test_what_is_not_flat_is_named(
    those: list[Look], told: dict[str, int], status: int, words: str
) -> None:
    [fault] = verdict(found(those, **told), status)
    assert words in fault


def test_a_little_growth_within_the_bound_passes() -> None:
    assert verdict(found(looks(grown_mb=1.9))) == []
