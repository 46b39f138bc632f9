"""Kept states in the storage, where every host can read them.

An object of a storage never changes: a small index tells which object holds the newest state
of a session, under which epoch it was kept, and until when, unless somebody says that it is
still needed. The index is written first, so that whatever lies here has an end: a process that
dies while it writes, and a session that everybody has forgotten, leave nothing for ever.

A large state leaves its host only where the way there is fast enough, as measured while states
are written: a session that comes back would wait as long for it, and others' media take the
same network.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from model_actor.snapshots import files
from model_actor.snapshots.kept import DAY_S, Age, KeptState, Point, age_of, parse, pieces
from scheduler.kept_names import FOLDER
from scheduler.process.storage import Storage, StorageError

log = structlog.get_logger(__name__)

SWEPT: Final = 256
"""Sessions that one sweep looks at."""
WITHIN_S: Final = 20.0
"""Longest that a state may take there: 2 GB at 100 MB a second."""
SURE_BYTES: Final = 1 << 26
"""After so many bytes the rate is believed."""
TRY_AGAIN_S: Final = 600.0
"""So long a way that was too slow is not tried again."""
_PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _Index:
    """What is written beside the state of a session."""

    point: Point
    name: str
    """Key of the object; empty while the first one is being written."""
    age: Age
    until: float
    """When it is swept."""

    def data(self) -> bytes:
        _, epoch, run, windows = self.point
        told = {"epoch": epoch, "run": run, "windows": windows, "object": self.name}
        return json.dumps({**told, "age": self.age, "until": self.until}).encode()

    @classmethod
    def parse(cls, key: str, data: bytes) -> _Index:
        """Reads an index.

        Raises:
            ValueError: It is none.
        """
        try:
            told = json.loads(data)
            epoch, run, windows = (int(told[part]) for part in ("epoch", "run", "windows"))
            name, until = str(told["object"]), float(told["until"])
            age = Age(*map(int, told["age"]))
        except (KeyError, TypeError) as error:
            raise ValueError("not an index") from error
        if name and not name.startswith(f"{FOLDER}/{key}/"):
            raise ValueError("the index of something else")
        return cls(Point(key, epoch, run, windows), name, age, until)


class _TooSlowError(StorageError):
    """The way to the storage would take too long."""


class _Way:
    """The way to the storage, as measured."""

    def __init__(self, within_s: float, timer: Callable[[], float]) -> None:
        self.timer = timer
        self._within_s = within_s
        self._slow_at: float | None = None
        self._rate = 0.0
        """Bytes per second when it was too slow."""

    def check(self, size: int) -> None:
        """Passes unless so many bytes were too many a while ago."""
        if self._slow_at is None or self.timer() - self._slow_at > TRY_AGAIN_S:
            return
        if size > self._rate * self._within_s:
            raise _TooSlowError(self._told())

    def went(self, began: float, done: int, size: int) -> None:
        """Passes while what is under way will be there in time."""
        took_s = self.timer() - began
        if not SURE_BYTES <= done < size or took_s * size <= self._within_s * done:
            return
        self._slow_at, self._rate = self.timer(), done / took_s
        raise _TooSlowError(self._told())

    def _told(self) -> str:
        return f"the way there is too slow: {self._rate / 1e6:.1f} MB a second"


class StorageTier:
    """The kept states in a storage, by the keys of their sessions.

    What fails there is told by the result, and logged.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        kept_for_s: float = DAY_S,
        within_s: float = WITHIN_S,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keeps states in `storage`.

        Args:
            storage: The storage.
            kept_for_s: How long a state is kept after it was written or said to be needed.
            within_s: Longest that a state may take there.
            clock: The time that hosts agree on, as far as they do.
            timer: What durations are measured by.
        """
        self._storage = storage
        self._kept_for_s = kept_for_s
        self._clock = clock
        self._way = _Way(within_s, timer)
        # The actors of a service sweep it together, each from somewhere else on.
        self._swept = secrets.token_hex(2)

    async def write(self, key: str, epoch: int, state: KeptState) -> bool:
        """Writes a state in place of the one before; False when it could not, or must not."""
        before = await self._index(key)
        if before is not None and before.point.epoch > epoch:
            return False
        point = Point(key, epoch, state.run, state.windows)
        name = f"{FOLDER}/{key}/{epoch}-{state.run}-{state.windows}-{secrets.token_hex(8)}"
        index = _Index(point, name, age_of(state), self._clock() + self._kept_for_s)
        try:
            self._way.check(state.size)
            if before is None:
                begun = _Index(point, "", index.age, index.until)
                await self._storage.put(_index_key(key), begun.data())
            await self._send(name, state)
            await self._storage.put(_index_key(key), index.data())
            if before is not None and before.name:
                await self._storage.delete(before.name)
        except StorageError as error:
            log.warning("snapshot.not_stored", epoch=point.epoch, error=str(error))
            return False
        return True

    async def read(self, key: str) -> tuple[Point, KeptState] | None:
        """Returns the state that is kept; None when there is none."""
        index = await self._index(key)
        if index is None or not index.name:
            return None
        try:
            with tempfile.TemporaryFile(prefix="sana-kept-") as spool:
                await self._storage.fetch(index.name, spool.fileno())
                state = await asyncio.to_thread(_state_in, spool.fileno())
        except (StorageError, OSError):
            return None
        if state is None or (state.run, state.windows) != (index.point.run, index.point.windows):
            return None
        return index.point, state

    async def age(self, key: str) -> Age | None:
        """Returns how old the state is that is kept, without reading it; None: there is none."""
        index = await self._index(key)
        return index.age if index is not None and index.name else None

    async def renew(self, key: str, epoch: int) -> bool:
        """What is kept of a session up to an epoch is needed still; False when nothing is."""
        index = await self._index(key)
        if index is None or not index.name or index.point.epoch > epoch:
            return False
        until = self._clock() + self._kept_for_s
        renewed = _Index(index.point, index.name, index.age, until)
        try:
            await self._storage.put(_index_key(key), renewed.data())
        except StorageError as error:
            log.warning("snapshot.not_renewed", error=str(error))
            return False
        return True

    async def drop(self, key: str, epoch: int) -> None:
        """Removes what is kept of a session, unless a later lease has kept it."""
        index = await self._index(key)
        if index is not None and index.point.epoch <= epoch:
            await self._remove(key)

    async def sweep(self) -> None:
        """Removes what nobody has said to be needed for long, of as many sessions as one sweep
        looks at; the next one goes on from there.
        """
        try:
            keys = await self._storage.names(FOLDER, self._swept, SWEPT)
            for key in keys:
                if await self._is_over(key):
                    await self._remove(key)
        except StorageError as error:
            log.warning("snapshot.not_swept", error=str(error))
            return
        self._swept = keys[-1] if len(keys) == SWEPT else ""

    async def _send(self, name: str, state: KeptState) -> None:
        """Writes an object; what has become of it is removed where it cannot be whole."""
        await self._storage.create(name, state.size)
        at, began = 0, self._way.timer()
        try:
            for piece in await asyncio.to_thread(pieces, state):
                for begin in range(0, len(piece), _PIECE):
                    part = bytes(piece[begin : begin + _PIECE])
                    await self._storage.append(name, at, part)
                    at += len(part)
                    self._way.went(began, at, state.size)
        except StorageError:
            with contextlib.suppress(StorageError):
                await self._storage.delete(name)
            raise

    async def _is_over(self, key: str) -> bool:
        try:
            index = _Index.parse(key, await self._storage.get(_index_key(key)))
        except ValueError:
            return True
        except StorageError:
            # Gone, or out of reach for now: only what is known not to be there has no end.
            return not await self._storage.exists(_index_key(key))
        return index.until < self._clock()

    async def _remove(self, key: str) -> None:
        try:
            await self._storage.delete(f"{FOLDER}/{key}")
        except StorageError as error:
            log.warning("snapshot.not_dropped", error=str(error))

    async def _index(self, key: str) -> _Index | None:
        try:
            return _Index.parse(key, await self._storage.get(_index_key(key)))
        except (StorageError, ValueError):
            return None


def _state_in(spool: int) -> KeptState | None:
    data = bytearray(os.fstat(spool).st_size)
    return parse(data) if files.read_all(spool, memoryview(data), 0) else None


def _index_key(key: str) -> str:
    return f"{FOLDER}/{key}/index"
