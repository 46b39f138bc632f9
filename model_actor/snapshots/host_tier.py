"""Kept states as files in the memory of the host, owned by no process.

A state that is being written has a hidden name; it gets its own by renaming, so that a reader
never meets half of one and the state before it stays until then. The name tells the session's
key, the epoch, the run and the windows. Epochs fence without locks, which a stopped process
would hold for ever: who holds a lease of a lower epoch writes beside what a higher one has
written, and never over it.

Of a large state, what never changes is written once, to a file of its own. A large file that is
needed no longer becomes the session's spare, and the next state is written over it: two files
take turns, and their memory is not given back and asked for again each time.

The files hold prompts: the folder is the user's alone (0700), and so are they (0600).
Every method blocks, and belongs on a thread.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from model_actor.plugin import SnapshotParts
from model_actor.snapshots import files
from model_actor.snapshots.constant_parts import ConstantParts, part_name
from model_actor.snapshots.kept import (
    BEGINNING,
    DAY_S,
    Begun,
    Elsewhere,
    KeptState,
    Point,
    beginning,
    begun,
    pieces,
)
from scheduler.core.errors import SanaGatewayError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
TORN_S = 600.0
"""A hidden file this old was left by a process that died at it, or is a spare of nobody."""
SPARE_BYTES = 1 << 24
"""Files of this size and larger are written over rather than removed and made anew."""
_SPARE = ".spare"


class HostTierError(SanaGatewayError):
    """The folder cannot be used. The text names no session."""


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    key: str
    """Of its session."""
    point: Point | None
    """None: it is a part, or a spare."""
    size: int
    inode: int
    written_at: float

    @property
    def is_spare(self) -> bool:
        return self.name.startswith(".")


class HostTier:
    """The kept states in one folder, shared by the actors of a service on one host."""

    def __init__(self, folder: Path, limit_bytes: int, *, kept_for_s: float = DAY_S) -> None:
        """Makes the folder, or checks the one that is there.

        Args:
            folder: Where; best on a tmpfs.
            limit_bytes: Most bytes of all files together; 0: as many as the folder takes.
            kept_for_s: How long a file is kept after it was written or touched.

        Raises:
            HostTierError: It cannot be made, or others may read it.
        """
        self._limit = limit_bytes or sys.maxsize
        self._kept_for_s = kept_for_s
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder = os.open(folder, _DIRECTORY)
        except OSError as error:
            raise HostTierError(f"no folder for snapshots: {error.strerror}") from None
        status = os.fstat(self._folder)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            os.close(self._folder)
            raise HostTierError("the folder for snapshots is open to others")
        self._parts = ConstantParts(self._folder)

    def close(self) -> None:
        """Lets go of the folder; the files stay."""
        os.close(self._folder)

    def write(self, point: Point, state: KeptState, *, own: Collection[str] = ()) -> bool:
        """Writes a state.

        Args:
            point: What it is known by.
            state: The state.
            own: Keys of sessions on this actor: theirs never make room.

        Returns:
            False when there is no room.
        """
        model = state.model if isinstance(state.model, SnapshotParts) else None
        constant = {} if model is None else model.constant
        elsewhere = tuple(Elsewhere(name, part.size) for name, part in constant.items())
        there = {each.name for each in elsewhere if self._parts.there(point.key, each)}
        spare = None
        if state.model_size >= SPARE_BYTES:
            spare = files.claim(self._folder, _spare(point.key))
        size = state.size - sum(each.size for each in elsewhere if each.name in there)
        if not self._make_room(size, {*own, point.key}):
            if spare is not None:
                self._unlink(spare)
            return False
        for name in constant.keys() - there:
            self._parts.write(point.key, name, constant[name])
        with files.replacing(self._folder, _name(point), over=spare) as file:
            if model is None:
                end = sum(_written(file, piece) for piece in pieces(state))
            else:
                end = _write_parted(file, state, model, elsewhere)
            os.ftruncate(file, end)
        # Another process may have taken one for a part that nothing names.
        for name in there:
            if not self._parts.there(point.key, Elsewhere(name, constant[name].size)):
                self._parts.write(point.key, name, constant[name])
        return True

    def points(self, key: str) -> list[Point]:
        """Returns what is kept of a session."""
        points = (_point(name) for name in self._names())
        return sorted(point for point in points if point is not None and point.key == key)

    def read(self, point: Point, *, model: bool = True) -> KeptState | None:
        """Returns a state; None when it is not there, or not whole.

        Args:
            point: Which.
            model: Whether with the model's part; without, that part may be torn.
        """
        try:
            file = os.open(_name(point), files.READ, dir_fd=self._folder)
        except OSError:
            return None
        with os.fdopen(file, "rb", buffering=0) as opened:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                return None
            first = begun(opened.read(BEGINNING))
            if first is None or (first.state.run, first.state.windows) != point[2:]:
                return None
            return self._with_model(file, point.key, first) if model else first.state

    def link(self, point: Point, key: str, epoch: int) -> bool:
        """Gives a state another name, of another session or epoch; False when it is gone.

        Under both it is as if it had been written now.
        """
        other = _name(Point(key, epoch, point.run, point.windows))
        if key != point.key and not self._parts.link(point.key, key, self._elsewhere(point)):
            return False
        try:
            os.link(_name(point), other, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except FileExistsError:
            return True
        except FileNotFoundError:
            return False
        return self.touch([Point(key, epoch, point.run, point.windows)])

    def drop(self, points: Collection[Point], *, reuse: bool = False) -> None:
        """Removes states. Removing what is not there is no error.

        Args:
            points: Which.
            reuse: Whether more of the same session will be written soon: over one of these.
        """
        for point in points:
            if not (reuse and self._spared(point)):
                self._unlink(_name(point))
        for key in {point.key for point in points}:
            self._drop_unneeded(key)

    def touch(self, points: Collection[Point], now: float | None = None) -> bool:
        """States are needed still: they are as if written now; False when one is gone."""
        at = time.time() if now is None else now
        try:
            for point in points:
                os.utime(_name(point), (at, at), dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def expire(self, points: Collection[Point], after_s: float, now: float | None = None) -> None:
        """Lets states be swept after so many seconds, unless somebody writes or takes them."""
        at = (time.time() if now is None else now) - self._kept_for_s + after_s
        for point in points:
            self.touch([point], at)

    def forsaken(
        self, own: Collection[str], after_s: float, now: float | None = None
    ) -> dict[str, list[Point]]:
        """Returns what nobody has written or touched for so many seconds, by key, oldest first.

        States of live sessions are touched by every sweep of their actor; those that are to
        expire are left alone.
        """
        at = time.time() if now is None else now
        found: dict[str, list[tuple[Point, float]]] = {}
        for file in self._files():
            if file.point is not None:
                found.setdefault(file.key, []).append((file.point, file.written_at))
        return {
            key: sorted(point for point, _ in each)
            for key, each in found.items()
            if key not in own
            and after_s <= at - max(written_at for _, written_at in each) < self._kept_for_s / 2
        }

    def sweep(self, own: Collection[str], now: float | None = None) -> None:
        """Removes what nobody needs any more; tells others that ours are needed.

        Args:
            own: Keys of sessions on this actor.
            now: The time of the files' clock.
        """
        at = time.time() if now is None else now
        names = self._names()
        with_states = {point.key for point in map(_point, names) if point is not None}
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                age = at - os.stat(name, dir_fd=self._folder, follow_symlinks=False).st_mtime
                point, part = _point(name), part_name(name)
                known = point or part
                if known is None:
                    if name.startswith(".") and age > TORN_S:
                        self._unlink(name)
                elif known.key in own:
                    os.utime(name, (at, at), dir_fd=self._folder, follow_symlinks=False)
                elif part is not None:
                    if part.key not in with_states and age > TORN_S:
                        self._unlink(name)
                elif age > self._kept_for_s:
                    self._unlink(name)

    def _with_model(self, file: int, key: str, first: Begun) -> KeptState | None:
        """Reads the model's part of a state; None when it is not whole."""
        here = first.size or 0
        if os.fstat(file).st_size != first.begin + here:
            return None
        size = here + sum(part.size for part in first.elsewhere)
        whole = memoryview(bytearray(size))
        if not files.read_all(file, whole[:here], first.begin):
            return None
        if zlib.crc32(whole[:here]) != first.check:
            return None
        at = here
        for part in first.elsewhere:
            if not self._parts.read(key, part, whole[at : at + part.size]):
                return None
            at += part.size
        if first.size is None:
            return first.state
        # What was given as bytes is given back as bytes.
        return replace(first.state, model=whole if first.elsewhere else bytes(whole))

    def _elsewhere(self, point: Point) -> tuple[Elsewhere, ...]:
        """Returns which parts a state needs; none where it is gone."""
        try:
            file = os.open(_name(point), files.READ, dir_fd=self._folder)
        except OSError:
            return ()
        with os.fdopen(file, "rb", buffering=0) as opened:
            first = begun(opened.read(BEGINNING))
        return () if first is None else first.elsewhere

    def _spared(self, point: Point) -> bool:
        """Makes a state the spare of its session; False where it is none to be written over."""
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(_name(point), dir_fd=self._folder, follow_symlinks=False)
            if status.st_size >= SPARE_BYTES and status.st_nlink == 1:
                names = _name(point), _spare(point.key)
                os.rename(*names, src_dir_fd=self._folder, dst_dir_fd=self._folder)
                return True
        return False

    def _drop_unneeded(self, key: str) -> None:
        """Removes parts of a session that none of its states names; all, and its spare, where it
        has none.
        """
        names = self._names()
        points = [point for point in map(_point, names) if point is not None and point.key == key]
        if not points:
            self._unlink(_spare(key))
            self._parts.drop_unneeded(key, names, None)
        elif any(part.key == key for part in filter(None, map(part_name, names))):
            needed = {part.name for point in points for part in self._elsewhere(point)}
            self._parts.drop_unneeded(key, names, needed)

    def _make_room(self, size: int, own: Collection[str]) -> bool:
        """Removes spares, and the oldest states, of sessions that are not ours, as far as need
        be.
        """
        found = sorted(self._files(), key=lambda file: (not file.is_spare, file.written_at))
        used = sum({file.inode: file.size for file in found}.values())
        ours = {file.inode for file in found if file.key in own}
        names = Counter(file.inode for file in found)
        states = Counter(file.key for file in found if file.point is not None)
        for file in found:
            if used + size <= self._limit:
                break
            # What we have under another name too stays where it is, whoever else needs it.
            if file.inode in ours or not (file.is_spare or file.point):
                continue
            states[file.key] -= file.point is not None
            alone = file.point is not None and not states[file.key]
            parts = (part for part in found if part.key == file.key and not part.point)
            for gone in (file, *(part for part in parts if alone and not part.is_spare)):
                if gone.inode not in ours:
                    self._unlink(gone.name)
                    names[gone.inode] -= 1
                    used -= 0 if names[gone.inode] else gone.size
        return used + size <= self._limit

    def _files(self) -> Iterator[_File]:
        for name in self._names():
            point = _point(name)
            known = point or part_name(name)
            key = known.key if known is not None else _spare_key(name)
            if key:
                with contextlib.suppress(FileNotFoundError):
                    status = os.stat(name, dir_fd=self._folder, follow_symlinks=False)
                    yield _File(name, key, point, status.st_size, status.st_ino, status.st_mtime)

    def _names(self) -> list[str]:
        with os.scandir(self._folder) as entries:
            return [entry.name for entry in entries]

    def _unlink(self, name: str) -> None:
        files.unlink(self._folder, name)


