"""Files that are whole or not there, in a folder that processes share.

What is being written has a hidden name, and gets its own by renaming: a reader never meets half
of it, and a process that is killed leaves what was there before as it was.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OVER = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def claim(folder: int, spare: str) -> str | None:
    """Takes a file that may be written over, under a hidden name; None when there is none.

    Of those that try, one gets it. One that has a second name is of use to somebody, and is
    left to that name.
    """
    hidden = _hidden()
    try:
        os.rename(spare, hidden, src_dir_fd=folder, dst_dir_fd=folder)
    except FileNotFoundError:
        return None
    if os.stat(hidden, dir_fd=folder, follow_symlinks=False).st_nlink == 1:
        return hidden
    unlink(folder, hidden)
    return None


@contextlib.contextmanager
def replacing(folder: int, name: str, *, over: str | None = None) -> Iterator[int]:
    """Opens a file that gets a name at the end, in place of what had it.

    Args:
        folder: Descriptor of the folder.
        name: What it is to be called.
        over: A file to be written over, as `claim` returned it; without one it is a new one.
            What is behind the end of what was written must be cut off.

    Raises:
        OSError: It cannot be written; nothing has changed.
    """
    hidden = over or _hidden()
    file = os.open(hidden, _OVER if over else _NEW, 0o600, dir_fd=folder)
    try:
        try:
            yield file
        finally:
            os.close(file)
        os.rename(hidden, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        unlink(folder, hidden)
        raise


def unlink(folder: int, name: str) -> None:
    """Removes a file; one that is not there is no error."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def write_all(file: int, data: bytes | memoryview) -> None:
    """Writes all of it."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def read_all(file: int, into: memoryview, at: int) -> bool:
    """Reads as much as there is room for; False when the file ends before."""
    while into:
        count = os.preadv(file, [into], at)
        if not count:
            return False
        into, at = into[count:], at + count
    return True


def _hidden() -> str:
    return f".{os.getpid()}.{secrets.token_hex(8)}"
