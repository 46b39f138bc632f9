"""Names for the strings and numbers that identify things."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

from scheduler.core.quotas import NO_QUOTAS, Quotas

SessionId = NewType("SessionId", str)
ActorId = NewType("ActorId", str)
GatewayId = NewType("GatewayId", str)
Epoch = NewType("Epoch", int)
"""Grows with every placement of a session; lower ones are void."""
Run = NewType("Run", int)
"""Grows with every start and reset of a session; lower ones are void."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody whose sessions are counted: an API key, one token that was made from it, a user of
    an identity provider, or a tenant.
    """

    name: str
    """Tells it from all others: its kind, a colon, and its id."""
    max_sessions: int | None = None
    """Sessions that it may have at once, waiting and parked ones included; None: any number."""
    quotas: Quotas = NO_QUOTAS
    """What else it may use."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a caller may do within its scopes. By default everything."""

    models: tuple[frozenset[str], ...] = ()
    """Names of models whose sessions it may create and use; each set has to allow the model."""
    sessions: frozenset[str] | None = None
    """The only sessions that it may use, but for those of `own`; None: all of its tenant."""
    own: str = ""
    """Where `sessions` is not None: the holder whose sessions it may use, too, and create;
    empty: it creates none."""
    max_session_s: float | None = None
    """How long a session that it creates may last; None: for ever."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, or whose session it is."""

    tenant: str
    """Whom the session is counted for."""
    scopes: frozenset[str]
    """What the caller may do: `session`, `operator`."""
    holders: tuple[Holder, ...] = ()
    """Who else the session is counted for."""
    grant: Grant = Grant()
    """What the caller may do within its scopes. Not kept with a session."""
    ends_at: float | None = None
    """When the session of this owner ends come what may, on the monotonic clock of this
    process; None: never. A caller has none."""
