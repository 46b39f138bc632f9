"""A kept state as bytes: what a session was between two windows, and its model's part.

Little-endian: magic (8 bytes), run (4), windows (4), length of the control snapshot (8),
length of the model's state plus 1, or 0 without one (8), CRC-32 of the model's state (4),
CRC-32 of all before and of the control snapshot (4); then the control snapshot and the model's
state. A file that is cut short, torn, or somebody else's does not add up, and counts as absent.
A state with the picture that holds has another magic: there the length of the control snapshot
counts the picture, which comes after it and ends with its own length (4). Where the model's
state goes on in other files, the magic is a third one: after control snapshot and picture come
names and sizes of what follows there (JSON), and the lengths of both (4 each).

Prompts are part of a control snapshot: whoever writes these bytes keeps them private.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from model_actor.plugin import SnapshotParts
from sana_gateway_internal.v1 import snapshot_pb2

_MAGIC = b"SANAKPT1"
_MAGIC_SHOWN = b"SANAKPT2"
_MAGIC_PARTED = b"SANAKPT3"
_HEADER = struct.Struct("<8sIIQQI")
_CHECK = struct.Struct("<I")
_LENGTH = struct.Struct("<I")
_LENGTHS = struct.Struct("<II")
BEGINNING = 1 << 20
"""Bytes that hold every control snapshot, and the picture."""
PICTURE_BYTES: Final = 1 << 18
"""Most that a picture takes."""
DAY_S: Final = 24 * 3600.0
"""What nobody has written or said to be needed for so long is of a session that is gone."""

ModelState = bytes | memoryview | SnapshotParts
"""What a model's snapshot may be: as it was taken, or read back from several files in one."""


@dataclass(frozen=True, slots=True)
class KeptState:
    """A session between two windows."""

    control: bytes
    """The serialised `ControlSnapshot`."""
    model: ModelState | None
    """The model's snapshot; None when it has computed nothing in the run."""
    run: int
    """The run that it is of."""
    windows: int
    """Windows of the run that the model had finished, as it counts them."""
    picture: bytes = b""
    """The serialised `HeldPicture` that viewers were shown last, at most `PICTURE_BYTES`; empty
    where none is kept."""

    @property
    def model_size(self) -> int:
        """Bytes of the model's part."""
        if isinstance(self.model, SnapshotParts):
            return self.model.size
        return 0 if self.model is None else len(self.model)

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return BEGIN + len(_told(self, ())) + self.model_size


class Point(NamedTuple):
    """What a kept state is known by. Points of one session sort by age."""

    key: str
    """Of its session; see `scheduler.kept_names.key_of`."""
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


class Elsewhere(NamedTuple):
    """A part of a model's state that lies in a file of its own."""

    name: str
    size: int


class Begun(NamedTuple):
    """What the first bytes of a state tell."""

    state: KeptState
    """Without the model's part."""
    begin: int
    """Where that begins."""
    size: int | None
    """How long it is here; None: there is none."""
    check: int
    """Its CRC-32."""
    elsewhere: tuple[Elsewhere, ...]
    """Where it goes on."""


def age_of(state: KeptState) -> Age:
    """Returns how old the control snapshot of a state is; the least where it is none."""
    try:
        snapshot = snapshot_pb2.ControlSnapshot.FromString(state.control)
    except DecodeError:
        return Age()
    return Age(snapshot.epoch, snapshot.revision)


def whole(model: ModelState) -> bytes | memoryview:
    """Returns a model's snapshot in one piece of memory."""
    if not isinstance(model, SnapshotParts):
        return model
    all_of_it, at = memoryview(bytearray(model.size)), 0
    for piece in model.pieces():
        all_of_it[at : at + len(piece)] = piece
        at += len(piece)
    return all_of_it


def pieces(state: KeptState) -> tuple[bytes | memoryview, ...]:
    """Returns the bytes of a state, in pieces: its model's part may be large."""
    model = b"" if state.model is None else whole(state.model)
    size = None if state.model is None else len(model)
    return beginning(state, size, zlib.crc32(model)), model


def beginning(
    state: KeptState, size: int | None, check: int, elsewhere: tuple[Elsewhere, ...] = ()
) -> bytes:
    """Returns what comes before the model's part; its length does not depend on `check`.

    Args:
        state: The state.
        size: Bytes of the model's part that follow; None: it has none.
        check: Their CRC-32.
        elsewhere: Where it goes on.
    """
    told = _told(state, elsewhere)
    magic = _MAGIC_SHOWN if state.picture else _MAGIC
    header = _HEADER.pack(
        _MAGIC_PARTED if elsewhere else magic,
        state.run,
        state.windows,
        len(told),
        0 if size is None else size + 1,
        check,
    )
    return b"".join((header, _CHECK.pack(zlib.crc32(told, zlib.crc32(header))), told))


def begun(data: bytes | bytearray) -> Begun | None:
    """Reads the first bytes of a state, `BEGINNING` or all; None when they are none."""
    if len(data) < BEGIN:
        return None
    magic, run, windows, told_size, told, model_check = _HEADER.unpack_from(data)
    end = BEGIN + told_size
    if magic not in (_MAGIC, _MAGIC_SHOWN, _MAGIC_PARTED) or len(data) < end:
        return None
    view = memoryview(data)
    (check,) = _CHECK.unpack_from(data, _HEADER.size)
    if zlib.crc32(view[BEGIN:end], zlib.crc32(view[: _HEADER.size])) != check:
        return None
    control, picture, elsewhere = _untold(magic, bytes(view[BEGIN:end]))
    state = KeptState(control, None, run, windows, picture)
    return Begun(state, end, told - 1 if told else None, model_check, elsewhere)


def parse(data: bytes | bytearray) -> KeptState | None:
    """Reads the bytes of a state that goes on nowhere else; None when they are none."""
    first = begun(data)
    if first is None or first.elsewhere:
        return None
    model = memoryview(data)[first.begin :]
    if len(model) != (first.size or 0) or zlib.crc32(model) != first.check:
        return None
    return replace(first.state, model=None if first.size is None else bytes(model))


BEGIN: Final = _HEADER.size + _CHECK.size
"""Bytes before the control snapshot."""


def _told(state: KeptState, elsewhere: tuple[Elsewhere, ...]) -> bytes:
    """Returns what comes between the header and the model's part."""
    return b"".join(_told_pieces(state, elsewhere))


def _told_pieces(state: KeptState, elsewhere: tuple[Elsewhere, ...]) -> Iterator[bytes]:
    yield state.control
    yield state.picture
    if elsewhere:
        table = json.dumps(elsewhere).encode()
        yield table
        yield _LENGTHS.pack(len(state.picture), len(table))
    elif state.picture:
        yield _LENGTH.pack(len(state.picture))


def _untold(magic: bytes, told: bytes) -> tuple[bytes, bytes, tuple[Elsewhere, ...]]:
    """Returns control snapshot, picture, and what lies elsewhere."""
    if magic == _MAGIC:
        return told, b"", ()
    if magic == _MAGIC_SHOWN:
        (length,) = _LENGTH.unpack_from(told, len(told) - _LENGTH.size)
        at = len(told) - _LENGTH.size - length
        return told[:at], told[at : at + length], ()
    length, table = _LENGTHS.unpack_from(told, len(told) - _LENGTHS.size)
    end = len(told) - _LENGTHS.size - table
    at = end - length
    elsewhere = tuple(Elsewhere(*each) for each in json.loads(told[end : end + table]))
    return told[:at], told[at:end], elsewhere
