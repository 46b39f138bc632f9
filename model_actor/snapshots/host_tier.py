"""Kept states as files in the memory of the host, owned by no process.

A state that is being written has a hidden name; it gets its own by renaming, so that a reader
never meets half of one and the state before it stays until then. The name tells the session's
key, the epoch, the run and the windows. Epochs fence without locks, which a stopped process
would hold for ever: who holds a lease of a lower epoch writes beside what a higher one has
written, and never over it.

The files hold prompts: the folder is the user's alone (0700), and so are they (0600).
Every method blocks, and belongs on a thread.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from model_actor.snapshots.kept import BEGINNING, DAY_S, KeptState, Point, parse, pieces
from scheduler.core.errors import SanaGatewayError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
TORN_S = 600.0
"""A hidden file this old was left by a process that died at it."""


class HostTierError(SanaGatewayError):
    """The folder cannot be used. The text names no session."""


@dataclass(frozen=True, slots=True)
class _File:
    point: Point
    size: int
    inode: int
    written_at: float


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
        if not self._make_room(state.size, {*own, point.key}):
            return False
        hidden = f".{os.getpid()}.{secrets.token_hex(8)}"
        file = os.open(hidden, _NEW, 0o600, dir_fd=self._folder)
        try:
            try:
                for piece in pieces(state):
                    _write_all(file, piece)
            finally:
                os.close(file)
            os.rename(hidden, _name(point), src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except BaseException:
            self._unlink(hidden)
            raise
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
            file = os.open(_name(point), _READ, dir_fd=self._folder)
        except OSError:
            return None
        with os.fdopen(file, "rb", buffering=0) as opened:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                return None
            state = parse(opened.read(-1 if model else BEGINNING), model=model)
        if state is None or (state.run, state.windows) != (point.run, point.windows):
            return None
        return state

    def link(self, point: Point, key: str, epoch: int) -> bool:
        """Gives a state another name, of another session or epoch; False when it is gone.

        Under both it is as if it had been written now.
        """
        other = _name(Point(key, epoch, point.run, point.windows))
        try:
            os.link(_name(point), other, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except FileExistsError:
            return True
        except FileNotFoundError:
            return False
        return self.touch([Point(key, epoch, point.run, point.windows)])

    def drop(self, points: Collection[Point]) -> None:
        """Removes states. Removing what is not there is no error."""
        for point in points:
            self._unlink(_name(point))

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
        files: dict[str, list[_File]] = {}
        for file in self._files():
            files.setdefault(file.point.key, []).append(file)
        return {
            key: sorted(file.point for file in each)
            for key, each in files.items()
            if key not in own
            and after_s <= at - max(file.written_at for file in each) < self._kept_for_s / 2
        }

    def sweep(self, own: Collection[str], now: float | None = None) -> None:
        """Removes what nobody needs any more; tells others that ours are needed.

        Args:
            own: Keys of sessions on this actor.
            now: The time of the files' clock.
        """
        at = time.time() if now is None else now
        for name in self._names():
            with contextlib.suppress(FileNotFoundError):
                age = at - os.stat(name, dir_fd=self._folder, follow_symlinks=False).st_mtime
                point = _point(name)
                if point is None:
                    if name.startswith(".") and age > TORN_S:
                        self._unlink(name)
                elif point.key in own:
                    os.utime(name, (at, at), dir_fd=self._folder, follow_symlinks=False)
                elif age > self._kept_for_s:
                    self._unlink(name)

    def _make_room(self, size: int, own: Collection[str]) -> bool:
        """Removes the oldest states of sessions that are not ours, as far as need be."""
        files = sorted(self._files(), key=lambda file: file.written_at)
        used = sum({file.inode: file.size for file in files}.values())
        ours = {file.inode for file in files if file.point.key in own}
        names = Counter(file.inode for file in files)
        for file in files:
            if used + size <= self._limit:
                break
            # What we have under another name too stays where it is, whoever else needs it.
            if file.inode not in ours:
                self._unlink(_name(file.point))
                names[file.inode] -= 1
                used -= 0 if names[file.inode] else file.size
        return used + size <= self._limit

    def _files(self) -> Iterator[_File]:
        for name in self._names():
            point = _point(name)
            if point is not None:
                with contextlib.suppress(FileNotFoundError):
                    status = os.stat(name, dir_fd=self._folder, follow_symlinks=False)
                    yield _File(point, status.st_size, status.st_ino, status.st_mtime)

    def _names(self) -> list[str]:
        with os.scandir(self._folder) as entries:
            return [entry.name for entry in entries]

    def _unlink(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._folder)


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


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
