"""Clips as they are served: by any gateway that shares the storage, also after their session."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from gateway.recording.errors import ClipUnknownError
from gateway.recording.index import HEADER, Index
from gateway.recording.playlist import GOOD_FOR_S, is_signed, playlist, signature
from gateway.recording.shelf import OpenFile, Shelf
from scheduler.core.ids import Principal
from scheduler.process.storage import StorageError


@dataclass(frozen=True, slots=True)
class SignedFile:
    """A file of a recording, and who may fetch it until when."""

    session_id: str
    name: str
    until: int
    """Seconds since 1970."""
    signature: str


_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

MayUse = Callable[[Principal, str, Principal, str], None]
"""Passes when a caller may use a session, given its owner and its model; see `gateway.auth`."""


class Library:
    """The recordings in the storage, for readers."""

    def __init__(self, shelf: Shelf, may_use: MayUse, now: Callable[[], float] = time.time) -> None:
        """Takes what is kept.

        Args:
            shelf: Where recordings are kept.
            may_use: Decides who of a tenant may use what of it.
            now: Seconds since 1970.
        """
        self._shelf = shelf
        self._may_use = may_use
        self._now = now

    async def playlist(
        self,
        principal: Principal,
        session_id: str,
        start_s: float,
        end_s: float,
        address: Callable[[SignedFile], str],
    ) -> str:
        """Returns the playlist of a part of a recording.

        Args:
            principal: Who asks.
            session_id: Of which session.
            start_s: Where it begins, in the time of the recording.
            end_s: Where it ends.
            address: Where files can be fetched, relative to the playlist.

        Raises:
            ClipUnknownError: There is no such recording, or it is not of the caller's tenant.
            RequestError: The caller's token does not allow it.
            ClipPendingError: Its end is not stored yet.
            ClipGoneError: Nothing of it is kept any more.
            StorageError: The storage failed.
        """
        index = await self._found(session_id)
        if index is None or index.tenant != principal.tenant:
            raise ClipUnknownError("no such recording")
        self._may_use(principal, session_id, index.owner, index.model)
        now = self._now()
        until = int(now) + GOOD_FOR_S

        def signed(name: str) -> str:
            said = signature(index.secret, session_id, name, until)
            return address(SignedFile(session_id, name, until, said))

        def made() -> str:
            return playlist(index.clip(round(start_s * 1e6), round(end_s * 1e6), now), signed)

        # Of a long recording it is thousands of lines, each of them signed.
        return await asyncio.to_thread(made)

    @asynccontextmanager
    async def file(
        self, session_id: str, name: str, until: str, signed: str
    ) -> AsyncIterator[OpenFile]:
        """Opens a file of a recording.

        Args:
            session_id: Of which session.
            name: Of the file.
            until: As its address says it.
            signed: As its address says it.

        Raises:
            ClipUnknownError: There is none, or the address is not one that was given out, or is
                no longer good.
            ClipBusyError: Too many are open.
            StorageError: The storage failed.
        """
        index = await self._found(session_id)
        # One text for both: whoever has no address learns of no recording.
        if index is None or not is_signed(
            index.secret, session_id, name, until, signed, self._now()
        ):
            raise ClipUnknownError("no such file, or its address is no longer good")
        if name != HEADER and all(each.name != name for each in index.segments):
            raise ClipUnknownError("this file is kept no longer")
        async with AsyncExitStack() as stack:
            try:
                file = await stack.enter_async_context(self._shelf.opened(session_id, name))
            except StorageError:
                raise ClipUnknownError("this file is kept no longer") from None
            yield file

    async def _found(self, session_id: str) -> Index | None:
        return await self._shelf.index(session_id) if _ID.fullmatch(session_id) else None
