"""Durations as people write them."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from scheduler.scenario.durations import Duration, Span, text

pytestmark = pytest.mark.unit

DURATION: TypeAdapter[float] = TypeAdapter(Duration)
SPAN: TypeAdapter[float] = TypeAdapter(Span)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("90s", 90),
        ("10m", 600),
        ("24h", 86_400),
        ("1h30m", 5400),
        ("7.5m", 450),
        ("280ms", 0.28),
        ("1m500ms", 60.5),
        ("0s", 0),
        (12.5, 12.5),
        (3, 3),
    ],
)
def test_a_duration_is_a_text_with_units_or_a_number_of_seconds(
    written: str | float, meant: float
) -> None:
    assert DURATION.validate_python(written) == meant


@pytest.mark.parametrize("written", ["", "10", "ten", "5 m", "-5s", "5s!", "5d", "s", -1, "1e999h"])
def test_what_is_no_duration_is_refused(written: str | float) -> None:
    with pytest.raises(ValidationError):
        DURATION.validate_python(written)


def test_a_span_is_not_nothing() -> None:
    assert DURATION.validate_python("0s") == 0
    with pytest.raises(ValidationError):
        SPAN.validate_python("0s")


@pytest.mark.parametrize(
    ("meant", "written"),
    [(86_400, "24h"), (5400, "1.5h"), (90, "1.5m"), (60.5, "60.5s"), (0.28, "280ms"), (25, "25s")],
)
def test_a_duration_is_written_in_the_largest_unit_that_suits_it(
    meant: float, written: str
) -> None:
    assert text(meant) == written
