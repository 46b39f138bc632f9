"""Durations as people write them: `90s`, `10m`, `1h30m`, `250ms`, or a number of seconds."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_NUMBER: Final = r"[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
_PART: Final = re.compile(rf"({_NUMBER})(ms|h|m|s)")
_PATTERN: Final = rf"^(?:{_NUMBER}(?:ms|h|m|s))+$"
_WHOLE: Final = re.compile(_PATTERN)
_SHORT: Final = 1000
"""A duration is written in the largest unit of which it is a multiple of a thousandth."""


def seconds(text: str) -> float:
    """Returns the seconds that a text stands for.

    Raises:
        ValueError: It is no duration.
    """
    if not _WHOLE.match(text):
        raise ValueError("a duration is written like 90s, 10m, 1h30m or 250ms, or in seconds")
    return sum(
        # Divided by a thousand rather than multiplied by its inverse: 280ms is 0.28.
        float(number) / 1000.0 if unit == "ms" else float(number) * _UNITS[unit]
        for number, unit in _PART.findall(text)
    )


def text(duration_s: float) -> str:
    """Returns a duration as one would write it; `seconds` of it is the same to the last digit."""
    for unit, size in _UNITS.items():
        count = duration_s / size
        written = f"{count:g}{unit}"
        if (count * _SHORT).is_integer() and count >= 1 and seconds(written) == duration_s:
            return written
    return f"{duration_s!r}s"


def _read(value: object) -> object:
    return seconds(value) if isinstance(value, str) else value


def _not_negative(value: float) -> float:
    if not 0 <= value < float("inf"):
        raise ValueError("a duration is not negative")
    return value


def _positive(value: float) -> float:
    if value <= 0:
        raise ValueError("it must be longer than nothing")
    return value


_SCHEMA: Final = WithJsonSchema(
    {
        "anyOf": [{"type": "string", "pattern": _PATTERN}, {"type": "number", "minimum": 0}],
        "description": "A duration: `90s`, `10m`, `1h30m`, `250ms`, or a number of seconds.",
    }
)
Duration = Annotated[
    float,
    BeforeValidator(_read),
    AfterValidator(_not_negative),
    PlainSerializer(text, when_used="json"),
    _SCHEMA,
]
"""A time in seconds, which may be nothing."""

Span = Annotated[Duration, AfterValidator(_positive)]
"""A time in seconds, longer than nothing."""
