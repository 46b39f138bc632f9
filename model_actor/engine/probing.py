"""Examining an uploaded clip for a session: one at a time, the latest wins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from model_actor.engine.sources import StagedClip, open_clip
from model_actor.media.errors import ClipRefusedError
from model_actor.media.workers import DecodeWorkers
from model_actor.plugin import ModelInfo
from scheduler.core.commands import FileRef
from scheduler.core.errors import LimitError
from scheduler.process.storage import Storage, StorageError

log = structlog.get_logger(__name__)

PROBE_S = 10.0
"""Longest time to fetch and probe a clip; probing alone may take 8 s."""

Accepted = Callable[[int, StagedClip], bool]
"""Takes the ticket and the clip; False: it is not wanted any more."""
Refused = Callable[[int, str], None]
"""Takes the ticket and the reason."""


class ClipProbe:
    """Fetches and opens clips, and says what has become of each."""

    def __init__(
        self,
        session_id: str,
        storage: Storage,
        workers: DecodeWorkers,
        info: ModelInfo,
        *,
        accepted: Accepted,
        refused: Refused,
    ) -> None:
        """Prepares; exactly one of `accepted` and `refused` is called for every probe that
        is not superseded.
        """
        self._session_id = session_id
        self._storage = storage
        self._workers = workers
        self._info = info
        self._accepted = accepted
        self._refused = refused
        self._latest: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, ticket: int, video: FileRef) -> None:
        """Examines an upload; one under way is of no use to anybody, and given up."""
        if self._latest is not None:
            self._latest.cancel()
        self._latest = asyncio.create_task(self._run(ticket, video))
        self._tasks.add(self._latest)
        self._latest.add_done_callback(self._ended)

    async def close(self) -> None:
        """Gives up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, ticket: int, video: FileRef) -> None:
        key = f"{self._session_id}/{video.upload_id}"
        try:
            async with asyncio.timeout(PROBE_S):
                clip = await open_clip(self._storage, self._workers, key, self._info)
        except (ClipRefusedError, LimitError) as error:
            reason = str(error)
        except TimeoutError:
            reason = f"fetching and probing took longer than {PROBE_S:.0f} s"
        except StorageError:
            reason = "the upload is unknown or not complete; upload the file again"
        except Exception as error:  # the client must have an answer, whatever it was
            log.warning("probe.failed", session_id=self._session_id, error=type(error).__name__)
            reason = "the clip cannot be decoded"
        else:
            if not self._accepted(ticket, clip):
                await clip.decoder.close()
            return
        self._refused(ticket, reason)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("probe.broken", session_id=self._session_id, error=type(error).__name__)
