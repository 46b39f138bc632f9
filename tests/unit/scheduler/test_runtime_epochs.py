"""The epoch that a scheduler begins with."""

from __future__ import annotations

import pytest

from scheduler.runtime import first_epoch

pytestmark = pytest.mark.unit

NOVEMBER_2026 = 1_795_000_000
UINT32 = 2**32
YEAR_S = 365 * 24 * 3600


def test_a_later_scheduler_begins_higher_and_fits_the_wire() -> None:
    first, second = first_epoch(NOVEMBER_2026), first_epoch(NOVEMBER_2026 + 10)
    assert 0 < first < second
    assert first_epoch(NOVEMBER_2026 + 15 * YEAR_S) < UINT32


def test_a_clock_that_was_never_set_is_borne() -> None:
    assert first_epoch(0.0) == 0
