"""Uploads of clips, which go on where they broke off."""

from __future__ import annotations

import asyncio
import io
import mimetypes
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import grpc

from sana_gateway.errors import from_rpc_error
from sana_gateway.retry import RetryPolicy, calling
from sana_gateway.tracing import Metadata
from sana_gateway.v1 import command_pb2, session_pb2, session_pb2_grpc

PIECE = 256 * 1024
"""Bytes of one message; the service takes up to 1 MiB."""
UPLOAD_ID_KEY = "sana-gateway-upload-id"
"""Initial metadata of Upload: the id by which an interrupted upload goes on."""

Progress = Callable[[int, int], None]
"""Called with the bytes sent so far and the whole size."""


@dataclass(eq=False)
class Uploader:
    """One upload of one file."""

    stub: session_pb2_grpc.SessionServiceAsyncStub
    policy: RetryPolicy
    metadata: Callable[[], Metadata]
    start: session_pb2.UploadStart
    file: BinaryIO
    progress: Progress | None = None

    async def run(self) -> command_pb2.FileRef:
        """Uploads, and goes on after interruptions.

        Raises:
            CallError: The upload was refused, or the gateway stayed away too long.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.policy.window
        attempt, offset = 0, -1
        while True:
            try:
                return await self._once()
            except grpc.aio.AioRpcError as rpc_error:
                error = from_rpc_error(rpc_error)
                if self.start.offset > offset:
                    offset, attempt = self.start.offset, 0
                    deadline = loop.time() + self.policy.window
                attempt += 1
                pause = self.policy.wait(attempt, error.retry_after)
                if not error.passing or loop.time() + pause > deadline:
                    raise error from rpc_error
            await asyncio.sleep(pause)
            status = await self._status()
            if status is not None and status.complete:
                return status.file
            self.start.offset = status.received if status is not None else 0

    async def _once(self) -> command_pb2.FileRef:
        call: Any = self.stub.Upload(metadata=self.metadata())  # type: ignore[call-arg]
        try:
            await call.write(session_pb2.UploadRequest(start=self.start))
            for key, value in await call.initial_metadata() or ():
                if key == UPLOAD_ID_KEY:
                    self.start.upload_id = value
            await self._send(call)
            await call.done_writing()
        except asyncio.InvalidStateError:
            pass  # the call has failed already, and says why below
        response: session_pb2.UploadResponse = await call
        return response.upload.file

    async def _send(self, call: Any) -> None:  # noqa: ANN401 - the stubs know no call type
        sent = self.start.offset
        await asyncio.to_thread(self.file.seek, sent)
        while sent < self.start.size:
            piece = await asyncio.to_thread(self.file.read, min(PIECE, self.start.size - sent))
            if not piece:
                return
            await call.write(session_pb2.UploadRequest(data=piece))
            sent += len(piece)
            if self.progress is not None:
                self.progress(sent, self.start.size)

    async def _status(self) -> session_pb2.UploadStatus | None:
        """Asks how far the upload has come; None when it has not begun."""
        if not self.start.upload_id:
            return None
        request = session_pb2.GetUploadRequest(
            session_id=self.start.session_id, upload_id=self.start.upload_id
        )
        response = await calling(
            self.policy, lambda: self.stub.GetUpload(request, metadata=self.metadata())
        )
        return response.upload


async def opened(source: bytes | str | os.PathLike[str]) -> tuple[BinaryIO, int]:
    """Opens what to upload; returns it with its size in bytes."""
    if isinstance(source, bytes):
        return io.BytesIO(source), len(source)
    file = await asyncio.to_thread(Path(source).open, "rb")
    size = await asyncio.to_thread(lambda: os.fstat(file.fileno()).st_size)
    return file, size


def described(
    source: bytes | str | os.PathLike[str], name: str | None, mime_type: str | None
) -> tuple[str, str]:
    """Returns name and MIME type to give along; both are informative only."""
    chosen = name or ("clip" if isinstance(source, bytes) else Path(source).name)
    return chosen, mime_type or mimetypes.guess_type(chosen)[0] or "application/octet-stream"
