"""Kept states in the storage, where every host can read them.

An object of a storage never changes, and nobody can list them: a small index tells which
object holds the newest state of a session, and under which epoch it was kept.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import tempfile

import structlog

from model_actor.snapshots.kept import KeptState, Point, key_of, parse, pieces
from scheduler.process.storage import Storage, StorageError

log = structlog.get_logger(__name__)

FOLDER = "kept"
"""First segment of all keys."""
_PIECE = 1 << 20


class StorageTier:
    """The kept states in a storage. What fails there is told by the result, and logged."""

    def __init__(self, storage: Storage) -> None:
        """Keeps states in `storage`."""
        self._storage = storage

    async def write(self, session_id: str, epoch: int, state: KeptState) -> bool:
        """Writes a state in place of the one before; False when it could not, or must not."""
        key = key_of(session_id)
        before = await self._index(key)
        if before is not None and before[0].epoch > epoch:
            return False
        point = Point(key, epoch, state.run, state.windows)
        name = f"{FOLDER}/{key}/{epoch}-{state.run}-{state.windows}-{secrets.token_hex(8)}"
        index = {"epoch": epoch, "run": state.run, "windows": state.windows, "object": name}
        try:
            await self._storage.create(name, state.size)
            at = 0
            for piece in await asyncio.to_thread(pieces, state):
                for begin in range(0, len(piece), _PIECE):
                    part = piece[begin : begin + _PIECE]
                    await self._storage.append(name, at, part)
                    at += len(part)
            await self._storage.put(_index_key(key), json.dumps(index).encode())
            if before is not None:
                await self._storage.delete(before[1])
        except StorageError as error:
            log.warning("snapshot.not_stored", epoch=point.epoch, error=str(error))
            return False
        return True

    async def read(self, session_id: str) -> tuple[Point, KeptState] | None:
        """Returns the state that is kept; None when there is none."""
        index = await self._index(key_of(session_id))
        if index is None:
            return None
        point, name = index
        try:
            with tempfile.TemporaryFile(prefix="sana-kept-") as spool:
                await self._storage.fetch(name, spool.fileno())
                state = await asyncio.to_thread(_state_in, spool.fileno())
        except (StorageError, OSError):
            return None
        if state is None or (state.run, state.windows) != (point.run, point.windows):
            return None
        return point, state

    async def drop(self, session_id: str, epoch: int) -> None:
        """Removes what is kept of a session, unless a later lease has kept it."""
        key = key_of(session_id)
        index = await self._index(key)
        if index is not None and index[0].epoch <= epoch:
            try:
                await self._storage.delete(f"{FOLDER}/{key}")
            except StorageError as error:
                log.warning("snapshot.not_dropped", error=str(error))

    async def _index(self, key: str) -> tuple[Point, str] | None:
        try:
            told = json.loads(await self._storage.get(_index_key(key)))
            epoch, run, windows, name = (
                told[part] for part in ("epoch", "run", "windows", "object")
            )
        except (StorageError, ValueError, KeyError, TypeError):
            return None
        if not str(name).startswith(f"{FOLDER}/{key}/"):
            return None
        return Point(key, int(epoch), int(run), int(windows)), str(name)


def _state_in(spool: int) -> KeptState | None:
    return parse(os.pread(spool, os.fstat(spool).st_size, 0))


def _index_key(key: str) -> str:
    return f"{FOLDER}/{key}/index"


async def copy_upload(storage: Storage, source: str, target: str) -> None:
    """Copies an object of a storage, for a session that is to have an upload of its own.

    Raises:
        StorageError: It is not there, or cannot be written.
    """
    if await storage.exists(target):
        return
    with tempfile.TemporaryFile(prefix="sana-copy-") as spool:
        size = await storage.fetch(source, spool.fileno())
        await storage.create(target, size)
        for at in range(0, size, _PIECE):
            part = await asyncio.to_thread(os.pread, spool.fileno(), _PIECE, at)
            await storage.append(target, at, part)
