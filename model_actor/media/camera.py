"""A camera, decoded in a worker process and brought to the model's size and rate."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from model_actor.media.errors import WorkerLostError
from model_actor.media.frames import FrameBlock, SharedFrames
from model_actor.media.link import Lender, WorkerLink
from model_actor.media.wire import (
    CameraPacket,
    Decoded,
    Kind,
    OpenCamera,
    pack_rate,
    pack_sequence,
)
from scheduler.core.errors import InvariantError, LimitError

__all__ = ["CameraDecoder", "CameraPacket", "CameraStats", "FrameBlock"]

KEYFRAME_INTERVAL_S = 0.5
"""A keyframe is asked for at most this often."""
MAX_PACKETS = 60
MAX_BYTES = 8 << 20
"""What may be on its way to the worker; beyond, packets up to the next keyframe go."""
_SURPLUS = 24
"""Frames that may wait beyond one window before the oldest go."""
_MARGIN = 8
"""Slots beyond one window in use and those that wait: for what is made meanwhile."""
SAME_CLOCK_US = 10_000_000
"""A frame that is so much older than one before it was captured by another clock."""
_RESTART_S = 1.0
"""A worker that died of a camera is replaced at most this often."""


@dataclass(slots=True)
class CameraStats:
    """What has become of a camera's frames."""

    frames_in: int = 0
    """Packets handed over."""
    discarded: int = 0
    """Packets that were not decoded: overflow, or a keyframe was awaited."""
    decoded: int = 0
    dropped: int = 0
    """Resampled frames that nobody took in time, the oldest first."""
    decode_errors: int = 0
    size_changes: int = 0
    restarts: int = 0
    """Workers that were replaced."""


