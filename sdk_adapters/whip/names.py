"""Which session a name stands for. Pure.

A name belongs to whoever gave it: to a narrowed token (its holder, see docs/auth.md), or to the
tenant, which all callers are that are not narrowed. So nobody takes a name from another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from gateway.ports import HubSession
from sana_gateway.v1 import session_pb2
from scheduler.core.ids import Principal

MAX_NAMES: Final = 512
"""Names of one tenant. Beyond them those of ended sessions are forgotten first, then the oldest;
their sessions live on."""

_TENANT: Final = "*"
"""Holder of the names of callers that are not narrowed."""


class Key(NamedTuple):
    """A name and whose it is."""

    tenant: str
    holder: str
    """Empty for a narrowed token that creates no sessions: it has no names of its own."""
    name: str


@dataclass(frozen=True, eq=False, slots=True)
class Entry:
    """A name that was given to a session; another one after each giving."""

    key: Key
    session: HubSession


def own_key(principal: Principal, name: str) -> Key:
    """Returns what a name is for a caller that gives it."""
    narrowed = principal.grant.sessions is not None
    return Key(principal.tenant, principal.grant.own if narrowed else _TENANT, name)


def is_over(session: HubSession) -> bool:
    """Tells whether a session has ended."""
    return session.describe().status == session_pb2.SESSION_STATUS_CLOSED


class Names:
    """The names of one gateway process."""

    def __init__(self) -> None:
        """Knows none."""
        self._tenants: dict[str, dict[Key, Entry]] = {}
        """By tenant, those that were given first first."""

    def __len__(self) -> int:
        """Returns how many there are."""
        return sum(map(len, self._tenants.values()))

    def find(self, principal: Principal, name: str, *, to_publish: bool) -> Entry | None:
        """Returns what a name stands for to a caller: its own before those of others; of those
        the one that was given first.

        Args:
            principal: Who asks.
            name: The name.
            to_publish: Whether it is about to be given if it stands for nothing. Then nobody
                gets into a session that another caller happened to name so, but for those that
                its token is bound to.
        """
        named, own = self._tenants.get(principal.tenant, {}), own_key(principal, name)
        found = named.get(own)
        if found is not None:
            return found
        sessions = principal.grant.sessions
        if sessions is None and to_publish:
            return None
        return next(
            (
                each
                for each in named.values()
                if each.key.name == name
                and (sessions is None or each.session.session_id in sessions)
            ),
            None,
        )

    def give(self, key: Key, session: HubSession) -> None:
        """Gives a name to a session."""
        named = self._tenants.setdefault(key.tenant, {})
        named.pop(key, None)
        if len(named) >= MAX_NAMES:
            for entry in [each for each in named.values() if is_over(each.session)]:
                del named[entry.key]
        while len(named) >= MAX_NAMES:
            del named[next(iter(named))]
        named[key] = Entry(key, session)

    def forget(self, entry: Entry) -> None:
        """Forgets a name, unless it was given anew meanwhile."""
        named = self._tenants.get(entry.key.tenant, {})
        if named.get(entry.key) is entry:
            del named[entry.key]
            if not named:
                del self._tenants[entry.key.tenant]

    def entries(self) -> list[Entry]:
        """Returns all of them."""
        return [entry for named in self._tenants.values() for entry in named.values()]
