"""What a journal consists of (docs/replay.md): one JSON object a line, each of a kind.

A journal is read by people and by programs that did not write it, so every line is checked
before anything is made of it: kinds, fields, types and bounds are these and no others.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, cast

import numpy as np
import numpy.typing as npt

from scheduler.core.errors import SanaGatewayError
from scheduler.core.prompts import Share

VERSION: Final = 1
"""Of the format; a journal of another one is refused."""
MOST_LINE_BYTES: Final = 2 * 1024 * 1024
MOST_LINES: Final = 1_000_000
MOST_FRAMES: Final = 4096
"""Frames of a window."""
MOST_SIDE: Final = 8192
"""Pixels of a side of a picture."""
DIGEST_BYTES: Final = 8
PROMPT_DIGEST_BYTES: Final = 16


class JournalError(SanaGatewayError):
    """A journal cannot be read. The text names the line and quotes nothing of it."""


def digest(frame: npt.NDArray[np.uint8]) -> str:
    """Returns what stands for a frame: equal bytes have an equal one."""
    content = np.ascontiguousarray(frame)
    return hashlib.blake2b(content.data, digest_size=DIGEST_BYTES).hexdigest()


def digest_of_all(
    frames: npt.NDArray[np.uint8], stopped: Callable[[], bool] = lambda: False
) -> str:
    """Returns what stands for several frames together.

    Args:
        frames: The frames.
        stopped: Asked between two; the result means nothing once it is true.
    """
    hashed = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for frame in frames:
        if stopped():
            break
        hashed.update(np.ascontiguousarray(frame).data)
    return hashed.hexdigest()


def prompt_digest(session_id: str, prompt: str) -> str:
    """Returns what stands for a prompt in one session's journal. Who guesses the prompt can
    tell that the guess is right.
    """
    text = f"{session_id}\0{prompt}".encode()
    return hashlib.blake2b(text, digest_size=PROMPT_DIGEST_BYTES).hexdigest()


class Record:
    """A line."""

    KIND: ClassVar[str]

    def line(self) -> str:
        """Returns it as JSON, with a line feed."""
        told: dict[str, Any] = {"kind": self.KIND}
        for each in fields(cast(Any, self)):
            told[each.name] = getattr(self, each.name)
        return json.dumps(told, separators=(",", ":"), ensure_ascii=True) + "\n"


@dataclass(frozen=True, slots=True)
class Piece(Record):
    """Begins each piece of a journal, and so the file."""

    KIND: ClassVar[str] = "journal"
    version: int
    session: str
    epoch: int
    """Of the lease under which it was written."""
    piece: int
    content: bool
    """Whether prompts and reference pictures are in it."""


@dataclass(frozen=True, slots=True)
class Actor(Record):
    """Where the windows that follow were made."""

    KIND: ClassVar[str] = "actor"
    model: str
    """Name of the plugin."""
    options: Mapping[str, str]
    """Of the plugin."""
    width: int
    height: int
    frame_rate: float
    first_window: int
    window: int
    environment: Mapping[str, str]
    """Versions and devices."""


@dataclass(frozen=True, slots=True)
class Command(Record):
    """A command of a client that was accepted."""

    KIND: ClassVar[str] = "command"
    name: str
    run: int
    chunk: int
    """Chunks of the run that were made before it came: those after show it."""
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Restored(Record):
    """The session came from another actor."""

    KIND: ClassVar[str] = "restored"
    run: int
    windows: int
    """Windows that the model's state was after; -1: it was fresh."""


@dataclass(frozen=True, slots=True)
class Window(Record):
    """A window of source frames that was edited."""

    KIND: ClassVar[str] = "window"
    run: int
    index: int
    first: int
    """Index in the run of its first source frame."""
    source_frames: int
    answers_from: int
    """Index in the run of the first frame that it answers."""
    frames: int
    """Frames of what it answers that count."""
    skip: int
    """Frames at its beginning that were shown before; they have no digest."""
    seed: int
    prompt: Mapping[str, str]
    """`digest`, and `text` where content is kept."""
    earlier: tuple[Mapping[str, Any], ...]
    """The same with `share`, of prompts that are still seen."""
    steps: int
    batch: int
    """Windows that ran as one call of the model."""
    last: bool
    live: bool
    clip: Mapping[str, int]
    """`frames`, `width`, `height` and `bytes` of the clip; empty in live mode."""
    source: str
    """Digest of all source frames; empty where it is not known."""
    chunks: tuple[tuple[int, int, int], ...]
    """Index, first frame and number of frames of each outward chunk."""
    digests: tuple[str, ...]
    """Of the frames from `skip` on; none where there was no time to make them."""

    @property
    def key(self) -> tuple[int, int, int]:
        """What tells it from all others: a window that is made again has the same."""
        return self.run, self.index, self.first

    def chunk_of(self, frame: int) -> int:
        """Returns the outward chunk that a frame of the run is in; -1 if it is in none."""
        inside = (index for index, first, frames in self.chunks if first <= frame < first + frames)
        return next(inside, -1)


