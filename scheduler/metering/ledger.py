"""The ledger of usage: what every session and tenant has used, on disk.

Reports come from actors and gateways as often as they like (`scheduler.core.metering`); once a
second those that came meanwhile are brought together with what is written, in one transaction,
and only then confirmed to whoever told them. So whatever dies, at whatever moment, what was
confirmed is written, and what was not is told again.

The file (`scheduler.metering.file`) is touched on a thread of its own; nothing here holds up the
event loop.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import structlog

from scheduler.core.metering import HOUR_S, Report, TenantHours, Usage
from scheduler.metering.file import Parking, Question, Row, UsageFile, Used

FLUSH_S: Final = 1.0
"""How often what was told is written."""
PARKED_S: Final = 60.0
"""How often it is written of sessions that are parked that they still are."""
PRUNE_S: Final = 3600.0
"""How often what is too old is removed."""
KEPT_S: Final = 400 * 24 * 3600.0
"""How long the ledger remembers, unless told otherwise."""
MOST_WAITING: Final = 65_536
"""Reports that may wait to be written. Past it a message is not taken in, and not confirmed: it
will be told again."""
WINDOW_HOURS: Final = 25
"""Hours, the present one among them, of which tenants' usage is at hand without asking the file."""

_ResultT = TypeVar("_ResultT")
_Key = tuple[str, str, str, int, int]
"""Teller, session, owner, term, origin: later reports say all that earlier ones did."""
_log = structlog.get_logger(__name__)


class UsageLedger:
    """Keeps the file; used on one event loop, between `open` and `close`.

    Args:
        folder: Where it lies; None: in memory, and gone with the process.
        kept_s: How long it remembers.
        wall: Returns seconds since 1970.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        kept_s: float = KEPT_S,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._kept_s = kept_s
        self._wall = wall
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="usage")
        self._waiting: dict[_Key, Report] = {}
        self._confirm: dict[str, tuple[int, Callable[[int], None]]] = {}
        """By who told: the newest message, and whom to tell that it is written."""
        self._parkings: list[Parking] = []
        self._hours = TenantHours(WINDOW_HOURS)
        self._totals: dict[str, Usage] = {}
        self._known_parked: set[str] = set()
        """Sessions of which this process itself has heard that they are parked."""

    async def open(self) -> None:
        """Opens the file, or makes it.

        Raises:
            ConfigurationError: The folder cannot be used.
        """
        self._file = await self._call(UsageFile, self._folder)
        self._totals = await self._call(self._file.totals)
        first = int(self._wall() // HOUR_S) - WINDOW_HOURS + 1
        for hour, tenant, used in await self._call(self._file.recent, first):
            self._hours.add(hour, tenant, used)

    async def run(self) -> None:
        """Writes what was told, for ever; cancelled, it does so a last time."""
        parked_at = pruned_at = self._wall()
        try:
            while True:
                await asyncio.sleep(FLUSH_S)
                now = self._wall()
                if now - parked_at >= PARKED_S:
                    parked_at = now
                    await self.count_parked()
                if now - pruned_at >= PRUNE_S:
                    pruned_at = now
                    await self.prune()
                await self.flush()
        finally:
            await asyncio.shield(self.flush())

    async def close(self) -> None:
        """Closes the file."""
        await self._call(self._file.close)
        self._thread.shutdown(wait=False)

    # -- what is told -------------------------------------------------------------------------

    def report(
        self, teller: str, number: int, reports: Sequence[Report], confirm: Callable[[int], None]
    ) -> None:
        """Takes a message of reports in.

        Args:
            teller: Who tells; of one teller later messages have higher numbers.
            number: Of the message.
            reports: What it says.
            confirm: Called with the number once all messages of the teller up to it are written.
        """
        if len(self._waiting) + len(reports) > MOST_WAITING:
            _log.warning("usage.too_many_reports")
            return
        for each in reports:
            origin = -1 if each.tally is None else each.tally.origin
            key = (teller, each.session, each.owner, each.term, origin)
            self._waiting[key] = each.joined(self._waiting.get(key))
        self._confirm[teller] = (number, confirm)

    def forget(self, teller: str) -> None:
        """A teller's stream has ended: nobody waits for its confirmations."""
        self._confirm.pop(teller, None)

    def parked(self, session: str, epoch: int) -> None:
        """A session was parked; the lease of this epoch has ended."""
        self._known_parked.add(session)
        self._parkings.append(Parking(session, epoch, self._wall()))

    def unparked(self, session: str) -> None:
        """A session has a place again, or is over. One of which a scheduler before this one has
        heard that it was parked counts as parked until now.
        """
        self._known_parked.discard(session)
        self._parkings.append(Parking(session, None, self._wall()))

    async def flush(self) -> None:
        """Writes what was told until now, and confirms it."""
        waiting, self._waiting = self._waiting, {}
        parkings, self._parkings = self._parkings, []
        confirm, self._confirm = self._confirm, {}
        if waiting or parkings:
            now = self._wall()
            try:
                used = await self._call(self._file.write, list(waiting.values()), parkings, now)
            except Exception as error:  # whatever it is: nothing is confirmed, nothing is lost
                _log.error("usage.not_written", error=type(error).__name__)
                for key, each in waiting.items():
                    self._waiting[key] = each.joined(self._waiting.get(key))
                self._parkings = parkings + self._parkings
                self._confirm = {**confirm, **self._confirm}
                return
            self._count(now, used)
        for number, told in confirm.values():
            told(number)

    async def count_parked(self) -> None:
        """Writes down that sessions are still parked."""
        now = self._wall()
        try:
            used = await self._call(self._file.count_parked, set(self._known_parked), now)
        except sqlite3.Error as error:
            _log.error("usage.not_written", error=type(error).__name__)
        else:
            self._count(now, used)

    async def prune(self) -> None:
        """Removes what is too old."""
        try:
            await self._call(self._file.prune, self._wall() - self._kept_s)
        except sqlite3.Error as error:
            _log.error("usage.not_pruned", error=type(error).__name__)

    # -- what is asked ------------------------------------------------------------------------

    async def read(self, question: Question) -> list[Row]:
        """Returns what was used, in the order of tenants, then of sessions."""
        await self.flush()
        return await self._call(self._file.read, question)

    def used(self, tenant: str, window_s: float) -> Usage:
        """Returns what a tenant has used within a window that ends now, for quotas.

        As exact as hours are: the one in which the window begins counts whole. At hand for
        windows of up to a day; what was told within the last second may be missing.
        """
        return self._hours.used(tenant, int((self._wall() - window_s) // HOUR_S))

    def totals(self, named: Iterable[str]) -> dict[str, Usage]:
        """Returns what tenants have used since the ledger began.

        Args:
            named: Tenants that are told by name; the others are told together, under "".
        """
        names = set(named)
        told = {name: self._totals.get(name, Usage()) for name in sorted(names)}
        others = (used for tenant, used in self._totals.items() if tenant not in names)
        return {**told, "": sum(others, Usage())}

    def _count(self, now: float, used: Iterable[Used]) -> None:
        """Adds what was written to what is at hand."""
        hour = int(now // HOUR_S)
        for tenant, more in used:
            if more:
                self._hours.add(hour, tenant, more)
                self._totals[tenant] = self._totals.get(tenant, Usage()) + more

    async def _call(self, work: Callable[..., _ResultT], *arguments: object) -> _ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
