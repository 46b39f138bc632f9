"""Encoded video over gRPC: watching main_video and publishing camera."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self

import grpc

from sana_gateway.errors import from_rpc_error
from sana_gateway.tracing import Metadata
from sana_gateway.v1 import media_pb2, session_pb2_grpc

CodecName = Literal["h264", "vp8"]

CODECS: dict[str | None, media_pb2.Codec.ValueType] = {
    None: media_pb2.CODEC_UNSPECIFIED,
    "h264": media_pb2.CODEC_H264,
    "vp8": media_pb2.CODEC_VP8,
}
"""Codecs by the names used here; None lets the service choose."""


class Watch:
    """The frames of main_video, encoded, each when it is due: an asynchronous iterator.

    Ends when the session does. A reader that falls behind loses frames up to the next
    keyframe, never single ones. Leave it with `aclose`, or use `async with`.

    After the first frame of every chunk `stats` changes, while the next frame is waited for.
    """

    def __init__(
        self,
        stub: session_pb2_grpc.SessionServiceAsyncStub,
        metadata: Metadata,
        session_id: str,
        codec: CodecName | None,
        on_stats: Callable[[media_pb2.ViewerStats], None] | None = None,
    ) -> None:
        self.stats: media_pb2.ViewerStats | None = None
        """What the picture has been through, as of the newest chunk; None until one began."""
        self._on_stats = on_stats
        self.codec: media_pb2.Codec.ValueType = CODECS[codec]
        """Codec of the frames; once the first has come, what the service chose."""
        self._start = media_pb2.MediaStart(
            session_id=session_id, watch=True, watch_codec=CODECS[codec]
        )
        self._call: Any = stub.Media(metadata=metadata)  # type: ignore[call-arg]
        self._started = False
        self._closed = False

    async def request_keyframe(self) -> None:
        """Asks for a keyframe; at most one each half second takes effect."""
        await self._open()
        request = media_pb2.MediaRequest(keyframe=media_pb2.KeyframeRequest())
        # A call that has failed says so to its reader.
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.write(request)

    async def aclose(self) -> None:
        """Ends the call."""
        self._closed = True
        self._call.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> media_pb2.VideoFrame:
        """Returns the next frame.

        Raises:
            CallError: The call failed.
        """
        await self._open()
        while True:
            try:
                response = await self._call.read()
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from error
            except asyncio.CancelledError:
                if self._closed:
                    raise StopAsyncIteration from None
                raise
            if response is grpc.aio.EOF:  # type: ignore[attr-defined]
                raise StopAsyncIteration
            match response.WhichOneof("response"):
                case "video":
                    frame: media_pb2.VideoFrame = response.video
                    return frame
                case "started":
                    self.codec = response.started.watch_codec
                case "stats":
                    self.stats = response.stats
                    if self._on_stats is not None:
                        self._on_stats(response.stats)

    async def _open(self) -> None:
        if not self._started:
            self._started = True
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await self._call.write(media_pb2.MediaRequest(start=self._start))


async def publish(
    stub: session_pb2_grpc.SessionServiceAsyncStub,
    metadata: Metadata,
    session_id: str,
    frames: AsyncIterable[media_pb2.CameraFrame],
    codec: CodecName,
    on_keyframe: Callable[[], None] | None,
) -> None:
    """Publishes encoded camera frames until they end; see `Session.publish`."""
    start = media_pb2.MediaStart(session_id=session_id, publish=True, publish_codec=CODECS[codec])
    call: Any = stub.Media(metadata=metadata)  # type: ignore[call-arg]

    async def send() -> None:
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(media_pb2.MediaRequest(start=start))
            async for frame in frames:
                await call.write(media_pb2.MediaRequest(camera=frame))
            await call.done_writing()

    async def receive() -> None:
        async for response in call:
            if response.WhichOneof("response") == "keyframe" and on_keyframe is not None:
                on_keyframe()

    sender, receiver = asyncio.create_task(send()), asyncio.create_task(receive())
    try:
        await asyncio.wait((sender, receiver), return_when=asyncio.FIRST_COMPLETED)
        if sender.done():
            await sender
        await receiver
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    finally:
        for task in (sender, receiver):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
        call.cancel()
