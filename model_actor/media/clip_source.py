"""Looks at clips and decodes them in order. Runs in decode workers only.

A clip is opened through its descriptor alone: a custom reader, a short list of
container formats, no protocols, and no opening of anything that the clip names. A
playlist in disguise therefore finds nothing to read.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

import av
from av.stream import Discard, Disposition

from model_actor.media.fitter import Fitter, describe, orientation, write_i420
from model_actor.media.limits import DecodeLimits, Refusal, check_frames, check_size
from model_actor.media.presentation import shown_frames, timeline
from model_actor.media.truncation import is_cut_short
from model_actor.media.wire import ClipFacts

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"
"""Containers that are read; each names all its parts in itself."""
_BUFFER_BYTES = 256 << 10
_FIRST_FRAME_PACKETS = 300
"""A decoder that has made nothing of so many packets will make nothing of more."""


class RefusedClipError(Exception):
    """The clip is refused. Only inside the worker."""

    def __init__(self, refusal: Refusal, value: int = 0) -> None:
        """Takes the reason and its number."""
        super().__init__(refusal.value)
        self.refusal = refusal
        self.value = value


class DescriptorReader:
    """Reads a descriptor at a position of its own, shared with nobody."""

    def __init__(self, fd: int) -> None:
        """Takes a descriptor, which stays its owner's."""
        self._fd = fd
        self._at = 0
        self.size = os.fstat(fd).st_size

    def read(self, length: int) -> bytes:
        """Reads on."""
        data = os.pread(self._fd, length, self._at)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        """Returns the position."""
        return self._at

    def read_at(self, offset: int, length: int) -> bytes:
        """Reads anywhere, without moving."""
        return os.pread(self._fd, length, offset)