@dataclass(frozen=True, slots=True)
class Reference(Record):
    """A picture that was shown, for who cannot make the same bits."""

    KIND: ClassVar[str] = "reference"
    run: int
    frame: int
    scale: int
    """Pixels of a side that were averaged into one: 1 or 2."""
    data: str
    """The picture as I420, deflated, in base64."""


@dataclass(frozen=True, slots=True)
class Over(Record):
    """A run was given up, or the journal ends here although the session does not."""

    KIND: ClassVar[str] = "over"
    run: int
    why: str
    """`reset`, `full` (nothing more is written of this run) or `gap` (something is missing)."""


KINDS: Final = {
    each.KIND: each for each in (Piece, Actor, Command, Restored, Window, Reference, Over)
}


def prompt_of(session_id: str, prompt: str, *, content: bool) -> dict[str, str]:
    """Returns a prompt as a journal has it."""
    told = {"digest": prompt_digest(session_id, prompt)}
    return {**told, "text": prompt} if content else told


def earlier_of(
    session_id: str, earlier: Iterable[Share], *, content: bool
) -> tuple[dict[str, Any], ...]:
    """Returns what is still seen of earlier prompts as a journal has it."""
    return tuple(
        {**prompt_of(session_id, each.prompt, content=content), "share": each.share}
        for each in earlier
    )


def read(lines: Iterable[bytes]) -> Iterator[Record]:
    """Yields the records of a journal.

    Raises:
        JournalError: A line is none of a journal; the text says which, and what is wrong.
    """
    number = 0
    for number, line in enumerate(lines, start=1):
        try:
            record = _record(line, number)
        except JournalError as error:
            raise JournalError(f"not a journal: line {number}: {error}") from None
        yield record
    if number == 0:
        raise JournalError("not a journal: the file is empty")


def _object(line: bytes, number: int) -> dict[str, Any]:
    if number > MOST_LINES:
        raise JournalError("there are too many")
    if len(line) > MOST_LINE_BYTES:
        raise JournalError("it is too long")
    if not line.endswith(b"\n"):
        raise JournalError("it is cut short")
    try:
        told = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise JournalError("it is no JSON") from None
    if not isinstance(told, dict):
        raise JournalError("it is no object")
    return told


def _record(line: bytes, number: int) -> Record:
    told = _object(line, number)
    kind = KINDS.get(str(told.pop("kind", "")))
    if kind is None:
        raise JournalError("its kind is unknown")
    if kind is Piece and told.get("version") != VERSION:
        raise JournalError(f"it is of another version; this one reads version {VERSION}")
    checks = _CHECKS[kind.KIND]
    if told.keys() != checks.keys():
        raise JournalError(f"a {kind.KIND} line has other fields")
    for name, check in checks.items():
        if not check(told[name]):
            raise JournalError(f"its {name} makes no sense")
    values = {name: _frozen(value) for name, value in told.items()}
    record: Record = cast(Any, kind)(**values)
    if number == 1 and not isinstance(record, Piece):
        raise JournalError("no journal begins so")
    if isinstance(record, Window):
        _check_window(record)
    return record


def _check_window(window: Window) -> None:
    if window.digests and len(window.digests) != max(0, window.frames - window.skip):
        raise JournalError("it has more or fewer digests than frames")
    if window.skip > window.frames:
        raise JournalError("it leaves out more frames than there are")
    if not window.live and not window.clip:
        raise JournalError("it names no clip")


def _no_constant(_: str) -> None:
    raise ValueError


def _frozen(value: object) -> object:
    if isinstance(value, list):
        return tuple(_frozen(each) for each in value)
    return value


