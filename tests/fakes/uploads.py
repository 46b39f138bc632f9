"""Uploads kept in memory, behind `gateway.ports.Uploads`."""

from __future__ import annotations

from dataclasses import dataclass, field

from sana_gateway.v1 import command_pb2
from scheduler.core.errors import BadArgumentError, BadUploadError, LimitError, UnknownUploadError


@dataclass(eq=False)
class FakeUpload:
    """An upload, kept in memory."""

    file: command_pb2.FileRef
    data: bytearray = field(default_factory=bytearray)

    @property
    def received(self) -> int:
        return len(self.data)

    @property
    def complete(self) -> bool:
        return self.received == self.file.size


class FakeUploads:
    """Uploads in memory, with the rules of the port."""

    def __init__(self, max_bytes: int = 64 * 1024 * 1024) -> None:
        self.max_bytes = max_bytes
        self.uploads: dict[tuple[str, str], FakeUpload] = {}
        self.forgotten: list[str] = []

    async def reserve(self, session_id: str, name: str, mime_type: str, size: int) -> FakeUpload:
        if not name or size < 1:
            raise BadArgumentError("an upload needs a name and a size")
        if size > self.max_bytes:
            raise LimitError("the upload is too large")
        upload_id = f"upload-{len(self.uploads) + 1}"
        file = command_pb2.FileRef(upload_id=upload_id, name=name, mime_type=mime_type, size=size)
        upload = self.uploads[session_id, upload_id] = FakeUpload(file)
        return upload

    def find(self, session_id: str, upload_id: str) -> FakeUpload:
        try:
            return self.uploads[session_id, upload_id]
        except KeyError:
            raise UnknownUploadError("no such upload") from None

    async def write(self, session_id: str, upload_id: str, offset: int, data: bytes) -> FakeUpload:
        upload = self.find(session_id, upload_id)
        if offset != upload.received or offset + len(data) > upload.file.size:
            raise BadUploadError("wrong offset or size")
        upload.data += data
        return upload

    def forget(self, session_id: str) -> None:
        self.forgotten.append(session_id)
