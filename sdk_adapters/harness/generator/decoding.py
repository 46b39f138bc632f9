"""Decodes the pictures of some sessions, and reads what is drawn into them.

One thread of the process decodes for all its sessions; the event loop only hands frames on.
A frame counts with the moment it came, so that what decoding takes here is in no metric.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt

from sana_gateway import Session
from sdk_adapters.harness.generator.source import Camera
from sdk_adapters.harness.generator.watching import Watching
from sdk_adapters.harness.marker import read_origin, session_tag

WAITING: Final = 256
"""Frames that may wait for the decoder; then sessions go on at their next keyframe."""


class Decoding:
    """The decoder of a process. Its thread begins with the first frame."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[tuple[Screen, bytes, float] | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None

    def pictures(
        self, watching: Watching, session: Session, camera: Camera | None, codec: str
    ) -> Screen:
        """Returns what takes the frames of a session.

        Args:
            watching: Is told what the pictures show.
            session: Whose.
            camera: Its camera, to know when a frame was captured.
            codec: `h264` or `vp8`.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._decode, daemon=True)
            self._thread.start()
        return Screen(self, watching, session.session_id, camera, codec)

    def put(self, screen: Screen, data: bytes, at: float) -> bool:
        """Hands a frame to the thread; returns whether there was room."""
        try:
            self._waiting.put_nowait((screen, data, at))
        except queue.Full:
            return False
        return True

    def close(self) -> None:
        """Ends the thread; what waits is not decoded any more."""
        if self._thread is None:
            return
        while True:
            try:
                self._waiting.put_nowait(None)
                break
            except queue.Full:
                self._waiting.get_nowait()
        self._thread.join()

    def _decode(self) -> None:
        while (item := self._waiting.get()) is not None:
            screen, data, at = item
            screen.decode(data, at)


class Screen:
    """The pictures of one session; implements `doors.Pictures`."""

    def __init__(
        self,
        decoding: Decoding,
        watching: Watching,
        session_id: str,
        camera: Camera | None,
        codec: str,
    ) -> None:
        self._decoding = decoding
        self._watching = watching
        self._tag = session_tag(session_id)
        self._camera = camera
        self._loop = asyncio.get_running_loop()
        self._decoder: Any = av.CodecContext.create(codec, "r")
        # One thread: more would hold frames back.
        self._decoder.thread_count = 1
        self._needs_keyframe = True
        self._newest: tuple[int, int] | None = None

    def frame(self, data: bytes, at: float, *, keyframe: bool) -> None:
        """Takes a frame; see `doors.Pictures.frame`."""
        if self._needs_keyframe and not keyframe:
            self._watching.note("pictures_skipped")
            return
        self._needs_keyframe = not self._decoding.put(self, data, at)
        if self._needs_keyframe:
            self._watching.note("pictures_skipped")

    def decode(self, data: bytes, at: float) -> None:
        """Decodes a frame and reads it; in the thread."""
        try:
            pictures = self._decoder.decode(av.Packet(data))
        except av.error.FFmpegError:
            pictures = []
        for picture in pictures:
            marker, origin = read_origin(_luma(picture))
            if marker is None:
                self._tell(self._watching.note, "pictures_unreadable")
                continue
            if marker.canned:
                continue
            if marker.session_tag != self._tag:
                self._tell(self._watching.note, "pictures_foreign")
                continue
            held, self._newest = (
                self._newest == (marker.run, marker.frame),
                (marker.run, marker.frame),
            )
            if origin is not None and not held:
                self._tell(self._shown, origin.prompt_tag, origin.source, at)

    def _tell(self, function: Any, *values: object) -> None:  # noqa: ANN401 - of the watching
        try:
            self._loop.call_soon_threadsafe(function, *values)
        except RuntimeError:
            # The loop has ended: nobody listens any more.
            return

    def _shown(self, prompt_tag: int, source: int | None, at: float) -> None:
        self._watching.picture(prompt_tag, at)
        if self._camera is not None and source is not None:
            captured = self._camera.captured(source)
            if captured is not None:
                self._watching.glass(captured, at, by_pixels=True)


def _luma(picture: Any) -> npt.NDArray[np.uint8]:  # noqa: ANN401 - of PyAV
    plane = picture.planes[0]
    rows: npt.NDArray[np.uint8] = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[: picture.height, : picture.width]
