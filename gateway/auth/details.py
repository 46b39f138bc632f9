"""The `authorization_details` of a token (RFC 9396): what it is narrowed to. Pure.

What a caller asks for and what a token says have the same form. The form is the one of the
Reactor API, reactor-protocol section 2.1; an entry of the type `operator` is ours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from scheduler.core.errors import BadArgumentError

MOST_MODELS: Final = 64
"""Most models that a token may name."""
MOST_BOUND: Final = 16
"""Most sessions that a token may be bound to."""
MOST_NAME: Final = 128
"""Most characters of a name or an id."""
MOST_SESSIONS: Final = 1_000_000
"""Most sessions that a limit may allow."""
MOST_SECONDS: Final = 86_400
"""Longest duration of a session that may be asked for; a longer one is a mistake."""


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What a token is for, within what its key allows."""

    session: bool = True
    """Whether it may create and use sessions."""
    scoped: bool = False
    """Whether it is narrowed at all: then it reaches no other sessions than those that it created
    itself and `sessions`."""
    operator: bool = False
    """Whether it may see the pool and empty parts of it."""
    models: frozenset[str] | None = None
    """Models that it may create sessions of; None: all of its key."""
    sessions: frozenset[str] | None = None
    """Sessions that exist already and that it is for, too; None: there are none."""
    max_sessions: int | None = None
    """Sessions that it may have at once, `sessions` counted in; None: as many as its key may
    have, or `sessions` alone where they are named."""
    max_session_s: int | None = None
    """How long each of them may last; None: as long as its key allows."""


def read(details: object) -> Narrowing:
    """Reads `authorization_details`; absent, null and an empty list narrow nothing.

    Fields that are not known are refused, not ignored: each would have narrowed the token.

    Raises:
        BadArgumentError: They have another form.
    """
    if details is None or details == []:
        return Narrowing()
    if not isinstance(details, list):
        raise _bad("is a list")
    entries: dict[str, Mapping[str, Any]] = {}
    for entry in details:
        kind = entry.get("type") if isinstance(entry, dict) else None
        if kind not in ("session", "operator") or kind in entries:
            raise _bad("has at most one entry of each type, session and operator")
        entries[kind] = entry
    if "operator" in entries:
        _object(entries["operator"], {"type"}, "an operator entry")
    if "session" not in entries:
        return Narrowing(session=False, operator=True)
    return _session(entries["session"], operator="operator" in entries)


def write(narrowing: Narrowing) -> list[dict[str, Any]]:
    """Writes what `read` reads."""
    entries: list[dict[str, Any]] = []
    if narrowing.scoped:
        models, sessions = narrowing.models, narrowing.sessions
        resources: dict[str, Any] = {
            "models": {"all": True} if models is None else {"match": sorted(models)}
        }
        if sessions is not None:
            resources["sessions"] = {"bind": sorted(sessions)}
        limits = {
            "max_sessions": narrowing.max_sessions,
            "max_session_duration_seconds": narrowing.max_session_s,
        }
        constraints = {name: limit for name, limit in limits.items() if limit is not None}
        entries.append({"type": "session", "resources": resources, "constraints": constraints})
    if narrowing.operator:
        entries.append({"type": "operator"})
    return entries


def _session(entry: Mapping[str, Any], *, operator: bool) -> Narrowing:
    _object(entry, {"type", "resources", "constraints"}, "a session entry")
    resources = _object(entry.get("resources"), {"models", "sessions"}, "resources")
    limits = {"max_sessions", "max_session_duration_seconds"}
    constraints = _object(entry.get("constraints"), limits, "constraints")
    sessions = _object(resources.get("sessions"), {"bind"}, "resources.sessions")
    bound = sessions.get("bind")
    return Narrowing(
        scoped=True,
        operator=operator,
        models=_models(resources.get("models")),
        sessions=None if bound is None else _names(bound, MOST_BOUND, "sessions.bind"),
        max_sessions=_count(constraints, "max_sessions", MOST_SESSIONS),
        max_session_s=_count(constraints, "max_session_duration_seconds", MOST_SECONDS),
    )


def _models(models: object) -> frozenset[str] | None:
    """Returns the models that are named; None for all."""
    found = _object(models, {"match", "all"}, "resources.models")
    if "match" in found and "all" not in found:
        return _names(found["match"], MOST_MODELS, "models.match")
    if models is not None and found != {"all": True}:
        raise _bad('has models either as {"match": [names]} or as {"all": true}')
    return None


def _object(value: object, known: Collection[str], name: str) -> Mapping[str, Any]:
    """Returns an object without unknown fields; an absent one is empty."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not set(value).issubset(known):
        raise _bad(f"has in {name} no other fields than {', '.join(sorted(known))}")
    return value


def _names(value: object, most: int, name: str) -> frozenset[str]:
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        raise _bad(f"has in {name} a list of 1 to {most} names")
    for each in value:
        if not isinstance(each, str) or not 1 <= len(each) <= MOST_NAME or not each.isprintable():
            raise _bad(f"has in {name} names of 1 to {MOST_NAME} printable characters")
    return frozenset(value)


def _count(constraints: Mapping[str, Any], name: str, most: int) -> int | None:
    value = constraints.get(name)
    if value is None:
        return None
    # JavaScript knows no integers: 600.0 is one.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise _bad(f"has as {name} a whole number from 1 to {most}")
    return value


def _bad(text: str) -> BadArgumentError:
    return BadArgumentError(f"authorization_details {text}")
