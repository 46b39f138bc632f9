"""A session to be recorded, played by the test, and a storage that can be watched and broken."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway.ports import EncodedFrame, Viewer
from gateway.recording import recorder as module
from gateway.recording.index import HEADER, Index
from gateway.recording.library import SignedFile
from gateway.recording.recorder import Recorder
from gateway.recording.recordings import Bounds, Recordings
from gateway.recording.shelf import Shelf
from sana_gateway.v1 import media_pb2, session_pb2
from scheduler.core.ids import Holder, Principal
from scheduler.process.storage import FilesystemStorage, StorageError
from tests.fakes.changes import Changes
from tests.unit.gateway.recording.reels import HEIGHT, PERIOD_US, WIDTH

ME = Principal("me", frozenset({"session"}), (Holder("key 1"),))
SESSION = "s1"


class WatchedStorage(FilesystemStorage):
    """Tells of what is written; fails, or waits, when it is told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.changes = Changes()
        self.broken = False
        self.written: list[str] = []
        self.deleted: list[str] = []
        self.gate: Any = None
        """An event that writing segments waits for."""
        self.at_gate = 0
        """How many do."""

    def has_more_than(self, written: int) -> bool:
        """Tells whether more than so many files have been written."""
        return len(self.written) > written

    async def create(self, key: str, size: int) -> None:
        if self.gate is not None:
            self.at_gate += 1
            self.changes.happened()
            await self.gate.wait()
            self.at_gate -= 1
        if self.broken:
            raise StorageError("the storage failed: No space left on device")
        await super().create(key, size)

    async def append(self, key: str, offset: int, data: bytes) -> None:
        await super().append(key, offset, data)
        self._wrote(key)

    async def put(self, key: str, data: bytes) -> None:
        if self.broken:
            raise StorageError("the storage failed: No space left on device")
        await super().put(key, data)
        self._wrote(key)

    async def delete(self, prefix: str) -> None:
        await super().delete(prefix)
        self.deleted.append(prefix)
        self.changes.happened()

    def _wrote(self, key: str) -> None:
        self.written.append(key.rpartition("/")[2])
        self.changes.happened()


class FakeOutput:
    """An output of a session; `give` plays the session."""

    def __init__(self) -> None:
        self.viewers: list[Viewer] = []
        self.refreshes = 0
        self.changes = Changes()

    def record(self, recorder: Viewer) -> None:
        self.viewers.append(recorder)
        self.changes.happened()

    def refresh(self) -> None:
        self.refreshes += 1

    def leave(self, viewer: Viewer) -> None:
        if viewer in self.viewers:
            self.viewers.remove(viewer)
        self.changes.happened()

    def give(self, *frames: EncodedFrame) -> None:
        for frame in frames:
            for viewer in list(self.viewers):
                viewer.frame(frame)


class FakeSession:
    """A session that is at an actor."""

    def __init__(self, session_id: str = SESSION, principal: Principal = ME) -> None:
        self.session_id = session_id
        self.principal = principal
        self.recorded = FakeOutput()

    def describe(self) -> session_pb2.Session:
        capabilities = session_pb2.Capabilities(
            width=WIDTH, height=HEIGHT, frame_rate=1e6 / PERIOD_US
        )
        return session_pb2.Session(model="painter", capabilities=capabilities)

    def output(self, codec: media_pb2.Codec.ValueType) -> FakeOutput:
        assert codec == media_pb2.CODEC_H264
        return self.recorded


class Studio:
    """Gateways that share a storage; time is told by the test."""

    def __init__(self, root: Path) -> None:
        self.storage = WatchedStorage(root)
        self.shelf = Shelf(self.storage)
        self.threads = ThreadPoolExecutor(1)
        self.now = 1_000_000.0
        self.most_bytes = 1 << 30

    def recorder(self, session: FakeSession, gateway_id: str = "g1") -> Recorder:
        return Recorder(
            session,
            self.shelf,
            self.threads,
            gateway_id=gateway_id,
            most_bytes=self.most_bytes,
            now=lambda: self.now,
        )

    def recordings(self, gateway_id: str = "g1") -> Recordings:
        bounds = Bounds(self.most_bytes, self.most_bytes, 60.0)
        return Recordings(self.storage, gateway_id, bounds, allow)

    async def index(self) -> Index:
        index = await self.shelf.index(SESSION)
        assert index is not None
        return index

    async def files(self) -> list[bytes]:
        """Returns all that a player would fetch."""
        index = await self.index()
        names = [HEADER, *(each.name for each in index.segments)]
        return [await read(self.shelf, SESSION, name) for name in names]

    async def close(self) -> None:
        self.threads.shutdown()
        await self.storage.close()


async def read(shelf: Shelf, session_id: str, name: str) -> bytes:
    """Returns a file."""
    async with shelf.opened(session_id, name) as file:
        return b"".join(file.pieces())


def allow(principal: Principal, session_id: str, owner: Principal, model: str) -> None:
    """Everybody of a tenant may use all of it."""


def plain(file: SignedFile) -> str:
    """Returns the name of a file, as its address."""
    return file.name


@pytest.fixture
async def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Studio]:
    """A studio whose recorders do not wait long before they look."""
    monkeypatch.setattr(module, "LOOK_S", 0.02)
    monkeypatch.setattr(module, "CUT_EVERY_S", 0.02)
    made = Studio(tmp_path)
    yield made
    await made.close()
