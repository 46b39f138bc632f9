"""What a decode worker and its owner say to each other, over a socket pair. Pure.

A message is a kind, a length and that many bytes. Settings and facts are JSON, what
comes often is packed. Nothing that a worker sends is trusted: it has touched foreign
bytes, so each message is checked in size and range.
"""

from __future__ import annotations

import enum
import json
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Self

from model_actor.media.codec import Codec
from model_actor.media.errors import WorkerLostError
from model_actor.media.limits import Refusal

HEADER = struct.Struct("<BI")
FORKED = struct.Struct("<I")
"""The server's answer: the number of the process that it has forked."""
MAX_FROM_WORKER = 1 << 20
"""Longest message that a worker may send."""

_READ = struct.Struct("<IHI")
_PACKET = struct.Struct("<BBBq")
_DECODED = struct.Struct("<BBBH")
_SEQUENCE = struct.Struct("<Q")
_RATE = struct.Struct("<d")
_CODECS = tuple(Codec)
_REFUSALS = {refusal.value: refusal for refusal in Refusal}


class Kind(enum.IntEnum):
    """Kind of a message."""

    # From a worker.
    READY = 1
    FACTS = 2
    REFUSED = 3
    WINDOW = 4
    DECODED = 5
    FLUSHED = 6
    # To a worker; the two OPENs come with descriptors.
    OPEN_CLIP = 16
    READ = 17
    OPEN_CAMERA = 18
    PACKET = 19
    FREE = 20
    FLUSH = 21
    PACE = 22


@dataclass(frozen=True, slots=True)
class OpenClip:
    """Decode the clip in the first descriptor into the memory of the second."""

    width: int
    height: int
    slots: int
    minimum_frames: int

    def pack(self) -> bytes:
        """Returns the payload."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Reads the payload."""
        return cls(**json.loads(payload))


