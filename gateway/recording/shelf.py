"""Where recordings lie in the storage: `recordings/<session>/<file>`."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final

from gateway.recording.errors import ClipBusyError
from gateway.recording.index import Beat, Index
from scheduler.process.storage import Storage, StorageError

ROOT: Final = "recordings"
"""First part of all keys; no session is called so."""
INDEX: Final = "index.json"
BEAT: Final = "beat.json"
MOST_READS: Final = 32
"""Files that are open at once. Each is in memory meanwhile, outside the heap: 1.2 MB of what is
usual, 8 MiB at most."""
WAIT_S: Final = 5.0
"""How long who wants one more waits for one to be closed."""
PIECE: Final = 64 * 1024
"""Bytes of an open file that are handed out at a time."""
READ_AT_ONCE: Final = 32 * 1024
"""Size of an index from which on it is not read on the event loop: it takes over half a
millisecond."""
PAGE: Final = 256
"""Names that are asked for at once."""


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file of a recording that is being read."""

    size: int
    """Bytes."""
    descriptor: int
    """Where it is in memory: to read it never blocks."""

    def pieces(self) -> Iterator[bytes]:
        """Yields what is in it, `PIECE` bytes at a time."""
        for offset in range(0, self.size, PIECE):
            yield os.pread(self.descriptor, PIECE, offset)


class Shelf:
    """Recordings in a storage. Every method raises `StorageError` where it fails."""

    def __init__(self, storage: Storage) -> None:
        """Takes a storage that all gateways share; it stays the caller's."""
        self._storage = storage
        self._places = asyncio.Semaphore(MOST_READS)

    async def index(self, session_id: str) -> Index | None:
        """Returns what is known of a recording; None: there is none that can be read."""
        # Who stops recording says so after the last segment: told of the end, one sees it all.
        beat = await self.beat(session_id)
        data = await self._small(_key(session_id, INDEX))
        if data is None:
            return None
        if len(data) < READ_AT_ONCE:
            index = Index.decoded(data)
        else:
            index = await asyncio.to_thread(Index.decoded, data)
        return None if index is None else replace(index, beat=beat)

    async def beat(self, session_id: str) -> Beat:
        """Returns who records a session, as it said last."""
        data = await self._small(_key(session_id, BEAT))
        return (Beat.decoded(data) if data is not None else None) or Beat()

    async def put_beat(self, session_id: str, beat: Beat) -> None:
        """Says who records a session."""
        await self._storage.put(_key(session_id, BEAT), beat.encoded())

    async def put_index(self, session_id: str, encoded: bytes) -> None:
        """Says what is known of a recording."""
        await self._storage.put(_key(session_id, INDEX), encoded)

    async def put(self, session_id: str, name: str, data: bytes) -> None:
        """Stores a file that was not there; of one that does not fit nothing is left."""
        key = _key(session_id, name)
        await self._storage.create(key, len(data))
        try:
            await self._storage.append(key, 0, data)
        except BaseException:
            with suppress(StorageError):
                await self._storage.delete(key)
            raise

    @asynccontextmanager
    async def opened(self, session_id: str, name: str) -> AsyncIterator[OpenFile]:
        """Opens a file.

        Raises:
            ClipBusyError: `MOST_READS` are open, and stay so.
        """
        try:
            async with asyncio.timeout(WAIT_S):
                await self._places.acquire()
        except TimeoutError:
            raise ClipBusyError("too many clips are being read") from None
        try:
            async with self._copied(session_id, name) as file:
                yield file
        finally:
            self._places.release()

    @asynccontextmanager
    async def _copied(self, session_id: str, name: str) -> AsyncIterator[OpenFile]:
        into = os.memfd_create(f"recording-{secrets.token_hex(4)}", os.MFD_CLOEXEC)
        try:
            yield OpenFile(await self._storage.fetch(_key(session_id, name), into), into)
        finally:
            os.close(into)

    async def remove(self, session_id: str, names: Iterable[str]) -> None:
        """Removes files; those that are not there are no error."""
        for name in names:
            await self._storage.delete(_key(session_id, name))

    async def forget(self, session_id: str) -> None:
        """Removes a recording."""
        await self._storage.delete(f"{ROOT}/{session_id}")

    async def names(self, session_id: str, after: str) -> AsyncIterator[str]:
        """Yields the files of a recording whose names come after one, in order."""
        async for name in self._listed(f"{ROOT}/{session_id}", after):
            yield name

    async def sessions(self) -> AsyncIterator[str]:
        """Yields the sessions of which there are recordings, in order."""
        async for session_id in self._listed(ROOT, ""):
            yield session_id

    async def _small(self, key: str) -> bytes | None:
        """Returns a small file; None: there is none."""
        if not await self._storage.exists(key):
            return None
        try:
            return await self._storage.get(key)
        except StorageError:
            if await self._storage.exists(key):
                raise
            return None  # it was removed between the two

    async def _listed(self, prefix: str, after: str) -> AsyncIterator[str]:
        while page := await self._storage.names(prefix, after, PAGE):
            for name in page:
                yield name
            after = page[-1]


def _key(session_id: str, name: str) -> str:
    return f"{ROOT}/{session_id}/{name}"
