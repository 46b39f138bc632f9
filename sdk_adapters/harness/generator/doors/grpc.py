"""Media over gRPC: one call both ways, over a connection that the process's sessions share."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

import grpc

from sana_gateway import CameraFrame, Codec
from sana_gateway.errors import from_rpc_error
from sana_gateway.v1 import media_pb2
from sdk_adapters.harness.generator.doors import Seat

MEDIA: Final = "/sana_gateway.v1.SessionService/Media"
CONNECT_S: Final = 30.0
"""How long the service may take to set up a call."""

_CODECS: Final = {"h264": Codec.Value("CODEC_H264"), "vp8": Codec.Value("CODEC_VP8")}


class GrpcDoor:
    """Implements `Door`."""

    async def prepare(self) -> None:
        """Does nothing: they share nothing of their own."""

    async def connect(self, seat: Seat) -> GrpcLine:
        """Connects; see `Door.connect`."""
        line = GrpcLine(seat)
        try:
            async with asyncio.timeout(CONNECT_S):
                await line.begin()
        except BaseException:
            await line.close()
            raise
        return line

    async def close(self) -> None:
        """Does nothing: the connections to the gateways are others'."""


class GrpcLine:
    """A call of Media; implements `Line`."""

    def __init__(self, seat: Seat) -> None:
        """Opens the call. Responses stay bytes until they are read, which tells their size."""
        self._seat = seat
        # Typed as nothing: the stubs know neither calls without an iterator nor bytes.
        media: Any = seat.client.channel.stream_stream(
            MEDIA,
            request_serializer=media_pb2.MediaRequest.SerializeToString,
            response_deserializer=None,
        )
        self._call: Any = media(metadata=seat.client.metadata())
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Says what is wanted, and waits until the service has set it up."""
        seat = self._seat
        codec = _CODECS[seat.codec]
        start = media_pb2.MediaStart(
            session_id=seat.session.session_id,
            watch=True,
            watch_codec=codec,
            publish=seat.camera is not None,
            publish_codec=codec if seat.camera is not None else media_pb2.CODEC_UNSPECIFIED,
        )
        try:
            await self._call.write(media_pb2.MediaRequest(start=start))
            first = await self._call.read()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            first = grpc.aio.EOF  # type: ignore[attr-defined]
        if first is grpc.aio.EOF:  # type: ignore[attr-defined]
            await self._raise()
        seat.watching.connected()
        self._tasks.append(asyncio.create_task(self._read()))
        if seat.camera is not None:
            self._tasks.append(asyncio.create_task(self._publish()))

    async def lost(self) -> None:
        """Waits until the call is over; see `Line.lost`."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await task

    async def close(self) -> None:
        """Ends the call; see `Line.close`."""
        self._call.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _raise(self) -> None:
        """Raises what the call ended with."""
        code, details = await self._call.code(), await self._call.details()
        raise from_rpc_error(
            grpc.aio.AioRpcError(
                code,
                await self._call.initial_metadata(),
                await self._call.trailing_metadata(),
                details=details,
                debug_error_string=None,
            )
        )

    async def _read(self) -> None:
        """Takes what comes. Everything in the loop is paid for with every frame."""
        seat = self._seat
        clock, parse, note = seat.clock, media_pb2.MediaResponse.FromString, seat.watching.arrivals
        arrived, pictures = note.append, seat.pictures
        live = seat.camera is not None or seat.shared_clock
        read, end = self._call.read, grpc.aio.EOF  # type: ignore[attr-defined]
        with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            while (data := await read()) is not end:
                at = clock()
                response = parse(data)
                if not response.HasField("video"):
                    self._told(response, at)
                    continue
                frame = response.video
                if pictures is not None:
                    told = frame.run, frame.frame
                    pictures.frame(frame.data, at, told, keyframe=frame.keyframe)
                if frame.held:
                    continue
                captured_at = frame.source_us / 1e6 if live else 0.0
                due_s = frame.timestamp_us / 1e6
                arrived((at, frame.run, frame.frame, due_s, len(data), captured_at))

    def _told(self, response: media_pb2.MediaResponse, at: float) -> None:
        seat = self._seat
        if response.HasField("stats"):
            stats = response.stats
            seat.watching.chunk(stats.run, stats.chunk, stats.frame, stats.underruns, at)
        elif response.HasField("keyframe") and seat.camera is not None:
            seat.camera.ask_keyframe()

    async def _publish(self) -> None:
        camera = self._seat.camera
        if camera is None:
            return
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            async for shot in camera.shots():
                frame = CameraFrame(
                    data=shot.data,
                    keyframe=shot.keyframe,
                    timestamp_us=round(shot.captured_at * 1e6),
                )
                await self._call.write(media_pb2.MediaRequest(camera=frame))
