"""A process of ours that this one starts, hears from, and never leaves behind.

The child announces itself on a pipe of its own, one JSON object a line, as standard
output belongs to whatever libraries print there. It ends when its standard input does,
so that none outlives a parent that was killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from scheduler.core.errors import SanaGatewayError

STOP_S = 30.0
"""How long a child may take to end in order before it is killed with all that it started."""


class ChildError(SanaGatewayError):
    """A child did not come up, or ended by itself."""


class SilentChildError(ChildError):
    """A child runs and says nothing: it hangs."""


class ChildProcess:
    """A running child."""

    def __init__(
        self,
        name: str,
        process: asyncio.subprocess.Process,
        announcements: asyncio.StreamReader,
        pipe: asyncio.BaseTransport,
    ) -> None:
        """Wraps a process; see `start`."""
        self._name = name
        self._process = process
        self._announcements = announcements
        self._pipe = pipe
        self._has_announced = False

    @classmethod
    async def start(cls, name: str, words: Sequence[str], told: bytes = b"") -> ChildProcess:
        """Starts a Python process.

        Args:
            name: What it is, for errors.
            words: Arguments of the interpreter; `--announce-fd N` is added.
            told: What it reads first on its standard input, which stays open.
        """
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *words,
                "--announce-fd",
                str(writing),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(writing,),
                # Ctrl-C is for the parent, which then ends its children in its own order.
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        reader = asyncio.StreamReader()
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb")
        )
        if told and process.stdin is not None:
            process.stdin.write(told)
        return cls(name, process, reader, pipe)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def tell(self, words: bytes) -> None:
        """Writes to its standard input. A child that has ended does not hear it."""
        if self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(words)

    async def heard(self, within_s: float) -> dict[str, Any]:
        """Returns what it announces next, of a child that announces something now and then.

        Args:
            within_s: The longest silence. It is granted twice: the first may have been ours,
                where this process itself was not running.

        Raises:
            SilentChildError: It says nothing.
            ChildError: As of `announced`.
        """
        for _ in range(2):
            with suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    return await self.announced()
        raise SilentChildError(f"{self._name} hangs: it said nothing for {2 * within_s:g} s")

    async def announced(self) -> dict[str, Any]:
        """Returns what it announces next.

        Raises:
            ChildError: It ended instead, or closed the pipe; its own words are on standard error.
        """
        line = await self._announcements.readline()
        if not line:
            code = await self._process.wait()
            what = "ended by itself" if self._has_announced else "did not start"
            raise ChildError(f"{self._name} {what} (exit status {code})")
        self._has_announced = True
        announcement: dict[str, Any] = json.loads(line)
        return announcement

    async def wait(self) -> None:
        """Returns never, unless the child ends by itself.

        Raises:
            ChildError: It has.
        """
        code = await self._process.wait()
        raise ChildError(f"{self._name} ended by itself (exit status {code})")

    async def stop(self, patience_s: float = STOP_S) -> None:
        """Ends the child and all that it started. Repeating it is no error.

        Args:
            patience_s: How long it may take to end in order.
        """
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(patience_s):
                    await self._process.wait()
            except TimeoutError:
                os.killpg(self._process.pid, signal.SIGKILL)
                await self._process.wait()
        self._pipe.close()
