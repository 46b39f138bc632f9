"""A kept state as bytes: what a session was between two windows, and its model's part.

Little-endian: magic (8 bytes), run (4), windows (4), length of the control snapshot (8),
length of the model's state plus 1, or 0 without one (8), CRC-32 of the model's state (4),
CRC-32 of all before and of the control snapshot (4); then the control snapshot and the model's
state. A file that is cut short, torn, or somebody else's does not add up, and counts as absent.
A state with the picture that holds has another magic: there the length of the control snapshot
counts the picture, which comes after it and ends with its own length (4).

Prompts are part of a control snapshot: whoever writes these bytes keeps them private.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from sana_gateway_internal.v1 import snapshot_pb2

_MAGIC = b"SANAKPT1"
_MAGIC_SHOWN = b"SANAKPT2"
_HEADER = struct.Struct("<8sIIQQI")
_CHECK = struct.Struct("<I")
_LENGTH = struct.Struct("<I")
BEGINNING = 1 << 20
"""Bytes that hold every control snapshot, and the picture."""
PICTURE_BYTES: Final = 1 << 18
"""Most that a picture takes."""
DAY_S: Final = 24 * 3600.0
"""What nobody has written or said to be needed for so long is of a session that is gone."""


@dataclass(frozen=True, slots=True)
class KeptState:
    """A session between two windows."""

    control: bytes
    """The serialised `ControlSnapshot`."""
    model: bytes | None
    """What the model's `snapshot` returned; None when it has computed nothing in the run."""
    run: int
    """The run that it is of."""
    windows: int
    """Windows of the run that the model had finished, as it counts them."""
    picture: bytes = b""
    """The serialised `HeldPicture` that viewers were shown last, at most `PICTURE_BYTES`; empty
    where none is kept."""

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return _HEADER.size + _CHECK.size + len(_told(self)) + len(self.model or b"")


class Point(NamedTuple):
    """What a kept state is known by. Points of one session sort by age."""

    key: str
    """Of its session; see `key_of`."""
    epoch: int
    """Of the lease under which it was kept, or taken over."""
    run: int
    windows: int


class Age(NamedTuple):
    """Which of two control snapshots of a session is the newer one: that of the later lease,
    then the one that has told more. An actor that was given up may go on telling for a while.
    """

    epoch: int = 0
    revision: int = 0


def age_of(state: KeptState) -> Age:
    """Returns how old the control snapshot of a state is; the least where it is none."""
    try:
        snapshot = snapshot_pb2.ControlSnapshot.FromString(state.control)
    except DecodeError:
        return Age()
    return Age(snapshot.epoch, snapshot.revision)


def key_of(session_id: str) -> str:
    """Returns what names a session in files and keys: its id may not fit there."""
    return hashlib.blake2b(session_id.encode(), digest_size=16).hexdigest()


def pieces(state: KeptState) -> tuple[bytes, ...]:
    """Returns the bytes of a state, in pieces: its model's part may be large."""
    model, control = state.model or b"", _told(state)
    told = 0 if state.model is None else len(model) + 1
    magic = _MAGIC_SHOWN if state.picture else _MAGIC
    header = _HEADER.pack(magic, state.run, state.windows, len(control), told, zlib.crc32(model))
    check = zlib.crc32(control, zlib.crc32(header))
    return header, _CHECK.pack(check), control, model


def parse(data: bytes, *, model: bool = True) -> KeptState | None:
    """Reads the bytes of a state; None when they are none.

    Args:
        data: The bytes; without `model` the first ones, `BEGINNING` or all, suffice.
        model: Whether the model's part is to be read.
    """
    begin = _HEADER.size + _CHECK.size
    if len(data) < begin:
        return None
    magic, run, windows, control_size, told, model_check = _HEADER.unpack_from(data)
    if magic not in (_MAGIC, _MAGIC_SHOWN) or len(data) < begin + control_size:
        return None
    view = memoryview(data)
    end = begin + control_size
    (check,) = _CHECK.unpack_from(data, _HEADER.size)
    if zlib.crc32(view[begin:end], zlib.crc32(view[: _HEADER.size])) != check:
        return None
    control, picture = bytes(view[begin:end]), b""
    if magic == _MAGIC_SHOWN:
        (length,) = _LENGTH.unpack_from(control, len(control) - _LENGTH.size)
        at = len(control) - _LENGTH.size - length
        control, picture = control[:at], control[at : at + length]
    if not model:
        return KeptState(control, None, run, windows, picture)
    if len(data) != end + max(0, told - 1) or zlib.crc32(view[end:]) != model_check:
        return None
    return KeptState(control, bytes(view[end:]) if told else None, run, windows, picture)


def _told(state: KeptState) -> bytes:
    """Returns what comes before the model's part."""
    if not state.picture:
        return state.control
    return b"".join((state.control, state.picture, _LENGTH.pack(len(state.picture))))