@dataclass(frozen=True, slots=True)
class OpenCamera:
    """Decode packets into the memory of the descriptor."""

    width: int
    height: int
    slots: int
    frame_rate: float
    head: int
    """Sequence number of the next frame; frame `n` lies in slot `n % slots`."""
    tail: int
    """Lowest sequence number that is still in use."""

    def pack(self) -> bytes:
        """Returns the payload."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Reads the payload."""
        return cls(**json.loads(payload))


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """What a probe found out about a clip."""

    width: int
    height: int
    """Displayed size: upright, in square pixels."""
    num_frames: int
    """Presented frames, exactly."""
    duration_us: int
    codec: str

    def pack(self) -> bytes:
        """Returns the payload."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Reads the payload of a worker.

        Raises:
            WorkerLostError: It is not what a worker sends.
        """
        found = _object(payload)
        codec = found.get("codec")
        if not isinstance(codec, str) or not codec.isidentifier() or len(codec) > 32:
            raise WorkerLostError("a decode worker broke its protocol")
        return cls(
            width=_natural(found.get("width")),
            height=_natural(found.get("height")),
            num_frames=_natural(found.get("num_frames")),
            duration_us=_natural(found.get("duration_us")),
            codec=codec,
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a probe refuses a clip."""

    refusal: Refusal
    value: int = 0

    def pack(self) -> bytes:
        """Returns the payload."""
        return json.dumps({"code": self.refusal.value, "value": self.value}).encode()

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Reads the payload of a worker.

        Raises:
            WorkerLostError: It is not what a worker sends.
        """
        found = _object(payload)
        refusal = _REFUSALS.get(str(found.get("code")))
        if refusal is None:
            raise WorkerLostError("a decode worker broke its protocol")
        return cls(refusal, _natural(found.get("value")))


@dataclass(frozen=True, slots=True)
class ReadWindow:
    """Decode a window of the clip into consecutive slots."""

    first: int
    count: int
    slot: int

    def pack(self) -> bytes:
        """Returns the payload."""
        return _READ.pack(self.first, self.count, self.slot)

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Reads the payload."""
        return cls(*_READ.unpack(payload))


@dataclass(frozen=True, slots=True)
class Decoded:
    """A camera packet was decoded; the answer to every packet."""

    errors: int
    size_changes: int
    dropped: int
    """Frames for which no slot was free."""
    decoded: int
    times_us: tuple[int, ...]
    """Slot times of the frames made, in sequence."""

    def pack(self) -> bytes:
        """Returns the payload."""
        head = _DECODED.pack(
            min(self.errors, 255),
            min(self.size_changes, 255),
            min(self.dropped, 255),
            self.decoded,
        )
        return head + pack_times(self.times_us)

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Reads the payload of a worker.

        Raises:
            WorkerLostError: It is not what a worker sends.
        """
        if len(payload) < _DECODED.size:
            raise WorkerLostError("a decode worker broke its protocol")
        errors, size_changes, dropped, decoded = _DECODED.unpack_from(payload)
        times_us = unpack_times(payload[_DECODED.size :])
        return cls(errors, size_changes, dropped, decoded, times_us)


@dataclass(frozen=True, slots=True)
class CameraPacket:
    """One encoded frame of a camera."""

    codec: Codec
    keyframe: bool
    timestamp_us: int
    """Capture time on the publisher's clock."""
    data: bytes
    discontinuity: bool = False
    """True on the first packet after packets were lost or the publisher changed."""

    def pack(self) -> bytes:
        """Returns the payload."""
        head = _PACKET.pack(
            _CODECS.index(self.codec), self.keyframe, self.discontinuity, self.timestamp_us
        )
        return head + self.data

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Reads the payload."""
        codec, keyframe, discontinuity, timestamp_us = _PACKET.unpack_from(payload)
        data = payload[_PACKET.size :]
        return cls(_CODECS[codec], bool(keyframe), timestamp_us, data, bool(discontinuity))


def pack_times(times_us: tuple[int, ...]) -> bytes:
    """Packs microseconds."""
    return struct.pack(f"<{len(times_us)}q", *times_us)


def unpack_times(payload: bytes) -> tuple[int, ...]:
    """Unpacks microseconds.

    Raises:
        WorkerLostError: The length is odd.
    """
    if len(payload) % 8:
        raise WorkerLostError("a decode worker broke its protocol")
    return struct.unpack(f"<{len(payload) // 8}q", payload)


def pack_sequence(sequence: int) -> bytes:
    """Packs a sequence number."""
    return _SEQUENCE.pack(sequence)


def unpack_sequence(payload: bytes) -> int:
    """Unpacks a sequence number."""
    (sequence,) = _SEQUENCE.unpack(payload)
    return int(sequence)


def pack_rate(frame_rate: float) -> bytes:
    """Packs frames per second."""
    return _RATE.pack(frame_rate)


def unpack_rate(payload: bytes) -> float:
    """Unpacks frames per second."""
    (rate,) = _RATE.unpack(payload)
    return float(rate)


def message(kind: Kind, payload: bytes = b"") -> bytes:
    """Returns a message as it is sent."""
    return HEADER.pack(kind, len(payload)) + payload


class Messages:
    """Cuts what a worker sent into messages."""

    def __init__(self) -> None:
        """Starts empty."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Kind, bytes]]:
        """Takes bytes and yields the messages that they complete.

        Raises:
            WorkerLostError: A message is too long or of an unknown kind.
        """
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            kind, length = HEADER.unpack_from(self._buffer)
            if length > MAX_FROM_WORKER or kind not in _FROM_WORKER:
                raise WorkerLostError("a decode worker broke its protocol")
            end = HEADER.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[HEADER.size : end])
            del self._buffer[:end]
            yield Kind(kind), payload


_FROM_WORKER = frozenset(kind for kind in Kind if kind < Kind.OPEN_CLIP)


def _object(payload: bytes) -> dict[str, Any]:
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise WorkerLostError("a decode worker broke its protocol")
    return found


def _natural(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise WorkerLostError("a decode worker broke its protocol")
    return value
