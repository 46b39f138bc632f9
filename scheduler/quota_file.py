"""What quotas of days and months have counted, in a file that outlives the scheduler.

Written whole every few seconds while it changes, and at the end. A scheduler that is killed
loses the last of these seconds; one that is started on another machine needs the file there.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog

from scheduler.core.errors import ConfigurationError

WRITE_S: Final = 5.0
"""How often what has changed is written."""
MOST_BYTES: Final = 64 * 1024 * 1024
"""Largest file that is read."""

_log = structlog.get_logger(__name__)


class QuotaFile:
    """Keeps the counts of a scheduler.

    Args:
        path: The file; its folder exists.
        counts: Returns the counts as plain data.
        write_s: How often they are written.
    """

    def __init__(
        self, path: str, counts: Callable[[], Mapping[str, Any]], write_s: float = WRITE_S
    ) -> None:
        self._path = Path(path)
        self._counts = counts
        self._write_s = write_s
        self._written = ""

    def read(self) -> Mapping[str, Any] | None:
        """Returns the counts of the scheduler before this one; None where there was none.

        Raises:
            ConfigurationError: The file cannot be used: beginning anew would lift all quotas.
        """
        try:
            if self._path.stat().st_size > MOST_BYTES:
                raise self.unfit()
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigurationError(
                f"what was counted cannot be read ({self._path}: {error.strerror})"
            ) from None
        except ValueError:
            raise self.unfit() from None
        if not isinstance(content, dict):
            raise self.unfit()
        return content

    def unfit(self) -> ConfigurationError:
        """Returns what is wrong with a file of another form."""
        return ConfigurationError(
            f"{self._path} holds no counts of quotas; remove it to count from nothing"
        )

    async def run(self) -> None:
        """Writes what changes, until cancelled."""
        while True:
            await asyncio.sleep(self._write_s)
            await self._write()

    async def close(self) -> None:
        """Writes the last of it."""
        await self._write()

    async def _write(self) -> None:
        text = json.dumps(self._counts())
        if text == self._written:
            return
        try:
            await asyncio.to_thread(_replace, self._path, text)
        except OSError as error:
            # The service goes on: counts are lost only if the scheduler ends before the next try.
            _log.error("quotas.not_written", reason=error.strerror)
        else:
            self._written = text


def _replace(path: Path, text: str) -> None:
    """Puts a content in the place of a file, whole, and readable by this user alone."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as fresh:
        try:
            fresh.write(text)
            fresh.flush()
            os.fsync(fresh.fileno())
            Path(fresh.name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(fresh.name).unlink()
            raise
