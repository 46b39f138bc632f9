"""The values of command-line options, read from their text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from scheduler.core.errors import ConfigurationError
from scheduler.core.quotas import MOST_A_MINUTE, Quotas
from scheduler.core.tenants import ANYBODY, TenantRules
from scheduler.options import pairs

NEVER = "never"
EVERYBODY_ELSE = "*"
"""Stands for all tenants, or all models, that have no entry of their own."""
_TIME = re.compile(r"(?P<count>[0-9]+(\.[0-9]+)?)(?P<unit>ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(?P<count>[0-9]+)(?P<unit>[KMGT]?)")
_BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def seconds(text: str, name: str) -> float:
    """Reads a time: `30`, `30s`, `500ms`, `5m`, `12h` or `2d`.

    Args:
        text: As given.
        name: The option, for the error.

    Raises:
        ConfigurationError: It has another form.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise ConfigurationError(f"{name} is a time, as 30s, 5m or 2d")
    return float(found["count"]) * _SECONDS[found["unit"]]


def patience(text: str, name: str) -> float | None:
    """Reads a time, or `never`.

    Raises:
        ConfigurationError: It has another form.
    """
    return None if text == NEVER else seconds(text, name)


def size(text: str, name: str) -> int:
    """Reads a number of bytes: `1000`, `512M` or `8G`, in powers of 1024.

    Raises:
        ConfigurationError: It has another form.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ConfigurationError(f"{name} is a size, as 512M or 8G")
    return int(found["count"]) * _BYTES[found["unit"]]


def counts(given: Sequence[str], name: str) -> dict[str, int]:
    """Reads repeated `NAME[=COUNT]`; without a count it is 0.

    Raises:
        ConfigurationError: One has another form, or a name comes twice.
    """
    read: dict[str, int] = {}
    for each in given:
        key, separator, count = each.partition("=")
        if not key or key in read or (separator and not _is_count(count)):
            raise ConfigurationError(f"{name} has the form NAME or NAME=COUNT, each name once")
        read[key] = int(count or 0)
    return read


def spares(given: Sequence[str] | None, models: Sequence[str]) -> dict[str, int]:
    """Reads repeated `[MODEL=]COUNT`.

    Raises:
        ConfigurationError: One has another form, or names a model that is not served.
    """
    read: dict[str, int] = {}
    for each in sorted(given or (), key=lambda each: "=" in each):
        key, _, count = each.rpartition("=")
        if not _is_count(count) or (key and key not in models):
            raise ConfigurationError(
                f"--warm-spares has the form COUNT or MODEL=COUNT; models: {', '.join(models)}"
            )
        read.update(dict.fromkeys((key,) if key else models, int(count)))
    return read


def tenants(given: Sequence[str] | None) -> tuple[dict[str, TenantRules], TenantRules]:
    """Reads repeated `NAME:KEY=VALUE,...`.

    Returns:
        What tenants are entitled to, and what all others are.

    Raises:
        ConfigurationError: One has another form, or a value that makes no sense.
    """
    read = {}
    for each in given or ():
        name, separator, rules = each.rpartition(":")
        if not (name and separator) or name in read:
            raise ConfigurationError("--tenant has the form NAME:KEY=VALUE,..., each name once")
        read[name] = _tenant(rules)
    anybody = read.pop(EVERYBODY_ELSE, ANYBODY)
    return read, anybody


def _tenant(text: str) -> TenantRules:
    told = pairs(text.split(","), "--tenant NAME:")
    known = ("weight", "max", "queued", "priority", *_LIMITS)
    if unknown := sorted(told.keys() - set(known)):
        raise ConfigurationError(f"--tenant knows {', '.join(known)}, and not {', '.join(unknown)}")
    limits: dict[str, Any] = {
        name: read(told[name], f"--tenant: {name}")
        for name, read in _LIMITS.items()
        if name in told
    }
    if any(most < 1 for most in limits.values()):
        raise ConfigurationError("a tenant's quotas are 1 or more")
    longest = limits.pop("max_session_duration", None)
    try:
        rules = TenantRules(
            weight=float(told.get("weight", "1")),
            max_sessions=int(told["max"]) if "max" in told else None,
            max_queued=int(told["queued"]) if "queued" in told else None,
            priority=int(told.get("priority", "0")),
            max_session_s=longest,
            quotas=Quotas(**limits),
        )
    except ValueError:
        raise ConfigurationError(
            "a tenant's limits are whole numbers, its weight a number"
        ) from None
    bounds = (rules.max_sessions, rules.max_queued)
    if not (0 < rules.weight < math.inf) or any(
        bound is not None and bound < 0 for bound in bounds
    ):
        raise ConfigurationError("a tenant's weight is above 0, its limits are 0 or more")
    return rules


def span(text: str, name: str) -> tuple[int, int]:
    """Reads `LEAST-MOST`.

    Raises:
        ConfigurationError: It has another form, or the first is the larger.
    """
    least, _, most = text.partition("-")
    if not (_is_count(least) and _is_count(most)) or int(least) > int(most) or int(most) < 1:
        raise ConfigurationError(f"{name} has the form LEAST-MOST, as 1-64")
    return int(least), int(most)


def with_weights(given: Sequence[str] | None, weights: Path | None) -> list[str]:
    """Adds a folder of weights to what was given of `--model-option`, as an absolute path: an
    actor may run elsewhere in the tree.
    """
    folder = [] if weights is None else [f"weights={weights.resolve()}"]
    return [*(given or ()), *folder]


def model_options(given: Sequence[str] | None, models: Sequence[str]) -> dict[str, dict[str, str]]:
    """Reads repeated `[MODEL:]KEY=VALUE`; without a model it is the first one's.

    Raises:
        ConfigurationError: One has another form, or names a model that is not served.
    """
    read: dict[str, dict[str, str]] = {model: {} for model in models}
    for key, value in pairs(given, "--model-option").items():
        model, _, option = key.rpartition(":")
        if model and model not in read:
            raise ConfigurationError(f"--model-option names {model!r}, which is not served here")
        read[model or models[0]][option] = value
    return read


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _a_minute(text: str, name: str) -> int:
    if not _is_count(text) or int(text) > MOST_A_MINUTE:
        raise ConfigurationError(f"{name} is a whole number up to {MOST_A_MINUTE}")
    return int(text)


_LIMITS: Final[Mapping[str, Callable[[str, str], float]]] = {
    "max_session_duration": seconds,
    "sessions_per_minute": _a_minute,
    "streamed_per_day": seconds,
    "streamed_per_month": seconds,
    "uploads_per_session": size,
    "uploads_per_day": size,
    "stored": size,
}
"""How the quotas of a tenant are read, by their names: those of files of keys (docs/limits.md)."""