def _name(point: Point) -> str:
    return f"{point.key}.{point.epoch}.{point.run}.{point.windows}"


def _point(name: str) -> Point | None:
    """Reads a name; None when it is none of ours."""
    key, *numbers = name.split(".")
    if (
        not key
        or len(numbers) != 3
        or not all(number.isascii() and number.isdigit() for number in numbers)
    ):
        return None
    epoch, run, windows = map(int, numbers)
    return Point(key, epoch, run, windows)


def _spare(key: str) -> str:
    return f".{key}{_SPARE}"


def _spare_key(name: str) -> str:
    """Reads the name of a spare; empty when it is none."""
    spare = name.startswith(".") and name.endswith(_SPARE)
    return name.removesuffix(_SPARE)[1:] if spare else ""


def _written(file: int, data: bytes | memoryview) -> int:
    files.write_all(file, data)
    return len(data)


def _write_parted(
    file: int, state: KeptState, model: SnapshotParts, elsewhere: tuple[Elsewhere, ...]
) -> int:
    """Writes a state whose model's part is read piece by piece; returns where it ends."""
    begin = _written(file, beginning(state, model.changing.size, 0, elsewhere))
    size = check = 0
    for piece in model.changing.pieces():
        size += _written(file, piece)
        check = zlib.crc32(piece, check)
    if size != model.changing.size:
        raise ValueError("a snapshot is not as long as it says")
    os.pwrite(file, beginning(state, size, check, elsewhere), 0)
    return begin + size
