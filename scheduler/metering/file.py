"""The file of the ledger of usage. Blocks; one thread at a time.

Four tables: what is known of each session (`accounts`, to merge reports with), what was used in
each hour by each session (`hours`, of which every answer is made), what each tenant has used
since the ledger began (`totals`, for counters that only grow), and which sessions are parked.
All that belongs together is written in one transaction, or not at all.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog

from scheduler.core.errors import ConfigurationError
from scheduler.core.metering import (
    FIGURES,
    HOUR_S,
    PARKING,
    Account,
    Carried,
    Report,
    Usage,
)
from scheduler.metering.text import read_account, write_account

NAME: Final = "usage.sqlite"
BUSY_S: Final = 10.0
"""How long a scheduler that is being replaced may hold the file."""

_log = structlog.get_logger(__name__)

_COLUMNS: Final = ", ".join(FIGURES)
_SUMS: Final = ", ".join(f"SUM({name})" for name in FIGURES)
_MORE: Final = ", ".join(f"{name} = {name} + excluded.{name}" for name in FIGURES)
_PLACES: Final = ", ".join("?" * len(FIGURES))
_TYPED: Final = ", ".join(f"{name} INTEGER NOT NULL" for name in FIGURES)
_SCHEMA: Final = f"""
PRAGMA journal_mode = TRUNCATE;
PRAGMA synchronous = NORMAL;
BEGIN;
CREATE TABLE IF NOT EXISTS accounts (
    session TEXT PRIMARY KEY, tenant TEXT NOT NULL, model TEXT NOT NULL,
    account TEXT NOT NULL, heard_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hours (
    hour INTEGER NOT NULL, session TEXT NOT NULL, tenant TEXT NOT NULL, model TEXT NOT NULL,
    {_TYPED}, PRIMARY KEY (tenant, session, hour)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS totals (tenant TEXT PRIMARY KEY, {_TYPED}) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parked (
    session TEXT PRIMARY KEY, epoch INTEGER NOT NULL, since REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS hours_by_hour ON hours (hour);
CREATE INDEX IF NOT EXISTS accounts_by_time ON accounts (heard_at);
COMMIT;
"""
# Names of columns are constants; what comes from elsewhere is bound, never written into these.
_KEEP: Final = """INSERT INTO accounts VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (session) DO UPDATE SET account = excluded.account, heard_at = excluded.heard_at"""
_ADD_HOUR: Final = (
    f"INSERT INTO hours (hour, session, tenant, model, {_COLUMNS})"  # noqa: S608
    f" VALUES (?, ?, ?, ?, {_PLACES}) ON CONFLICT (tenant, session, hour) DO UPDATE SET {_MORE}"
)
_ADD_TOTAL: Final = (
    f"INSERT INTO totals (tenant, {_COLUMNS}) VALUES (?, {_PLACES})"  # noqa: S608
    f" ON CONFLICT (tenant) DO UPDATE SET {_MORE}"
)
_TOTALS: Final = f"SELECT tenant, {_COLUMNS} FROM totals"  # noqa: S608
_RECENT: Final = (
    f"SELECT hour, tenant, {_SUMS} FROM hours WHERE hour >= ?"  # noqa: S608
    " GROUP BY hour, tenant ORDER BY hour"
)
_READ: Final = """SELECT tenant, MAX(session), MAX(model), {sums} FROM hours
    WHERE {conditions} GROUP BY {group} ORDER BY {group} LIMIT ?"""

Used = tuple[str, Usage]
"""A tenant, and what it has used more."""


class Row(NamedTuple):
    """What a session, or a tenant, has used within a time."""

    tenant: str
    session: str
    """Empty: all of the tenant's."""
    model: str
    used: Usage


class Question(NamedTuple):
    """What is asked of the ledger."""

    by_session: bool = True
    since_hour: int | None = None
    """First hour that counts, from 1970; None: all."""
    until_hour: int | None = None
    """First hour that counts no more."""
    tenant: str | None = None
    """Only this one's."""
    session: str | None = None
    """Only this one."""
    after: tuple[str, str] | None = None
    """(tenant, session) of the last row that was told before."""
    limit: int = 1000


class Parking(NamedTuple):
    """A session was parked, or no longer is."""

    session: str
    epoch: int | None
    """Of the lease that ended; None: it has a place again, or is over."""
    at: float
    """When, in seconds since 1970."""


class UsageFile:
    """An open file. Every method raises `sqlite3.Error`."""

    def __init__(self, folder: Path | None) -> None:
        """Opens the file, or makes it. One that is damaged is put aside, and a new one begun.

        Args:
            folder: Where it lies; None: in memory, and gone with the process.

        Raises:
            ConfigurationError: The folder cannot be used.
        """
        if folder is None:
            self._db = _connected(":memory:")
            return
        path = folder / NAME
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = _connected(str(path))
        except sqlite3.OperationalError as error:
            raise ConfigurationError("the ledger of usage cannot be opened") from error
        except sqlite3.DatabaseError:
            _put_aside(path)
            self._db = _connected(str(path))
        except OSError as error:
            text = f"the folder of the ledger of usage cannot be used: {error.strerror}"
            raise ConfigurationError(text) from None

    def close(self) -> None:
        """Closes it."""
        self._db.close()

    def write(
        self, reports: Iterable[Report], parkings: Iterable[Parking], now: float
    ) -> list[Used]:
        """Brings reports together with what is known; returns what is new of it."""
        with self._transaction():
            used = [self._merge(report, now) for report in reports]
            used += [self._parking(each) for each in parkings]
        return used

    def count_parked(self, known: set[str], now: float) -> list[Used]:
        """Writes down that sessions are still parked; returns what is new."""
        with self._transaction():
            rows = self._db.execute("SELECT session, epoch, since FROM parked").fetchall()
            return [
                self._parked_for(session, epoch, now - since, now)
                for session, epoch, since in rows
                if session in known
            ]

    def prune(self, before: float) -> None:
        """Removes what ended before a time, and of what nothing was heard since."""
        with self._transaction():
            self._db.execute("DELETE FROM hours WHERE hour < ?", (int(before // HOUR_S),))
            self._db.execute("DELETE FROM accounts WHERE heard_at < ?", (before,))
            self._db.execute("DELETE FROM parked WHERE since < ?", (before,))

    def read(self, question: Question) -> list[Row]:
        """Returns what was used, in the order of tenants, then of sessions."""
        group = "tenant, session" if question.by_session else "tenant"
        given = (
            ("hour >= ?", question.since_hour),
            ("hour < ?", question.until_hour),
            ("tenant = ?", question.tenant),
            ("session = ?", question.session),
        )
        told = [(condition, value) for condition, value in given if value is not None]
        conditions, values = [each for each, _ in told], [value for _, value in told]
        if question.after is not None:
            conditions.append("(tenant, session) > (?, ?)" if question.by_session else "tenant > ?")
            values += question.after if question.by_session else question.after[:1]
        statement = _READ.format(
            sums=_SUMS, conditions=" AND ".join(conditions) or "TRUE", group=group
        )
        return [
            Row(
                tenant,
                session if question.by_session else "",
                model if question.by_session else "",
                Usage(*figures),
            )
            for tenant, session, model, *figures in self._db.execute(
                statement, (*values, question.limit)
            )
        ]

    def totals(self) -> dict[str, Usage]:
        """Returns what tenants have used since the ledger began."""
        return {tenant: Usage(*figures) for tenant, *figures in self._db.execute(_TOTALS)}

    def recent(self, since_hour: int) -> list[tuple[int, str, Usage]]:
        """Returns what tenants have used from an hour on, hour by hour."""
        rows = self._db.execute(_RECENT, (since_hour,))
        return [(hour, tenant, Usage(*figures)) for hour, tenant, *figures in rows]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        # Nobody else may write between what is read here and what is written.
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _merge(self, report: Report, now: float) -> Used:
        row = self._one("SELECT account FROM accounts WHERE session = ?", report.session)
        before = Account() if row is None else read_account(row[0])
        after = before.merged(report)
        if row is not None and after == before:
            return report.tenant, Usage()
        told = (report.session, report.tenant, report.model, write_account(after), now)
        self._db.execute(_KEEP, told)
        more = after.total - before.total
        if more:
            figures = [getattr(more, name) for name in FIGURES]
            whose = (int(now // HOUR_S), report.session, report.tenant, report.model)
            self._db.execute(_ADD_HOUR, (*whose, *figures))
            self._db.execute(_ADD_TOTAL, (report.tenant, *figures))
        return report.tenant, more

    def _parking(self, parking: Parking) -> Used:
        session, epoch, at = parking
        if epoch is not None:
            told = (session, epoch, at)
            self._db.execute("INSERT OR IGNORE INTO parked VALUES (?, ?, ?)", told)
            return "", Usage()
        row = self._one("SELECT epoch, since FROM parked WHERE session = ?", session)
        if row is None:
            return "", Usage()
        self._db.execute("DELETE FROM parked WHERE session = ?", (session,))
        return self._parked_for(session, row[0], at - row[1], at)

    def _parked_for(self, session: str, epoch: int, seconds: float, now: float) -> Used:
        """Says how long a session has been parked since it left its actor."""
        known = self._one("SELECT tenant, model FROM accounts WHERE session = ?", session)
        if known is None:
            return "", Usage()
        tenant, model = known
        parked = Carried(parked_us=max(0, round(seconds * 1e6)))
        report = Report(session, tenant, model, owner=PARKING, term=epoch, carried=parked)
        return self._merge(report, now)

    def _one(self, statement: str, session: str) -> Sequence[Any] | None:
        row: Sequence[Any] | None = self._db.execute(statement, (session,)).fetchone()
        return row


def _connected(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        db.executescript(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db


def _put_aside(path: Path) -> None:
    """Puts a file that cannot be read out of the way; the operator may mend it."""
    aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
    path.rename(aside)
    path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
    _log.error("usage.damaged", kept_as=aside.name)
