"""Uploads of sessions into the storage.

The record of an upload lives in this gateway; its bytes lie in the storage under
`<session_id>/<upload_id>`, where an object exists only once it is complete. A write
that the client gives up in the middle is finished all the same, so that record and
storage never disagree about how far an upload has come.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import structlog

from sana_gateway.v1 import command_pb2
from scheduler.core.errors import (
    BadArgumentError,
    BadUploadError,
    LimitError,
    SanaGatewayError,
    UnknownUploadError,
)

UPLOADS_LIMIT: Final = 64
"""Uploads of one session."""
NAME_LENGTH: Final = 255
"""Characters of a name or MIME type that are kept; both are informative only."""

_LOG: Final = structlog.get_logger("gateway.uploads")


class ObjectStore(Protocol):
    """What is needed of `scheduler.process.storage.Storage`."""

    async def create(self, key: str, size: int) -> None:
        """Begins an object."""

    async def append(self, key: str, offset: int, data: bytes) -> None:
        """Adds bytes to it."""

    async def link(self, key: str, to: str) -> None:
        """Makes an object appear under another key too."""

    async def delete(self, prefix: str) -> None:
        """Removes every object below a prefix."""


@dataclass(eq=False, slots=True)
class Upload:
    """One upload; see `gateway.ports.UploadRecord`."""

    file: command_pb2.FileRef
    received: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while bytes are written: pieces land one after another."""

    @property
    def complete(self) -> bool:
        """Whether all bytes are there."""
        return self.received == self.file.size


class StoredUploads:
    """Implements `gateway.ports.Uploads` over a storage."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        max_upload_bytes: int,
        upload_session_bytes: int,
        on_complete: Callable[[str], None] = lambda _: None,
        on_reserve: Callable[[str, str, int], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """Stores the storage and its limits.

        Args:
            store: Where the bytes go.
            max_upload_bytes: Size of one upload.
            upload_session_bytes: Announced sizes of all uploads of one session.
            on_complete: Called with a session whenever an upload of it is complete.
            on_reserve: Called with a session, an upload to be and its size; raises LimitError where
                a quota is used up. What it has once allowed stays counted until the session ends.
        """
        self._store = store
        self._on_complete = on_complete
        self._on_reserve = on_reserve
        self._max_upload_bytes = max_upload_bytes
        self._upload_session_bytes = upload_session_bytes
        self._sessions: dict[str, dict[str, Upload]] = {}
        self._uploaded = Counter[str]()
        self._tasks: set[asyncio.Task[None]] = set()

    def bound(self, *, max_upload_bytes: int, upload_session_bytes: int) -> None:
        """Changes the limits for uploads to come."""
        self._max_upload_bytes = max_upload_bytes
        self._upload_session_bytes = upload_session_bytes

    async def reserve(self, session_id: str, name: str, mime_type: str, size: int) -> Upload:
        """Makes room for an upload; see the port."""
        if not name:
            raise BadArgumentError("an upload needs a name")
        if size < 1:
            raise BadArgumentError("the size of an upload is at least 1")
        uploads = self._sessions.setdefault(session_id, {})
        self._check_limits(uploads, size)
        upload_id = secrets.token_hex(16)
        upload = uploads[upload_id] = Upload(
            command_pb2.FileRef(
                upload_id=upload_id,
                name=name[:NAME_LENGTH],
                mime_type=mime_type[:NAME_LENGTH],
                size=size,
            )
        )
        key = _key(session_id, upload_id)
        try:
            if self._on_reserve is not None:
                await self._on_reserve(session_id, upload_id, size)
            await self._store.create(key, size)
        except BaseException:
            uploads.pop(upload_id, None)
            raise
        if self._sessions.get(session_id) is not uploads:
            self._own(self._delete(key))
            raise UnknownUploadError("the session has ended")
        return upload

    def find(self, session_id: str, upload_id: str) -> Upload:
        """Returns an upload; see the port."""
        try:
            return self._sessions[session_id][upload_id]
        except KeyError:
            raise UnknownUploadError("no such upload in this session") from None

    async def write(self, session_id: str, upload_id: str, offset: int, data: bytes) -> Upload:
        """Appends bytes; see the port."""
        upload = self.find(session_id, upload_id)
        await asyncio.shield(self._own(self._write(session_id, upload, offset, data)))
        return upload

    async def copy(
        self, session_id: str, files: Sequence[command_pb2.FileRef], copies: Sequence[str]
    ) -> None:
        """Gives complete uploads of a session to others too, which keep them when it ends.

        Args:
            session_id: Whose uploads. They need not have come through this gateway.
            files: Which.
            copies: The other sessions.

        Raises:
            SanaGatewayError: The storage failed; what was given is taken back.
        """
        for copy in copies:
            own = self._sessions.setdefault(copy, {})
            own.update({file.upload_id: Upload(file, file.size) for file in files})
        try:
            for copy in copies:
                for file in files:
                    upload_id = file.upload_id
                    await self._store.link(_key(session_id, upload_id), _key(copy, upload_id))
        except BaseException:
            for copy in copies:
                self.forget(copy)
            raise

    def forget(self, session_id: str) -> None:
        """Drops what a session uploaded, through whichever gateway; the bytes go in the
        background.
        """
        self._sessions.pop(session_id, None)
        del self._uploaded[session_id]
        self._own(self._delete(session_id))

    def uploaded(self, session_id: str) -> int:
        """Returns the bytes that were uploaded to a session through this gateway."""
        return self._uploaded[session_id]

    async def close(self) -> None:
        """Waits for what is being written or removed."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _check_limits(self, uploads: dict[str, Upload], size: int) -> None:
        if size > self._max_upload_bytes:
            raise LimitError(f"an upload has at most {self._max_upload_bytes} bytes")
        if size + sum(each.file.size for each in uploads.values()) > self._upload_session_bytes:
            raise LimitError(f"a session uploads at most {self._upload_session_bytes} bytes")
        if len(uploads) >= UPLOADS_LIMIT:
            raise LimitError(f"a session makes at most {UPLOADS_LIMIT} uploads")

    async def _write(self, session_id: str, upload: Upload, offset: int, data: bytes) -> None:
        async with upload.lock:
            if offset != upload.received:
                raise BadUploadError(f"the upload goes on at {upload.received}, not at {offset}")
            if offset + len(data) > upload.file.size:
                raise BadUploadError(f"the upload was announced with {upload.file.size} bytes")
            if data:
                await self._store.append(_key(session_id, upload.file.upload_id), offset, data)
                upload.received += len(data)
                if session_id in self._sessions:
                    self._uploaded[session_id] += len(data)
                if upload.complete:
                    self._on_complete(session_id)

    async def _delete(self, prefix: str) -> None:
        try:
            await self._store.delete(prefix)
        except SanaGatewayError:
            # Nobody waits for this; the operator finds the bytes under the session's id.
            _LOG.exception("uploads could not be removed", key=prefix)

    def _own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._settled)
        return task

    def _settled(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # its caller, when still there, got it through the shield


def _key(session_id: str, upload_id: str) -> str:
    return f"{session_id}/{upload_id}"
