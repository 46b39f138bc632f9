"""How long pictures take, as a viewer reckons it."""

from __future__ import annotations

import pytest

from sana_gateway import ViewerStats
from sdk_adapters.harness.delays import Delays, client_share_s, glass_to_glass_s

pytestmark = pytest.mark.unit


def test_glass_to_glass_is_the_showing_less_the_capture() -> None:
    assert glass_to_glass_s(10_000_000, 10.35) == pytest.approx(0.35)


def test_what_is_not_the_services_share_is_the_clients() -> None:
    assert client_share_s(0.35, 300_000) == pytest.approx(0.05)


def test_glass_to_glass_is_told_only_where_the_clock_is_shared() -> None:
    for shared, expected in ((True, 350.0), (False, None)):
        delays = Delays(shared_clock=shared)
        delays.frame(1, 0, 10_000_000, 10.35)
        delays.frame(1, 1, None, 10.4)
        assert delays.report().glass_to_glass_ms.get("max") == expected


@pytest.mark.parametrize("stats_first", [False, True])
def test_prompt_to_pixels_runs_from_sending_to_showing(*, stats_first: bool) -> None:
    delays = Delays()
    delays.command(5.0)
    stats = ViewerStats(run=1, chunk=3, frame=57, command_to_emit_us=900_000)
    if stats_first:
        delays.stats(stats)
    delays.frame(1, 56, 0, 5.95)
    delays.frame(1, 57, 0, 6.0)
    if not stats_first:
        delays.stats(stats)
    report = delays.report()
    assert report.prompt_to_pixels_ms["max"] == 1_000.0
    assert report.command_to_emit_ms["max"] == 900.0


def test_a_chunk_answers_the_newest_command_that_can_have_reached_it() -> None:
    delays = Delays()
    for sent_s in (4.0, 5.0, 5.9):
        delays.command(sent_s)
    delays.frame(1, 0, 0, 6.0)
    delays.stats(ViewerStats(run=1, command_to_emit_us=950_000))
    assert delays.report().prompt_to_pixels_ms["max"] == 1_000.0
    # The one that came later is answered by a later chunk.
    delays.frame(1, 24, 0, 7.0)
    delays.stats(ViewerStats(run=1, chunk=1, frame=24, command_to_emit_us=1_000_000))
    assert delays.report().prompt_to_pixels_ms["max"] == 1_100.0


def test_a_command_of_somebody_else_is_no_prompt_of_ours() -> None:
    delays = Delays()
    delays.frame(1, 0, 0, 6.0)
    delays.stats(ViewerStats(run=1, command_to_emit_us=950_000))
    report = delays.report()
    assert report.prompt_to_pixels_ms == {}
    assert report.command_to_emit_ms["max"] == 950.0


def test_underruns_add_up_over_runs() -> None:
    delays = Delays()
    for run, underruns in ((1, 0), (1, 2), (2, 1)):
        delays.stats(ViewerStats(run=run, underruns=underruns))
    assert delays.report().underruns == 3


def test_without_anything_seen_nothing_is_reported() -> None:
    report = Delays().report()
    assert (report.chunks, report.glass_to_glass_ms, report.late_ms) == (0, {}, {})
