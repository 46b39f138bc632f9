"""Uploads: announcements, pieces and offsets at every door, names, and keys of the storage."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, Final, cast

from aiohttp import web

from gateway import http
from gateway.grpc_api.errors import StreamError
from gateway.grpc_api.interceptors import _CALLER
from gateway.grpc_api.session_service import SessionService
from gateway.uploads import NAME_LENGTH, UPLOADS_LIMIT, StoredUploads
from sana_gateway.v1 import session_pb2
from scheduler.core.errors import RequestError, UnknownSessionError, UnknownUploadError
from scheduler.core.ids import Principal
from scheduler.process.storage import StorageError, segments_of
from sdk_adapters.reactor.uploads import Capabilities, _announced
from tests.fakes.services import fake_services
from tests.fuzz.reader import Reader, chunk

LARGEST: Final = 4096
"""Bytes of the largest upload, ..."""
MOST: Final = 3 * LARGEST
"""... and of all uploads of a session."""
SESSIONS: Final = ("s1", "s2", "..", "")
_LOOP: Final = asyncio.new_event_loop()
_NOBODY: Final = Principal("tenant", frozenset({"session"}))


class Memory:
    """A storage in memory that takes no nonsense."""

    def __init__(self) -> None:
        self.whole: dict[str, bytes] = {}
        self._growing: dict[str, tuple[int, bytes]] = {}

    async def create(self, key: str, size: int) -> None:
        """Begins an object."""
        segments_of(key)
        assert size > 0
        assert key not in self._growing
        assert key not in self.whole
        self._growing[key] = (size, b"")

    async def append(self, key: str, offset: int, data: bytes) -> None:
        """Adds to it."""
        size, before = self._growing.pop(key)
        assert data
        assert offset == len(before)
        assert offset + len(data) <= size
        if offset + len(data) == size:
            self.whole[key] = before + data
        else:
            self._growing[key] = (size, before + data)

    async def link(self, key: str, to: str) -> None:
        """Gives it another name."""
        segments_of(to)
        if key not in self.whole:
            raise StorageError("there is no such object")
        self.whole.setdefault(to, self.whole[key])

    async def delete(self, prefix: str) -> None:
        """Removes what lies below."""
        segments_of(prefix)
        for objects in (self.whole, self._growing):
            for key in [each for each in objects if each.startswith(prefix + "/")]:
                del objects[key]  # type: ignore[attr-defined]

    @property
    def held(self) -> int:
        """Bytes of all that grows."""
        return sum(len(data) for _, data in self._growing.values())


class Door:
    """Uploads as the doors reach them, and what they should hold."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.uploads = StoredUploads(
            self.memory, max_upload_bytes=LARGEST, upload_session_bytes=MOST
        )
        self.ids: list[tuple[str, str]] = []
        self.sent: dict[tuple[str, str], bytes] = {}
        self.service = SessionService(fake_services(cast(Any, self), uploads=self.uploads))

    async def find(self, _: Principal, session_id: str) -> Any:
        """Stands for the hub."""
        if session_id not in SESSIONS[:2]:
            raise UnknownSessionError("no such session")
        return SimpleNamespace(session_id=session_id)

    async def reserve(self, reader: Reader) -> None:
        """Announces an upload as over HTTP."""
        body = await announced(reader)
        if body is None:
            return
        session_id = reader.choose(SESSIONS[:2])
        name, mime_type, size = body
        record = await self.uploads.reserve(session_id, name, mime_type, size)
        assert len(record.file.name) <= NAME_LENGTH
        record.file.SerializeToString()
        self.ids.append((session_id, record.file.upload_id))
        self.sent[self.ids[-1]] = b""

    async def write(self, reader: Reader) -> None:
        """Sends a piece to some offset of some upload."""
        slot = self._slot(reader)
        offset, data = reader.number(2) % (LARGEST + 2), reader.chunk()
        if reader.number() & 1 and slot in self.sent:
            offset = len(self.sent[slot])
        record = await self.uploads.write(*slot, offset, data)
        self.sent[slot] += data
        assert record.received == len(self.sent[slot])

    async def stream(self, reader: Reader) -> None:
        """Sends a call of Upload."""
        slot = self._slot(reader)
        start = session_pb2.UploadStart(
            session_id=slot[0],
            upload_id=slot[1] if reader.number() & 1 else "",
            name=reader.chunk().decode("utf-8", "replace"),
            size=reader.signed(2),
            offset=reader.signed(2),
        )
        requests = [session_pb2.UploadRequest(start=start)]
        requests += [session_pb2.UploadRequest(data=reader.chunk()) for _ in range(3)]
        if reader.number() & 1:
            requests.pop(0)
        calls = Calls()
        try:
            done = await self.service.Upload(calls.these(requests), cast(Any, calls))
        finally:
            # Whatever came through belongs to the upload that the call was told of.
            self._take_over(slot[0], calls.upload_id)
        assert done.upload.complete or done.upload.received == start.offset

    async def copy(self, reader: Reader) -> None:
        """Gives what is complete to another session."""
        slot = self._slot(reader)
        upload = self.uploads.find(*slot)
        with suppress(StorageError):
            await self.uploads.copy(slot[0], [upload.file], ["s3"])
            assert self.memory.whole[f"s3/{slot[1]}"] == self.sent[slot]

    async def forget(self, reader: Reader) -> None:
        """Ends a session."""
        session_id = reader.choose(SESSIONS[:2])
        self.uploads.forget(session_id)
        await self.uploads.close()
        for slot in [each for each in self.sent if each[0] == session_id]:
            del self.sent[slot]
        assert not [key for key in self.memory.whole if key.startswith(session_id + "/")]

    def check(self) -> None:
        """Asks whether everything is where it belongs, and nothing else is."""
        for (session_id, upload_id), data in self.sent.items():
            upload = self.uploads.find(session_id, upload_id)
            assert upload.received == len(data) <= upload.file.size <= LARGEST
            if upload.complete:
                assert self.memory.whole[f"{session_id}/{upload_id}"] == data
        for session_id in SESSIONS[:2]:
            own = self.uploads._sessions.get(session_id, {})
            assert len(own) <= UPLOADS_LIMIT
            assert sum(each.file.size for each in own.values()) <= MOST

    def _slot(self, reader: Reader) -> tuple[str, str]:
        choice = reader.number()
        if self.ids and choice & 3:
            return self.ids[choice % len(self.ids)]
        return reader.choose(SESSIONS), reader.chunk().decode("utf-8", "replace")

    def _take_over(self, session_id: str, upload_id: str) -> None:
        slot = (session_id, upload_id)
        if not upload_id:
            return
        if slot not in self.sent:
            self.ids.append(slot)
        with suppress(UnknownUploadError):
            upload = self.uploads.find(*slot)
            key = f"{session_id}/{upload_id}"
            growing = self.memory._growing.get(key, (0, b""))[1]
            self.sent[slot] = self.memory.whole.get(key, growing)
            assert upload.received == len(self.sent[slot])


