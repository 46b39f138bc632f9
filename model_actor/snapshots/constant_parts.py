"""Parts of states that never change: each lies once on the host, beside the states that need it.

A file's name tells the key of the session and the name of the part. It is needed as long as a
state of that session names it. Little-endian: magic (8 bytes), length (8), CRC-32 (4), bytes.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import time
import zlib
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from model_actor.plugin import SnapshotPart
from model_actor.snapshots import files
from model_actor.snapshots.kept import Elsewhere

_MAGIC: Final = b"SANAPART"
_HEADER: Final = struct.Struct("<8sQI")
_NAME: Final = re.compile(r"([0-9a-f]+)\.([0-9a-z]{1,64})\.part")
GRACE_S: Final = 60.0
"""What no state names may be of one that is just being written, by another process."""


class PartName(NamedTuple):
    """What a file of a part is known by."""

    key: str
    """Of the session."""
    name: str
    """Of the part."""

    @property
    def file(self) -> str:
        """Name of its file."""
        return f"{self.key}.{self.name}.part"


def part_name(file: str) -> PartName | None:
    """Reads the name of a file; None when it is none of a part."""
    found = _NAME.fullmatch(file)
    return PartName(*found.groups()) if found else None


class ConstantParts:
    """The parts in the folder of the host tier. Every method blocks."""

    def __init__(self, folder: int) -> None:
        """Takes the descriptor of the folder."""
        self._folder = folder

    def there(self, key: str, part: Elsewhere) -> bool:
        """Whether a part lies there, whole; if so, it is as if it had been written now."""
        try:
            status = self._status(PartName(key, part.name))
            os.utime(PartName(key, part.name).file, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return status.st_size == _HEADER.size + part.size

    def write(self, key: str, name: str, part: SnapshotPart) -> None:
        """Writes a part.

        Raises:
            ValueError: The name is none, or the part is longer or shorter than it says.
            OSError: It cannot be written.
        """
        target = PartName(key, name)
        if part_name(target.file) is None:
            raise ValueError("a part's name is of 0-9 and a-z")
        with files.replacing(self._folder, target.file) as file:
            files.write_all(file, bytes(_HEADER.size))
            size = check = 0
            for piece in part.pieces():
                files.write_all(file, piece)
                size, check = size + len(piece), zlib.crc32(piece, check)
            if size != part.size:
                raise ValueError("a part is not as long as it says")
            os.pwrite(file, _HEADER.pack(_MAGIC, size, check), 0)

    def read(self, key: str, part: Elsewhere, into: memoryview) -> bool:
        """Reads a part; False when it is not there, or not whole."""
        try:
            file = os.open(PartName(key, part.name).file, files.READ, dir_fd=self._folder)
        except OSError:
            return False
        with contextlib.ExitStack() as opened:
            opened.callback(os.close, file)
            header = bytearray(_HEADER.size)
            whole = files.read_all(file, memoryview(header), 0)
            if not whole or not files.read_all(file, into, _HEADER.size):
                return False
        magic, size, check = _HEADER.unpack(header)
        return (magic, size, check) == (_MAGIC, len(into), zlib.crc32(into))

    def link(self, key: str, other: str, parts: Iterable[Elsewhere]) -> bool:
        """Gives parts to another session too; False when one is gone."""
        for part in parts:
            try:
                os.link(
                    PartName(key, part.name).file,
                    PartName(other, part.name).file,
                    src_dir_fd=self._folder,
                    dst_dir_fd=self._folder,
                )
            except FileExistsError:
                continue
            except FileNotFoundError:
                return False
        return True

    def drop_unneeded(self, key: str, there: Iterable[str], needed: Collection[str] | None) -> None:
        """Removes parts of a session that no state names.

        Args:
            key: Of the session.
            there: Names of all files of the folder.
            needed: Names of the parts that its states name; None: it has no states any more.
        """
        for part in filter(None, map(part_name, there)):
            if part.key != key or (needed is not None and part.name in needed):
                continue
            with contextlib.suppress(FileNotFoundError):
                age = time.time() - self._status(part).st_mtime
                if needed is None or age > GRACE_S:
                    files.unlink(self._folder, part.file)

    def _status(self, part: PartName) -> os.stat_result:
        return os.stat(part.file, dir_fd=self._folder, follow_symlinks=False)
