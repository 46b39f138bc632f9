"""Distributions."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from pydantic import TypeAdapter, ValidationError

from scheduler.core.errors import ConfigurationError
from scheduler.scenario.distributions import Distribution

pytestmark = pytest.mark.unit

ADAPTER: TypeAdapter[Distribution] = TypeAdapter(Distribution)


@pytest.mark.parametrize(
    "record",
    [
        {"kind": "fixed", "value": 3},
        {"kind": "exponential", "mean": 3},
        {"kind": "lognormal", "mean": 3, "sigma": 0.8},
        {"kind": "uniform", "low": 1, "high": 5},
    ],
)
def test_draws_have_the_mean_that_is_stated(record: dict[str, object]) -> None:
    distribution = ADAPTER.validate_python(record)
    draw = distribution.sampler(Random(5))
    assert distribution.average() == pytest.approx(3)
    assert sum(draw() for _ in range(20_000)) / 20_000 == pytest.approx(3, rel=0.03)


def test_a_trace_gives_what_was_observed(tmp_path: Path) -> None:
    path = tmp_path / "pauses.csv"
    path.write_text("user,pause\na,1.5\nb,4.5\n")
    trace = ADAPTER.validate_python({"kind": "trace", "path": path, "column": "pause"})
    draw = trace.sampler(Random(5))
    assert {draw() for _ in range(50)} == {1.5, 4.5}
    assert trace.average() == 3


@pytest.mark.parametrize("content", ["", "a\n", "-1\n"])
def test_a_trace_without_durations_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(content)
    with pytest.raises(ConfigurationError):
        ADAPTER.validate_python({"kind": "trace", "path": path}).average()


def test_bounds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="below"):
        ADAPTER.validate_python({"kind": "uniform", "low": 2, "high": 1})
