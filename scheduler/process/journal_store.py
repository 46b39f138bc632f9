"""Where journals of sessions lie in the storage (docs/replay.md).

A journal is a folder `journals/DAY/SESSION`, of the day on which it began. In it lie *pieces* of
text, numbered by the epoch of the lease under which they were written and then in order, so that
their names sort as they are to be read; and `owner`, which says whose it is and is part of no
copy that anybody is given.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from scheduler.core.errors import SanaGatewayError
from scheduler.core.ids import Holder, Principal

ROOT: Final = "journals"
OWNER: Final = "owner"
MOST_PIECES: Final = 100_000
MOST_DAYS: Final = 4096

_PIECES_AT_ONCE: Final = 1000


class Names(Protocol):
    """What is needed of `scheduler.process.storage.Storage`."""

    async def names(self, prefix: str, after: str, limit: int) -> list[str]:
        """Returns what lies directly below a prefix."""

    async def get(self, key: str) -> bytes:
        """Returns a small object."""

    async def exists(self, key: str) -> bool:
        """Tells whether there is such an object."""

    async def delete(self, prefix: str) -> None:
        """Removes every object below a prefix."""


class BadJournalError(SanaGatewayError):
    """What lies there is no journal of ours."""


@dataclass(frozen=True, slots=True)
class JournalOwner:
    """Whose a journal is."""

    principal: Principal
    model: str
    """Name of the model as the client asked for it."""

    def write(self) -> bytes:
        """Returns it as it lies in the storage."""
        told = {
            "tenant": self.principal.tenant,
            "holders": [each.name for each in self.principal.holders],
            "model": self.model,
        }
        return json.dumps(told).encode()

    @classmethod
    def read(cls, data: bytes) -> JournalOwner:
        """Reads it.

        Raises:
            BadJournalError: It has another form.
        """
        try:
            told = json.loads(data)
            holders = tuple(Holder(str(name)) for name in told["holders"])
            principal = Principal(str(told["tenant"]), frozenset(), holders=holders)
            return cls(principal, str(told["model"]))
        except (ValueError, TypeError, KeyError) as error:
            raise BadJournalError("the owner of a journal cannot be read") from error


def day_of(now: float) -> str:
    """Returns the name of a day, in UTC.

    Args:
        now: Seconds since 1970.
    """
    return dt.datetime.fromtimestamp(now, dt.UTC).strftime("%Y%m%d")


def folder_of(now: float, session_id: str) -> str:
    """Returns the folder of a journal that begins now."""
    return f"{ROOT}/{day_of(now)}/{session_id}"


def piece_name(epoch: int, number: int) -> str:
    """Returns the name of a piece; names sort as pieces are to be read."""
    return f"{epoch:010d}-{number:06d}"


async def find(storage: Names, session_id: str) -> str | None:
    """Returns the folder of a session's journal, the newest if there are several.

    Raises:
        StorageError: The storage failed.
    """
    for day in reversed(await storage.names(ROOT, "", MOST_DAYS)):
        folder = f"{ROOT}/{day}/{session_id}"
        if await storage.exists(f"{folder}/{OWNER}"):
            return folder
    return None


async def pieces(storage: Names, folder: str) -> list[str]:
    """Returns the keys of a journal's pieces, in order.

    Raises:
        StorageError: The storage failed.
    """
    found: list[str] = []
    after = ""
    while len(found) < MOST_PIECES:
        names = await storage.names(folder, after, _PIECES_AT_ONCE)
        found += [name for name in names if name != OWNER]
        if len(names) < _PIECES_AT_ONCE:
            break
        after = names[-1]
    return [f"{folder}/{name}" for name in found]


async def sweep(storage: Names, now: float, kept_s: float) -> int:
    """Removes the journals that began on days before the oldest one that is kept.

    Args:
        storage: Where they lie.
        now: Seconds since 1970.
        kept_s: How long they are kept.

    Returns:
        How many days were removed.

    Raises:
        StorageError: The storage failed.
    """
    oldest = day_of(now - kept_s)
    old = list(_before(await storage.names(ROOT, "", MOST_DAYS), oldest))
    for day in old:
        await storage.delete(f"{ROOT}/{day}")
    return len(old)


def _before(days: Sequence[str], oldest: str) -> Iterator[str]:
    return (day for day in days if day.isdecimal() and day < oldest)