class CameraDecoder:
    """Takes packets, gives frames at the model's rate. Made by `DecodeWorkers`.

    Frames are numbered in sequence; frame `n` lies in slot `n` modulo the ring. Those
    from `_next` to `_head` wait; those before, from `_tail` on, may still be in use.
    """

    def __init__(
        self,
        lender: Lender,
        size: tuple[int, int],
        frame_rate: float,
        window: int,
        on_keyframe_needed: Callable[[], None],
        on_frames: Callable[[], None],
    ) -> None:
        """Makes the ring; `open` gets a worker."""
        self.stats = CameraStats()
        self._lender = lender
        self._size = size
        self._frame_rate = frame_rate
        self._most_waiting = window + _SURPLUS
        self._on_keyframe_needed = on_keyframe_needed
        self._on_frames = on_frames
        self._shared = SharedFrames(*size, self._most_waiting + window + _MARGIN)
        self._head = self._next = self._tail = 0
        self._times: deque[int] = deque()
        self._held: set[int] = set()
        """First frames of the blocks in use."""
        self._link: WorkerLink | None = None
        self._sent: deque[tuple[float, int]] = deque()
        """When packets were sent that the worker has not answered, and their sizes."""
        self._sent_bytes = 0
        self._flushing = 0
        """Flushes that the worker has not answered: what it made before is void."""
        self._missed = False
        """Whether the worker found no slot free since a block was last released."""
        self._needs_keyframe = True
        self._asked = float("-inf")
        self._restarted = float("-inf")
        self._restart: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._closed = False

    async def open(self) -> None:
        """Gets a worker; called once, by the pool.

        Raises:
            LimitError: All workers are in use.
            WorkerLostError: None starts.
        """
        await self._attach()

    @property
    def available(self) -> int:
        """Frames that wait, at the model's rate."""
        return self._head - self._next

    def push(self, packet: CameraPacket) -> None:
        """Hands over a packet. Never blocks.

        Begins at a keyframe. When the worker cannot keep up, packets are discarded up
        to the next keyframe, which is asked for.
        """
        if self._closed:
            return
        self.stats.frames_in += 1
        if packet.discontinuity:
            self._needs_keyframe = True
        decodable = packet.keyframe or not self._needs_keyframe
        if not decodable or self._overflows(len(packet.data)) or self._link is None:
            self.stats.discarded += 1
            self._needs_keyframe = True
            self._ask_keyframe()
            return
        self._needs_keyframe = False
        self._sent.append((self._loop.time(), len(packet.data)))
        self._sent_bytes += len(packet.data)
        self._link.send(Kind.PACKET, packet.pack())

    def take(self, count: int) -> FrameBlock:
        """Takes the oldest frames that wait.

        Raises:
            InvariantError: Fewer wait, or the camera is closed.
        """
        if self._closed or not 0 < count <= self.available:
            raise InvariantError("so many frames do not wait")
        first = self._next
        self._next += count
        times = tuple(self._times.popleft() for _ in range(count))
        self._held.add(first)
        frames = self._shared.view(first, count)
        return FrameBlock(frames, times, lambda: self._release(first))

    def skip_to(self, captured_us: int) -> bool:
        """Drops what waits and was captured up to then.

        A frame from long before that was not captured by the same clock, and stays.

        Returns:
            Whether a frame waits that is to be taken.
        """
        while self._times and captured_us - SAME_CLOCK_US < self._times[0] <= captured_us:
            self._drop(1)
        return bool(self._times)

    def pace(self, frame_rate: float) -> None:
        """Has frames made at another rate from now on; those that wait stay."""
        self._frame_rate = frame_rate
        if self._link is not None:
            self._link.send(Kind.PACE, pack_rate(frame_rate))

    def flush(self) -> None:
        """Drops what waits and what is on its way; goes on from a keyframe, which it asks for."""
        if self._closed:
            return
        self._drop(self.available)
        if self._link is not None:
            self._flushing += 1
            self._link.send(Kind.FLUSH)
        self._needs_keyframe = True
        self._ask_keyframe()

    async def close(self) -> None:
        """Ends the worker. Frames already taken stay readable. Repeating it is no error."""
        if self._closed:
            return
        self._closed = True
        if self._restart is not None:
            self._restart.cancel()
            await asyncio.gather(self._restart, return_exceptions=True)
        if self._link is not None:
            self._lender.discard(self._link)
            self._link = None
        self._shared.close()
        self._lender.forget(self)

    def _overflows(self, size: int) -> bool:
        if not self._sent:
            return False
        if self._loop.time() - self._sent[0][0] > self._lender.limits.packet_s:
            # Stuck in one packet: a fresh worker is the only way on.
            if self._link is not None:
                self._link.kill()
            return True
        return len(self._sent) >= MAX_PACKETS or self._sent_bytes + size > MAX_BYTES

    def _ask_keyframe(self) -> None:
        now = self._loop.time()
        if now - self._asked >= KEYFRAME_INTERVAL_S:
            self._asked = now
            self._on_keyframe_needed()

    def _received(self, kind: Kind, payload: bytes) -> None:
        if kind is Kind.FLUSHED and self._flushing:
            self._flushing -= 1
        elif kind is Kind.DECODED and self._sent:
            self._decoded(Decoded.unpack(payload))
        else:
            raise WorkerLostError("a decode worker broke its protocol")

    def _decoded(self, decoded: Decoded) -> None:
        made = len(decoded.times_us)
        if self._head + made - self._tail > self._shared.slots:
            raise WorkerLostError("a decode worker broke its protocol")
        self._sent_bytes -= self._sent.popleft()[1]
        self.stats.decoded += decoded.decoded
        self.stats.dropped += decoded.dropped
        self.stats.size_changes += decoded.size_changes
        self._head += made
        self._times.extend(decoded.times_us)
        if self._flushing:
            self._drop(made)
        elif decoded.errors:
            self.stats.decode_errors += decoded.errors
            self._needs_keyframe = True
            self._ask_keyframe()
        self._missed = self._missed or decoded.dropped > 0
        self._drop(max(0, self.available - self._most_waiting))
        if made and not self._flushing:
            self._on_frames()

    def _drop(self, count: int) -> None:
        """Drops the oldest frames that wait."""
        count = min(count, self.available)
        for _ in range(count):
            self._times.popleft()
        self.stats.dropped += count
        self._next += count
        self._tell_free()

    def _release(self, first: int) -> None:
        self._held.discard(first)
        if self._missed:
            # The ring was full for want of this block: what waits is older than what
            # had to be dropped, so go on at the live edge.
            self._missed = False
            self._drop(self.available)
        self._tell_free()

    def _tell_free(self) -> None:
        tail = min(self._held, default=self._next)
        if tail != self._tail:
            self._tail = tail
            if self._link is not None:
                self._link.send(Kind.FREE, pack_sequence(tail))

    def _lost(self) -> None:
        """The worker is gone: another goes on from a keyframe; what waits stays."""
        if self._closed:
            return
        self._lender.crashes += 1
        if self._link is not None:
            self._lender.discard(self._link)
            self._link = None
        self._needs_keyframe = True
        self._restart = self._loop.create_task(self._replace_worker())

    async def _replace_worker(self) -> None:
        while True:
            await asyncio.sleep(max(0.0, self._restarted + _RESTART_S - self._loop.time()))
            self._restarted = self._loop.time()
            try:
                await self._attach()
            except (WorkerLostError, LimitError, OSError):
                continue
            self.stats.restarts += 1
            return

    async def _attach(self) -> None:
        link = await self._lender.lease()
        self._sent.clear()
        self._sent_bytes = self._flushing = 0
        order = OpenCamera(
            *self._size, self._shared.slots, self._frame_rate, self._head, self._tail
        )
        link.on_message = self._received
        link.on_lost = self._lost
        link.send(Kind.OPEN_CAMERA, order.pack(), (self._shared.fd,))
        self._link = link
        if link.lost:
            self._link = None
            raise WorkerLostError("the decode worker is gone")
        self._needs_keyframe = True
        self._ask_keyframe()
