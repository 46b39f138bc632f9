"""A camera made of arrays: pictures in, video out. Needs the extra `video` (PyAV, numpy)."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from fractions import Fraction
from functools import partial
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt

from sana_gateway.media import CodecName
from sana_gateway.v1 import media_pb2

_TICKS: Final = 1_000_000
_NEVER: Final = 1_000_000
"""Frames between two keyframes that nobody asked for."""
_ENCODERS: Final[dict[CodecName, tuple[str, dict[str, str]]]] = {
    "h264": ("libx264", {"preset": "veryfast", "tune": "zerolatency", "profile": "baseline"}),
    "vp8": ("libvpx", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}),
}

Rgb = npt.NDArray[np.uint8]


class Camera:
    """Pictures to publish; the newest counts: one that was not sent yet makes room for the next.

    Give it to `Session.publish_camera` (gRPC) or `Session.peer` (WebRTC), to one of them once.
    """

    def __init__(self, *, bitrate: int = 2_500_000) -> None:
        """Prepares a camera without a picture.

        Args:
            bitrate: Bits per second over gRPC; over WebRTC the connection decides.
        """
        self.skipped = 0
        """Pictures that made room for newer ones."""
        self._bitrate = bitrate
        self._newest: tuple[Rgb, int] | None = None
        self._more = asyncio.Event()
        self._closed = False
        self._keyframe = False

    def push(self, rgb: Rgb, timestamp_us: int | None = None) -> None:
        """Shows a picture from now on. Any size, which may change; the service fits it.

        Args:
            rgb: (height, width, 3), uint8, sides even. Must not be changed afterwards.
            timestamp_us: When it was captured, on a clock of the caller's own that never falls;
                by default now.

        Raises:
            ValueError: It is no such array.
        """
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
            raise ValueError("a picture is an array of uint8 of shape (height, width, 3)")
        if rgb.shape[0] % 2 or rgb.shape[1] % 2:
            raise ValueError("height and width must be even")
        self.skipped += self._newest is not None
        taken = time.monotonic_ns() // 1000 if timestamp_us is None else timestamp_us
        self._newest = (rgb, taken)
        self._more.set()

    def close(self) -> None:
        """Ends the camera after its last picture."""
        self._closed = True
        self._more.set()

    def request_keyframe(self) -> None:
        """Encodes the next picture on its own, as the service asks."""
        self._keyframe = True

    async def pictures(self) -> AsyncIterator[tuple[Rgb, int]]:
        """Yields each picture, and when it was captured, as it comes."""
        while True:
            while self._newest is None:
                if self._closed:
                    return
                self._more.clear()
                await self._more.wait()
            newest, self._newest = self._newest, None
            yield newest

    async def encoded(self, codec: CodecName) -> AsyncIterator[media_pb2.CameraFrame]:
        """Yields the pictures encoded, one by one, as they come."""
        encoder = _Encoder(codec, self._bitrate)
        loop = asyncio.get_running_loop()
        with _own_thread("sana-gateway encoding") as thread:
            async with aclosing(self.pictures()) as pictures:  # type: ignore[type-var]
                async for rgb, taken in pictures:
                    keyframe, self._keyframe = self._keyframe, False
                    frame = await loop.run_in_executor(thread, encoder.encode, rgb, taken, keyframe)
                    if frame is not None:
                        yield frame


class _Encoder:
    """One picture in, one frame out; begins anew when the size changes."""

    def __init__(self, codec: CodecName, bitrate: int) -> None:
        self._codec = codec
        self._bitrate = bitrate
        self._size = (0, 0)
        self._context: Any = None

    def encode(self, rgb: Rgb, taken: int, keyframe: bool) -> media_pb2.CameraFrame | None:
        """Encodes a picture; None where the encoder left it out to keep its rate."""
        if rgb.shape[:2] != self._size:
            self._size = (rgb.shape[0], rgb.shape[1])
            self._context = self._begin()
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame = frame.reformat(format="yuv420p")
        frame.pts, frame.time_base = taken, Fraction(1, _TICKS)
        if keyframe:
            frame.pict_type = av.video.frame.PictureType.I
        packets = self._context.encode(frame)
        if not packets:
            return None
        return media_pb2.CameraFrame(
            data=b"".join(bytes(each) for each in packets),
            keyframe=any(each.is_keyframe for each in packets),
            timestamp_us=taken,
        )

    def _begin(self) -> Any:  # noqa: ANN401 - PyAV's contexts have no type of their own
        name, options = _ENCODERS[self._codec]
        context: Any = av.CodecContext.create(name, "w")
        context.height, context.width = self._size
        context.pix_fmt, context.time_base = "yuv420p", Fraction(1, _TICKS)
        context.framerate, context.gop_size = Fraction(30), _NEVER
        context.bit_rate, context.thread_count, context.options = self._bitrate, 1, options
        return context


async def play(camera: Camera, path: str | os.PathLike[str], *, loop: bool = False) -> None:
    """Shows a video file on a camera in real time; returns at its end. Does not close the camera.

    Args:
        camera: Where to show it.
        path: Any file that FFmpeg reads.
        loop: Whether to begin again at its end, for ever.

    Raises:
        OSError: The file cannot be read, or is no video.
    """
    clock = asyncio.get_running_loop().time
    # One thread for all that FFmpeg does: what is closed while it decodes takes the process along.
    with _own_thread("sana-gateway playing") as thread:
        call = partial(asyncio.get_running_loop().run_in_executor, thread)
        while True:
            container: Any = await call(av.open, os.fspath(path))
            try:
                frames, began = container.decode(video=0), clock()
                while (shown := await call(_next_picture, frames)) is not None:
                    rgb, due = shown
                    await asyncio.sleep(began + due - clock())
                    camera.push(rgb)
            finally:
                thread.submit(container.close)
            if not loop:
                return


@contextmanager
def _own_thread(name: str) -> Iterator[ThreadPoolExecutor]:
    """Gives a thread that does one thing after the other; at the end it finishes by itself."""
    thread = ThreadPoolExecutor(1, thread_name_prefix=name)
    try:
        yield thread
    finally:
        # Waiting for what it is at would hold up the event loop.
        thread.shutdown(wait=False)


def _next_picture(frames: Any) -> tuple[Rgb, float] | None:  # noqa: ANN401 - PyAV's own iterator
    """Returns the next picture with even sides, and when it is due in seconds; None at the end."""
    frame = next(frames, None)
    if frame is None:
        return None
    rgb = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
    height, width = (side - side % 2 for side in rgb.shape[:2])
    return np.ascontiguousarray(rgb[:height, :width]), float(frame.time or 0.0)