class Calls:
    """The context and the requests of a call."""

    upload_id = ""

    async def send_initial_metadata(self, metadata: tuple[tuple[str, str], ...]) -> None:
        """Learns which upload it is."""
        self.upload_id = metadata[0][1]

    async def these(self, requests: list[session_pb2.UploadRequest]) -> AsyncIterator[Any]:
        """Yields the requests."""
        for each in requests:
            yield each


async def announced(reader: Reader) -> tuple[str, str, int] | None:
    """Returns what the body of an announcement says, as `http.json_object` reads it."""
    if reader.number() & 1:
        body: Any = {
            "name": reader.chunk().decode("utf-8", "replace"),
            "mime_type": reader.chunk().decode("utf-8", "replace"),
            "size": reader.number(2),
        }
    else:
        try:
            body = await http.json_object(cast(web.Request, Body(reader.chunk())))
        except RequestError:
            return None
    try:
        return _announced(body)
    except RequestError:
        return None


class Body:
    """A request with a body."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self) -> bytes:
        """Returns it."""
        return self._data


def keyed(reader: Reader) -> None:
    """Reads keys of the storage, and capabilities."""
    key = reader.chunk().decode("utf-8", "surrogateescape")
    with suppress(StorageError):
        segments = segments_of(key)
        assert "/".join(segments) == key
        assert not {"", ".", ".."} & set(segments)
        assert key.isascii()
    capabilities = Capabilities()
    with suppress(UnknownUploadError):
        capabilities.read(key, 1.0)
        raise AssertionError("nobody else can make a capability")
    own = capabilities.of("s1", "u1", 1.0)
    assert capabilities.read(own, 2.0) == ("s1", "u1")
    at, value = reader.number() % len(own), chr(33 + reader.number() % 94)
    with suppress(UnknownUploadError):
        # The last character has bits that say nothing.
        same = capabilities.read(own[:at] + value + own[at + 1 :], 2.0)
        assert same == ("s1", "u1")
        assert value == own[at] or at == len(own) - 1


ACTIONS: Final = (Door.reserve, Door.write, Door.stream, Door.copy, Door.forget)


def fuzz_one(data: bytes) -> None:
    """Does anything with uploads, in any order."""
    reader = Reader(data)
    if reader.number() & 1:
        keyed(reader)
        return
    door = Door()
    _CALLER.set(_NOBODY)
    for _ in range(64):
        if not reader:
            break
        try:
            _LOOP.run_until_complete(ACTIONS[reader.number() % len(ACTIONS)](door, reader))
        except (RequestError, StreamError):
            continue
    door.check()
    _LOOP.run_until_complete(door.uploads.close())


def seeds() -> list[bytes]:
    """Returns uploads in pieces, and what is nearly one."""
    announce = b"\0\1" + chunk(b"a.mp4") + chunk(b"video/mp4") + (9).to_bytes(2, "big") + b"\0"
    raw = json.dumps({"name": "a.mp4", "mime_type": "video/mp4", "size": 9}).encode()
    over_http = b"\0\0" + chunk(raw) + b"\0"
    first = b"\1\1" + (0).to_bytes(2, "big") + chunk(b"12345") + b"\1"
    last = b"\1\1" + (5).to_bytes(2, "big") + chunk(b"6789") + b"\1"
    again = b"\1\1" + (0).to_bytes(2, "big") + chunk(b"123456789012") + b"\0"
    call = b"\2\0\0\0" + b"\0" + chunk(b"b.mp4") + (6).to_bytes(2, "big") + bytes(2)
    pieces = chunk(b"ab") + chunk(b"cd") + chunk(b"ef") + b"\0"
    copy, forget = b"\3\1", b"\4\0"
    keys = [b"s1/u1", b"../x", b"a//b", b"a/.hidden", b"/etc/passwd", b"a/b\n", b"x" * 200]
    return [
        b"\0" + announce + first + last + copy + forget,
        b"\0" + over_http + first + again + last + copy,
        b"\0" + call + pieces + announce + first + last,
        b"\0" + (announce + first + last) * 4,
        *(b"\1" + chunk(key) + bytes([5, 40]) for key in keys),
    ]
