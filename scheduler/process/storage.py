"""Where uploads, snapshots and probe objects lie.

A storage is a plugin of the group `sana_gateway.storage`. The gateway writes an upload
piece by piece; the actor fetches the whole into a file of its own. An object exists
once it is complete, and never changes after that.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import re
import secrets
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, ParamSpec, Protocol, TypeVar, runtime_checkable

from scheduler.core.errors import SanaGatewayError
from scheduler.process.threads import MeasuredThreads

_P = ParamSpec("_P")
_R = TypeVar("_R")

THREADS: Final = 4
"""Threads of one storage for disk work; further calls wait for one."""
SMALL: Final = 1 << 20
"""Most bytes of an object that `put` takes and `get` returns."""

_PIECE: Final = 1 << 20
_SEGMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_DEPTH: Final = 8
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_WRITE: Final = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class StorageError(SanaGatewayError):
    """A storage refused or failed. The text never contains the key."""


@runtime_checkable
class Storage(Protocol):
    """Objects by key. Keys look like `session/upload`: segments of letters, digits, `.`, `_`
    and `-` that begin with a letter or digit. Every method raises `StorageError`.
    """

    async def create(self, key: str, size: int) -> None:
        """Begins an object of `size` bytes, at least 1. It must not exist."""

    async def append(self, key: str, offset: int, data: bytes) -> None:
        """Adds bytes to an object begun through this very instance.

        The object exists from the moment its last byte was added.

        Args:
            key: The object.
            offset: Bytes added so far; anything else is refused.
            data: At most as many as are still missing.
        """

    async def fetch(self, key: str, into: int) -> int:
        """Copies an object to the position of an open file descriptor; returns its size.

        The descriptor stays the caller's, who may close it at any time.
        """

    async def exists(self, key: str) -> bool:
        """Tells whether there is such a complete object."""

    async def link(self, key: str, to: str) -> None:
        """Makes a complete object appear under another key too, which lives on its own: the
        object is gone when both are. What is there already stays.
        """

    async def delete(self, prefix: str) -> None:
        """Removes the object of this key, or every object below it, complete or not.

        Removing what is not there is no error.
        """

    async def names(self, prefix: str, after: str, limit: int) -> list[str]:
        """Returns the names of what lies directly below a prefix, or below none (``""``), objects
        and further prefixes, in order: the first `limit` of those that come after `after`.
        """

    async def newest(self, prefix: str) -> float | None:
        """Returns when an object below a prefix was last written, in seconds since 1970 by the
        storage's clock; None where there is none.
        """

    async def put(self, key: str, data: bytes) -> None:
        """Writes a whole object of at most `SMALL` bytes; replaces one of the same key."""

    async def get(self, key: str) -> bytes:
        """Returns a whole object of at most `SMALL` bytes."""

    async def close(self) -> None:
        """Ends what the storage runs; objects begun and not completed are lost."""


@dataclass(slots=True)
class _Growing:
    """An object being written; `lock` is held while a thread writes."""

    size: int
    part: str
    """Name of the file until it is complete; hidden, so never a key."""
    written: int = 0
    gone: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class FilesystemStorage:
    """Objects as files below one directory, which all processes that share them mount.

    Paths are opened segment by segment and symbolic links are never followed, so that no key
    and nobody else's link leads out of the directory. Files appear by renaming, complete or
    not at all; they survive a crash of the process but are not forced to disk.
    """

    def __init__(self, root: str | Path) -> None:
        """Stores the directory; it is made when first needed.

        Args:
            root: The directory. It alone may be reached through symbolic links.
        """
        self._root = Path(root)
        self._growing: dict[str, _Growing] = {}
        self._closed = False
        self._threads = MeasuredThreads(THREADS, "storage")

    async def create(self, key: str, size: int) -> None:
        """Begins an object; see `Storage`."""
        segments = segments_of(key)
        if size < 1:
            raise StorageError("an object has at least one byte")
        if key in self._growing:
            raise StorageError("the object is being written already")
        growing = _Growing(size, part=_hidden(segments[-1]))
        self._growing[key] = growing
        try:
            await self._run(self._create, segments, growing)
        except BaseException:
            self._growing.pop(key, None)
            raise

    async def append(self, key: str, offset: int, data: bytes) -> None:
        """Adds bytes to an object; see `Storage`."""
        segments = segments_of(key)
        growing = self._growing.get(key)
        if growing is None:
            raise StorageError("the object is not being written here")
        await self._run(self._append, segments, growing, offset, data)
        if growing.written == growing.size:
            self._growing.pop(key, None)

    async def fetch(self, key: str, into: int) -> int:
        """Copies an object into a file; see `Storage`."""
        segments = segments_of(key)
        self._refuse_closed()
        # The thread goes on when the caller is cancelled. With a descriptor of its own it never
        # writes to another file that got the caller's number meanwhile.
        own = os.dup(into)
        copying = self._threads.submit(self._fetch, segments, own)
        copying.add_done_callback(lambda _: os.close(own))
        return await _worded(copying)

    async def exists(self, key: str) -> bool:
        """Tells whether an object is complete; see `Storage`."""
        return await self._run(self._exists, segments_of(key))

    async def link(self, key: str, to: str) -> None:
        """Makes an object appear under another key; see `Storage`."""
        await self._run(self._link, segments_of(key), segments_of(to))

    async def delete(self, prefix: str) -> None:
        """Removes objects; see `Storage`."""
        segments = segments_of(prefix)
        below = prefix + "/"
        doomed = [key for key in self._growing if key == prefix or key.startswith(below)]
        growing = [self._growing.pop(key) for key in doomed]
        await self._run(self._delete, segments, growing)

    async def names(self, prefix: str, after: str, limit: int) -> list[str]:
        """Lists what lies below a prefix; see `Storage`."""
        segments = segments_of(prefix) if prefix else ()
        return await self._run(self._names, segments, after, limit)

    async def newest(self, prefix: str) -> float | None:
        """Tells when something below a prefix was last written; see `Storage`."""
        return await self._run(self._newest, segments_of(prefix))

    async def put(self, key: str, data: bytes) -> None:
        """Writes a small object; see `Storage`."""
        segments = segments_of(key)
        if len(data) > SMALL:
            raise StorageError(f"an object written at once has at most {SMALL} bytes")
        await self._run(self._put, segments, data)

    async def get(self, key: str) -> bytes:
        """Returns a small object; see `Storage`."""
        return await self._run(self._get, segments_of(key))

    async def close(self) -> None:
        """Ends the threads; see `Storage`."""
        self._closed = True
        self._growing.clear()
        await asyncio.to_thread(self._threads.shutdown)

    async def _run(self, work: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Runs disk work on a thread."""
        self._refuse_closed()
        return await _worded(self._threads.submit(work, *args, **kwargs))

    def _refuse_closed(self) -> None:
        if self._closed:
            raise StorageError("the storage is closed")

    def _create(self, segments: tuple[str, ...], growing: _Growing) -> None:
        with self._folder(segments, make=True) as folder:
            if _is_object(folder, segments[-1]):
                raise StorageError("the object exists already")
            os.close(_new(folder, growing.part))

    def _append(
        self, segments: tuple[str, ...], growing: _Growing, offset: int, data: bytes
    ) -> None:
        with growing.lock, self._folder(segments) as folder:
            if growing.gone:
                raise StorageError("the object was deleted")
            if offset != growing.written:
                raise StorageError(f"{growing.written} bytes are there, not {offset}")
            if len(data) > growing.size - growing.written:
                raise StorageError(f"the object has only {growing.size} bytes")
            part = os.open(growing.part, _WRITE, dir_fd=folder)
            try:
                # A write that failed half-way is written over by the next try.
                os.lseek(part, offset, os.SEEK_SET)
                _write_all(part, data)
            finally:
                os.close(part)
            if growing.written + len(data) == growing.size:
                os.rename(growing.part, segments[-1], src_dir_fd=folder, dst_dir_fd=folder)
            growing.written += len(data)

    def _fetch(self, segments: tuple[str, ...], into: int) -> int:
        with self._object(segments) as source:
            copied = 0
            while piece := os.read(source, _PIECE):
                _write_all(into, piece)
                copied += len(piece)
            return copied

    def _exists(self, segments: tuple[str, ...]) -> bool:
        try:
            with self._folder(segments) as folder:
                return _is_object(folder, segments[-1])
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _link(self, segments: tuple[str, ...], to: tuple[str, ...]) -> None:
        name = segments[-1]
        with self._folder(to, make=True) as target:
            if _is_object(target, to[-1]):
                return
            with self._folder(segments) as source:
                if not _is_object(source, name):
                    raise StorageError("there is no such object")
                os.link(name, to[-1], src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)

    def _delete(self, segments: tuple[str, ...], growing: list[_Growing]) -> None:
        for each in growing:
            with each.lock:
                each.gone = True
        # Unfinished objects below the prefix go with their folder; one that is the prefix itself
        # lies beside it.
        doomed = {segments[-1], *(each.part for each in growing)}
        with suppress(FileNotFoundError, NotADirectoryError), self._folder(segments) as folder:
            for name in doomed:
                _remove(folder, name)

    def _names(self, segments: tuple[str, ...], after: str, limit: int) -> list[str]:
        try:
            # As if for something in it, so that the folder itself is the last to be opened.
            with self._folder((*segments, "")) as folder, os.scandir(folder) as entries:
                # What is hidden is not complete.
                later = (each.name for each in entries if each.name > after)
                return heapq.nsmallest(limit, (n for n in later if not n.startswith(".")))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _newest(self, segments: tuple[str, ...]) -> float | None:
        try:
            with self._folder((*segments, "")) as folder:
                return _newest_below(folder)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _put(self, segments: tuple[str, ...], data: bytes) -> None:
        with self._folder(segments, make=True) as folder:
            part = _hidden(segments[-1])
            file = _new(folder, part)
            try:
                _write_all(file, data)
                os.rename(part, segments[-1], src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                os.unlink(part, dir_fd=folder)
                raise
            finally:
                os.close(file)

    def _get(self, segments: tuple[str, ...]) -> bytes:
        with self._object(segments) as source:
            if os.fstat(source).st_size > SMALL:
                raise StorageError(f"the object has more than {SMALL} bytes")
            pieces = iter(lambda: os.read(source, _PIECE), b"")
            return b"".join(pieces)

    @contextmanager
    def _folder(self, segments: tuple[str, ...], *, make: bool = False) -> Iterator[int]:
        """Opens the folder that holds the last segment, following no link below the root."""
        if make:
            self._root.mkdir(parents=True, exist_ok=True)
        folder = os.open(self._root, _DIRECTORY & ~os.O_NOFOLLOW)
        try:
            for segment in segments[:-1]:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(segment, dir_fd=folder)
                inner = os.open(segment, _DIRECTORY, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)

    @contextmanager
    def _object(self, segments: tuple[str, ...]) -> Iterator[int]:
        """Opens a complete object for reading."""
        try:
            with self._folder(segments) as folder:
                source = os.open(segments[-1], _READ, dir_fd=folder)
        except OSError as error:
            # Missing, a link or a folder: for the caller all the same.
            raise StorageError("there is no such object") from error
        try:
            if not stat.S_ISREG(os.fstat(source).st_mode):
                raise StorageError("there is no such object")
            yield source
        finally:
            os.close(source)


async def _worded(work: Future[_R]) -> _R:
    """Awaits work on a thread and words the errors of the operating system."""
    try:
        return await asyncio.wrap_future(work)
    except OSError as error:
        # The text of an OSError quotes the path.
        raise StorageError(f"the storage failed: {error.strerror}") from None


def segments_of(key: str) -> tuple[str, ...]:
    """Splits a key.

    Raises:
        StorageError: It could lead elsewhere.
    """
    segments = tuple(key.split("/"))
    if len(segments) > _DEPTH or not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise StorageError("not a key of this storage")
    return segments


def _hidden(name: str) -> str:
    """Names a file that is not complete: no key begins with a dot."""
    return f".{name[:64]}.{secrets.token_hex(8)}"


def _new(folder: int, name: str) -> int:
    return os.open(name, _WRITE | os.O_CREAT | os.O_EXCL, 0o660, dir_fd=folder)


def _is_object(folder: int, name: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _newest_below(folder: int) -> float | None:
    """Returns when a file of an open folder, or of one below, was last written."""
    newest: float | None = None
    for _, _, files, inner in os.fwalk(".", dir_fd=folder):
        for name in files:
            # Others may remove it meanwhile; what grows counts, though it is no object yet.
            with suppress(FileNotFoundError):
                written = os.stat(name, dir_fd=inner, follow_symlinks=False).st_mtime
                newest = written if newest is None else max(newest, written)
    return newest


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _remove(folder: int, name: str) -> None:
    """Removes a file, a link itself, or a folder with all it holds."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        shutil.rmtree(name, dir_fd=folder)
