"""Decodes the pictures of some sessions, and reads what is drawn into them.

One thread of the process decodes for all its sessions; the event loop only hands frames on.
A frame counts with the moment it came, so that what decoding takes here is in no metric.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import Any, Final, NamedTuple

import av
import numpy as np
import numpy.typing as npt

from sana_gateway import Session
from sdk_adapters.harness.generator.doors import Told
from sdk_adapters.harness.generator.source import Camera
from sdk_adapters.harness.generator.watching import Watching
from sdk_adapters.harness.marker import CANNED_FRAMES, Marker, Origin, read_origin, session_tag

WAITING: Final = 256
"""Frames that may wait for the decoder; then sessions go on at their next keyframe."""


class Decoding:
    """The decoder of a process. Its thread begins with the first frame."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[_Frame | None] = queue.Queue(WAITING)
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

    def put(self, frame: _Frame) -> bool:
        """Hands a frame to the thread; returns whether there was room."""
        try:
            self._waiting.put_nowait(frame)
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
        while (frame := self._waiting.get()) is not None:
            frame.screen.decode(frame)


class _Frame(NamedTuple):
    """A frame that waits for the thread."""

    screen: Screen
    data: bytes
    at: float
    told: Told | None


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

    def frame(self, data: bytes, at: float, told: Told | None, *, keyframe: bool) -> None:
        """Takes a frame; see `doors.Pictures.frame`."""
        if self._needs_keyframe and not keyframe:
            self._watching.note("pictures_skipped", at)
            return
        self._needs_keyframe = not self._decoding.put(_Frame(self, data, at, told))
        if self._needs_keyframe:
            self._watching.note("pictures_skipped", at)

    def decode(self, frame: _Frame) -> None:
        """Decodes a frame and reads it; in the thread."""
        try:
            pictures = self._decoder.decode(av.Packet(frame.data))
        except av.error.FFmpegError:
            pictures = []
        found = [read_origin(_luma(picture)) for picture in pictures] or [(None, None)]
        for marker, origin in found:
            try:
                self._loop.call_soon_threadsafe(self._read, frame, marker, origin)
            except RuntimeError:
                # The loop has ended: nobody listens any more.
                return

    def _read(self, frame: _Frame, marker: Marker | None, origin: Origin | None) -> None:
        """Takes what a picture says; on the event loop."""
        watching = self._watching
        watching.note(self._judged(marker, frame.told), frame.at)
        if marker is None or marker.session_tag != self._tag:
            return
        number = marker.run, marker.frame
        held, self._newest = self._newest == number, number
        if origin is None or held:
            return
        watching.picture(origin.prompt_tag, frame.at)
        if self._camera is not None and origin.source is not None:
            captured = self._camera.captured(origin.source)
            if captured is not None:
                watching.glass(captured, frame.at, by_pixels=True)

    def _judged(self, marker: Marker | None, told: Told | None) -> str:
        """Returns as what a picture counts: canned ones belong to all, and to the loop's frame."""
        if marker is None:
            return "pictures_unreadable"
        if marker.canned:
            fits = told is None or marker.frame == told[1] % CANNED_FRAMES
        else:
            number = marker.run, marker.frame
            fits = marker.session_tag == self._tag and (
                told is None or number == (told[0] % 256, told[1] % 2**32)
            )
        return "pictures_read" if fits else "pictures_wrong"


def _luma(picture: Any) -> npt.NDArray[np.uint8]:  # noqa: ANN401 - of PyAV
    plane = picture.planes[0]
    rows: npt.NDArray[np.uint8] = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[: picture.height, : picture.width]
