"""What sessions are counted for, and when their quotas or their time end them.

The pool's `Facts` own one `Rations` and tell it of places taken and given back; it sets the
deadlines of the pool at which something is used up.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final

from scheduler.core.ids import Principal
from scheduler.core.quotas import Quotas, Subjects
from scheduler.core.tenants import TenantRules
from scheduler.core.usage import OVERSPENT, Usage

OVERTIME: Final = "the session has reached the longest time that it may last"
ENDING_S: Final = 2.0
"""How long after a session's time the gateways that take part in it may take to end it; then the
scheduler does, which also ends those that no gateway takes part in."""


class Rations:
    """Counts for everybody what sessions use.

    Args:
        rules: Returns what a tenant is entitled to.
        set_deadline: Called with a subject and when it has to be looked at.
        wall_offset: What to add to the pool's clock for seconds since 1970.
    """

    def __init__(
        self,
        rules: Callable[[str], TenantRules],
        set_deadline: Callable[[str, float], None],
        wall_offset: float = 0.0,
    ) -> None:
        self._rules = rules
        self._set_deadline = set_deadline
        self._wall_offset = wall_offset
        self.usage = Usage()
        """What was used."""
        self._limits: dict[str, Quotas] = {}
        """Quotas of subjects that stream now and whose time is limited."""

    def subjects(self, principal: Principal) -> Subjects:
        """Returns whom a session is counted for, its tenant first, and what each may use."""
        tenant = f"tenant:{principal.tenant}"
        found = {tenant: self._rules(principal.tenant).quotas}
        for each in principal.holders:
            known = found.get(each.name)
            found[each.name] = each.quotas if known is None else known.within(each.quotas)
        return found

    def may_create(self, principal: Principal, now: float) -> None:
        """Passes when one more session may be created for somebody.

        Raises:
            LimitError: A quota is used up.
        """
        self.usage.may_create(self.subjects(principal), now, now + self._wall_offset)

    def created(self, principal: Principal, now: float) -> None:
        """Counts a session that was created."""
        self.usage.created(self.subjects(principal), now)

    def timed(self, principal: Principal, now: float) -> Principal:
        """Returns the owner of a new session with the end that its tenant's rules set."""
        most = self._rules(principal.tenant).max_session_s
        if most is None:
            return principal
        ends_at = now + most
        if principal.ends_at is not None:
            ends_at = min(ends_at, principal.ends_at)
        return dataclasses.replace(principal, ends_at=ends_at)

    # Streamed time

    def begin(self, session: str, principal: Principal, now: float) -> None:
        """A session has its place."""
        subjects = self.subjects(principal)
        used_up = self.usage.begin(session, subjects, now + self._wall_offset)
        for subject, wall in used_up.items():
            self._limits[subject] = subjects[subject]
            self._look_at(subject, wall - self._wall_offset)

    def end(self, session: str, now: float) -> None:
        """It has it no more. Repeating it changes nothing."""
        for subject in self.usage.streamed.end(session, now + self._wall_offset):
            if not self.usage.streamed.running(subject):
                self._limits.pop(subject, None)

    def overspent(self, subject: str, now: float) -> tuple[str, tuple[str, ...]]:
        """Returns why the sessions of a subject are to end, and which; none where its time is not
        used up, and then it is looked at again when it will be.
        """
        quotas = self._limits.get(subject)
        if quotas is None:
            return "", ()
        wall = now + self._wall_offset
        period = self.usage.overspent(subject, quotas, wall)
        if period is not None:
            return OVERSPENT.format(period.name), self.usage.streamed.running(subject)
        self._look_at(subject, now + self.usage.left_s(subject, quotas, wall))
        return "", ()

    def _look_at(self, subject: str, at: float) -> None:
        if at < float("inf"):
            self._set_deadline(subject, at)

    # Bytes

    def reserve(
        self, session: str, upload: str, size: int, principal: Principal, now: float
    ) -> None:
        """Counts an upload that was announced.

        Raises:
            LimitError: A quota is used up.
        """
        wall = now + self._wall_offset
        self.usage.reserve(session, upload, size, self.subjects(principal), wall)

    # What outlives a process

    def dump(self, now: float) -> dict[str, Any]:
        """Returns what is counted by day and month, as plain data."""
        return self.usage.dump(now + self._wall_offset)
