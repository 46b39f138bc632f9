"""Where recordings lie in the storage: `recordings/<session>/<file>`."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Final

from gateway.recording.index import Index
from scheduler.process.storage import Storage, StorageError

ROOT: Final = "recordings"
"""First part of all keys; no session is called so."""
INDEX: Final = "index.json"
MOST_READS: Final = 8
"""Segments that are read at once; each is in memory meanwhile."""
READ_AT_ONCE: Final = 32 * 1024
"""Size of an index from which on it is not read on the event loop: it takes over half a
millisecond."""
PAGE: Final = 256
"""Names that are asked for at once."""


class Shelf:
    """Recordings in a storage. Every method raises `StorageError` where it fails."""

    def __init__(self, storage: Storage) -> None:
        """Takes a storage that all gateways share; it stays the caller's."""
        self._storage = storage
        self._reads = asyncio.Semaphore(MOST_READS)

    async def index(self, session_id: str) -> Index | None:
        """Returns what is known of a recording; None: there is none that can be read."""
        key = _key(session_id, INDEX)
        if not await self._storage.exists(key):
            return None
        data = await self._storage.get(key)
        if len(data) < READ_AT_ONCE:
            return Index.decoded(data)
        return await asyncio.to_thread(Index.decoded, data)

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

    async def get(self, session_id: str, name: str) -> bytes:
        """Returns a file."""
        async with self._reads:
            into = os.memfd_create(f"recording-{secrets.token_hex(4)}", os.MFD_CLOEXEC)
            try:
                size = await self._storage.fetch(_key(session_id, name), into)
                return await asyncio.to_thread(os.pread, into, size, 0)
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

    async def _listed(self, prefix: str, after: str) -> AsyncIterator[str]:
        while page := await self._storage.names(prefix, after, PAGE):
            for name in page:
                yield name
            after = page[-1]


def _key(session_id: str, name: str) -> str:
    return f"{ROOT}/{session_id}/{name}"