def _whole(least: int, most: int) -> Any:  # noqa: ANN401 - a predicate
    return lambda value: type(value) is int and least <= value <= most


def _text(most: int) -> Any:  # noqa: ANN401
    return lambda value: isinstance(value, str) and len(value) <= most


def _hex(size: int, *, empty: bool = False) -> Any:  # noqa: ANN401
    def check(value: object) -> bool:
        if not isinstance(value, str) or (value == "" and not empty):
            return False
        return value == "" or (len(value) == 2 * size and set(value) <= set("0123456789abcdef"))

    return check


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_rate(value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(cast(float, value)) and 0 < cast(float, value) <= 1000


def _texts(most: int) -> Any:  # noqa: ANN401
    def check(value: object) -> bool:
        return (
            isinstance(value, dict)
            and len(value) <= most
            and all(isinstance(each, str) and len(each) <= 4096 for each in value.values())
        )

    return check


def _is_prompt(value: object) -> bool:
    if not isinstance(value, dict) or not value.keys() <= {"digest", "text"}:
        return False
    known = _hex(PROMPT_DIGEST_BYTES)(value.get("digest"))
    return bool(known and _text(100_000)(value.get("text", "")))


def _is_earlier(value: object) -> bool:
    return isinstance(value, list) and len(value) <= 16 and all(map(_is_share, value))


def _is_share(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("share"), float):
        return False
    rest = {name: each for name, each in value.items() if name != "share"}
    return 0 < value["share"] < 1 and _is_prompt(rest)


def _is_clip(value: object) -> bool:
    if value == {}:
        return True
    return (
        isinstance(value, dict)
        and value.keys() == {"frames", "width", "height", "bytes"}
        and all(_whole(0, 2**53)(each) for each in value.values())
    )


def _are_chunks(value: object) -> bool:
    return isinstance(value, list) and len(value) <= MOST_FRAMES and all(map(_is_chunk, value))


def _is_chunk(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_whole(0, 2**31)(n) for n in value)


def _are_digests(value: object) -> bool:
    is_digest = _hex(DIGEST_BYTES)
    return isinstance(value, list) and len(value) <= MOST_FRAMES and all(map(is_digest, value))


def _is_arguments(value: object) -> bool:
    return isinstance(value, dict) and len(value) <= 16


_COUNT: Final = _whole(0, 2**31)
_SIDE: Final = _whole(2, MOST_SIDE)
_SIZE: Final = _whole(1, MOST_FRAMES)
_NAME: Final = _text(128)
_CHECKS: Final[Mapping[str, Mapping[str, Any]]] = {
    "journal": {
        "version": _COUNT,
        "session": lambda value: _NAME(value) and value != "",
        "epoch": _COUNT,
        "piece": _COUNT,
        "content": _is_flag,
    },
    "actor": {
        "model": _NAME,
        "options": _texts(64),
        "width": _SIDE,
        "height": _SIDE,
        "frame_rate": _is_rate,
        "first_window": _SIZE,
        "window": _SIZE,
        "environment": _texts(64),
    },
    "command": {"name": _NAME, "run": _COUNT, "chunk": _COUNT, "arguments": _is_arguments},
    "restored": {"run": _COUNT, "windows": _whole(-1, 2**31)},
    "window": {
        "run": _COUNT,
        "index": _COUNT,
        "first": _whole(-(2**31), 2**31),
        "source_frames": _SIZE,
        "answers_from": _whole(-(2**31), 2**31),
        "frames": _whole(0, MOST_FRAMES),
        "skip": _whole(0, MOST_FRAMES),
        "seed": _whole(0, 2**53),
        "prompt": _is_prompt,
        "earlier": _is_earlier,
        "steps": _whole(0, 4096),
        "batch": _whole(1, 4096),
        "last": _is_flag,
        "live": _is_flag,
        "clip": _is_clip,
        "source": _hex(DIGEST_BYTES, empty=True),
        "chunks": _are_chunks,
        "digests": _are_digests,
    },
    "reference": {
        "run": _COUNT,
        "frame": _COUNT,
        "scale": _whole(1, 2),
        "data": _text(MOST_LINE_BYTES),
    },
    "over": {"run": _COUNT, "why": lambda value: value in ("reset", "full", "gap")},
}
