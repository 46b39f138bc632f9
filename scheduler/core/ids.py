"""Names for the strings and numbers that identify things."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

SessionId = NewType("SessionId", str)
ActorId = NewType("ActorId", str)
GatewayId = NewType("GatewayId", str)
Epoch = NewType("Epoch", int)
"""Grows with every placement of a session; lower ones are void."""
Run = NewType("Run", int)
"""Grows with every start and reset of a session; lower ones are void."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls."""

    tenant: str
    """Whom the session is counted for."""
    scopes: frozenset[str]
    """What the caller may do: `session`, `operator`."""
