"""Tenants and holders: what each is entitled to, and how many sessions it has."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from scheduler.core.ids import Holder, Principal
from scheduler.core.quotas import NO_QUOTAS, Quotas


@dataclass(frozen=True, slots=True)
class TenantRules:
    """What a tenant is entitled to."""

    weight: float = 1.0
    """Share of the places that become free, against the others that wait; above 0."""
    max_sessions: int | None = None
    """Sessions that may hold a place at once; more of them wait. None: as many as fit. Parked
    sessions hold none, and a session that existed before is restored whatever the limit."""
    max_queued: int | None = None
    """New sessions that may wait; more of them are refused. None: as many as the queue takes."""
    priority: int = 0
    """Higher ones are placed first."""
    max_session_s: float | None = None
    """How long a session may last, in seconds; None: for ever."""
    quotas: Quotas = NO_QUOTAS
    """What else its sessions may use."""


ANYBODY = TenantRules()


class TenantUsage:
    """How many places the sessions of each tenant hold.

    Args:
        rules: Returns what a tenant is entitled to.
    """

    def __init__(self, rules: Callable[[str], TenantRules]) -> None:
        self._rules = rules
        self._placed: Counter[str] = Counter()
        self.total = 0
        """Places that are held altogether."""

    def placed(self, tenant: str) -> int:
        """Returns how many places a tenant holds."""
        return self._placed[tenant]

    def left(self, tenant: str) -> float:
        """Returns how many more places a tenant may hold; infinity where nothing limits it."""
        limit = self._rules(tenant).max_sessions
        return math.inf if limit is None else max(0, limit - self._placed[tenant])

    def take(self, tenant: str) -> None:
        """Counts a place that is taken."""
        self._placed[tenant] += 1
        self.total += 1

    def give_back(self, tenant: str) -> None:
        """Counts a place that is given back."""
        self._placed[tenant] -= 1
        self.total -= 1
        if self._placed[tenant] <= 0:
            del self._placed[tenant]


class Holdings:
    """How many sessions each holder has, wherever they are."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    def exhausted(self, principal: Principal) -> Holder | None:
        """Returns a holder of a session to be that may have no more of them; None: all may."""
        return next((each for each in principal.holders if self._is_full(each)), None)

    def take(self, principal: Principal) -> None:
        """Counts a session that began."""
        self._held.update(each.name for each in principal.holders)

    def give_back(self, principal: Principal) -> None:
        """Counts a session that is over."""
        for each in principal.holders:
            self._held[each.name] -= 1
            if self._held[each.name] <= 0:
                del self._held[each.name]

    def _is_full(self, holder: Holder) -> bool:
        most = holder.max_sessions
        return most is not None and self._held[holder.name] >= most