class ClipSource:
    """Decodes one clip, frame after frame, fitted to the model."""

    def __init__(
        self, fd: int, size: tuple[int, int], minimum_frames: int, limits: DecodeLimits
    ) -> None:
        """Probes: counts by demuxing, then decodes the first frame.

        Raises:
            RefusedClipError: The clip cannot be used.
        """
        self._fd = fd
        self._limits = limits
        self._fitter = Fitter(*size)
        self._shown: VideoFrame | None = None
        self._held: VideoFrame | None = None
        self._at = 0
        if is_cut_short(DescriptorReader(fd).read_at, os.fstat(fd).st_size):
            raise RefusedClipError(Refusal.CUT_SHORT)
        with self._open() as container:
            stream = self._video(container)
            times = _presented_times(container, stream, limits)
            frame_us = round(1_000_000 / stream.average_rate) if stream.average_rate else 0
            tick_us = float((stream.time_base or 0) * 1_000_000) or 1.0
        first = self._first_frame()
        self._timeline = timeline(
            times, first_decoded=first.pts, tick_us=tick_us, frame_us=frame_us
        )
        self._turn = orientation(first)
        picture = describe(first, self._pixel_aspect, self._turn)
        frames, duration_us = len(self._timeline), self._timeline.duration_us
        refusal = check_size(limits, *picture.displayed) or check_frames(
            limits, frames, duration_us, minimum_frames
        )
        if refusal is not None:
            raise RefusedClipError(refusal, frames)
        if self._fitted(first) is None:
            raise RefusedClipError(Refusal.NOT_VIDEO)
        self.facts = ClipFacts(*picture.displayed, frames, duration_us, self._codec)

    def read(self, first: int, memory: memoryview, offsets: range) -> tuple[int, ...]:
        """Decodes frames `first`, `first + 1` and on, one to each offset of the memory.

        Beyond the end of the clip its last frame is repeated; so is the frame before
        one that cannot be decoded.

        Returns:
            The presentation time of each frame in microseconds.
        """
        start = min(first, len(self._timeline) - 1)
        if start != self._at:
            self._go_to(start)
        if start < first:
            self._advance(start)
        for index, offset in enumerate(offsets, first):
            if index < len(self._timeline):
                self._advance(index)
            if self._shown is None:
                raise RefusedClipError(Refusal.NOT_VIDEO)
            write_i420(self._shown, memory, offset)
        self._at = min(first + len(offsets), len(self._timeline))
        return tuple(self._timeline.time_us(index) for index in range(first, first + len(offsets)))

    def _advance(self, index: int) -> None:
        """Makes frame `index` the one that is shown."""
        wanted = self._timeline.ticks[index]
        frame = self._held if self._held is not None else next(self._frames, None)
        if self._timeline.aligned:
            while frame is not None and (frame.pts is None or frame.pts < wanted):
                frame = next(self._frames, None)
            if frame is not None and frame.pts != wanted and self._shown is not None:
                # Frame `index` could not be decoded: the one before it stays.
                self._held = frame
                return
        self._held = None
        # One that cannot be fitted (a single line, say) is damage too: the one before it stays.
        fitted = None if frame is None else self._fitted(frame)
        self._shown = fitted or self._shown

    def _fitted(self, frame: VideoFrame) -> VideoFrame | None:
        """Returns a frame as the model takes it; None where that cannot be."""
        try:
            return self._fitter.fit(frame, describe(frame, self._pixel_aspect, self._turn))
        except av.FFmpegError as error:
            if error.errno == errno.ENOMEM:
                raise MemoryError("no memory for a picture") from error
            return None

    def _go_to(self, index: int) -> None:
        """Makes frame `index` the next one that the decoder hands out, or one before it."""
        self._held = self._shown = None
        self._reopen()
        if index == 0:
            return
        if self._timeline.aligned and self._seek(self._timeline.ticks[index]):
            return
        if not self._timeline.aligned:
            for _ in range(index):
                next(self._frames, None)

    def _seek(self, ticks: int) -> bool:
        """Moves to a keyframe at or before a time; begins anew where that fails."""
        try:
            self._container.seek(ticks, stream=self._stream)
            self._frames = self._decode()
            self._held = next(self._frames, None)
        except av.FFmpegError:
            self._held = None
        if self._held is not None and self._held.pts is not None and self._held.pts <= ticks:
            return True
        self._held = None
        self._reopen()
        return False

    def _first_frame(self) -> VideoFrame:
        self._reopen()
        self._pixel_aspect = float(self._stream.sample_aspect_ratio or 1) or 1.0
        self._codec = self._stream.codec_context.codec.name
        frame = next(self._frames, None)
        if frame is None:
            raise RefusedClipError(Refusal.NOT_VIDEO)
        self._held = frame
        return frame

    def _reopen(self) -> None:
        self._container = self._open()
        self._stream = self._video(self._container)
        context = self._stream.codec_context
        context.thread_count = 1
        context.options = {"max_pixels": str(self._limits.max_pixels)}
        self._frames = self._decode()

    def _decode(self) -> Iterator[VideoFrame]:
        """Yields the frames in the order of presentation; damaged packets yield none."""
        fruitless = 0
        for packet in self._container.demux(self._stream):
            last = packet.size == 0 and packet.dts is None
            if not last and packet.size == 0:
                continue
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                if error.errno == errno.ENOMEM:
                    raise MemoryError("no memory for a picture") from error
                frames = []
            fruitless = 0 if frames else fruitless + 1
            if fruitless > _FIRST_FRAME_PACKETS:
                return
            yield from frames

    def _open(self) -> InputContainer:
        try:
            return av.open(
                DescriptorReader(self._fd),
                "r",
                options={"max_pixels": str(self._limits.max_pixels), "threads": "1"},
                container_options={"format_whitelist": FORMATS, "protocol_whitelist": "none"},
                buffer_size=_BUFFER_BYTES,
                io_open=_refuse_to_open,
            )
        except (av.FFmpegError, PermissionError, ValueError) as error:
            if isinstance(error, av.FFmpegError) and error.errno == errno.ENOMEM:
                raise MemoryError("no memory for the container") from error
            raise RefusedClipError(Refusal.NOT_VIDEO) from error

    def _video(self, container: InputContainer) -> VideoStream:
        pictures = Disposition.attached_pic | Disposition.still_image
        found = [
            stream
            for stream in container.streams.video
            if not stream.disposition & pictures and stream.codec_context is not None
        ]
        if not found:
            raise RefusedClipError(Refusal.NOT_VIDEO)
        stream = max(found, key=lambda stream: stream.width * stream.height)
        refusal = check_size(self._limits, stream.width, stream.height)
        if refusal is not None:
            raise RefusedClipError(refusal if stream.width and stream.height else Refusal.NOT_VIDEO)
        for other in container.streams:
            if other is not stream:
                other.discard = Discard.all
        return stream


def _presented_times(
    container: InputContainer, stream: VideoStream, limits: DecodeLimits
) -> list[int | None]:
    """Returns the times of all frames that will be shown, in the order of decoding."""
    codec = stream.codec_context.name
    most = limits.max_fps * limits.max_duration_s
    times: list[int | None] = []
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            if packet.is_corrupt:
                raise RefusedClipError(Refusal.CUT_SHORT)
            if not packet.is_discard:
                times += [packet.pts] * shown_frames(codec, memoryview(packet))
            if len(times) > most:
                raise RefusedClipError(Refusal.TOO_LONG)
    except av.FFmpegError as error:
        raise RefusedClipError(Refusal.CUT_SHORT) from error
    if not times:
        raise RefusedClipError(Refusal.NOT_VIDEO)
    return times


def _refuse_to_open(_url: str, _flags: int, _options: dict[str, str]) -> NoReturn:
    raise PermissionError("a clip may not name other files")
