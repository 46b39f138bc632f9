"""Sessions as users of these standards know them: by id, or by a name of their own.

A program that publishes knows one URL, typed in once, and asks for it again whenever it
connects. So a user may name a stream: `~studio` is, for one tenant, the session that was made
under this name, while it lives. In every path a name may stand for a session's id.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Final

from gateway import ports
from gateway.ingress import IngressServices
from gateway.once import Once
from sana_gateway.v1 import session_pb2
from scheduler.core.errors import BadArgumentError, NoCapacityError, UnknownSessionError
from scheduler.core.ids import Principal

PLACE_S: Final = 5.0
"""How long a session may take to be placed while its client waits; OBS waits for eight."""
RETRY_S: Final = 5.0
"""When to come back for a place, where nobody can tell."""
MAX_STREAMS: Final = 4096
"""Names of this gateway; the oldest are forgotten first, their sessions live on."""

_NAME = re.compile(r"~[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

_Key = tuple[str, str]


def is_name(key: str) -> bool:
    """Tells whether a path's segment is meant as a name."""
    return key.startswith("~")


class Streams:
    """Finds and makes the sessions of publishers and players."""

    def __init__(self, services: IngressServices) -> None:
        """Knows no names yet.

        Args:
            services: The hub.
        """
        self._hub = services.hub
        self._ids = Once[_Key, str](MAX_STREAMS)
        """Ids of sessions by tenant and name."""

    async def stop(self) -> None:
        """Ends what is under way."""
        await self._ids.stop()

    async def find(self, principal: Principal, key: str) -> ports.HubSession:
        """Returns a session of the caller's tenant.

        Args:
            principal: Who asks.
            key: Its id, or its name.

        Raises:
            UnknownSessionError: No such session, or not the caller's.
        """
        if not is_name(key):
            return await self._hub.find(principal, key)
        known = await self._known(principal, key)
        if known is None:
            raise UnknownSessionError("no stream of this name")
        return known

    async def publish(self, principal: Principal, model: str, name: str) -> ports.HubSession:
        """Returns the session to publish to, which is placed; makes it where there is none.

        Args:
            principal: Who publishes.
            model: The model's name.
            name: The stream's; empty for a session that has none.

        Raises:
            BadArgumentError: The name cannot be one, or stands for a session of another model.
            UnknownModelError: The model is not served.
            NoCapacityError: No place is free now.
            SessionClosedError: The session ended meanwhile.
        """
        if name and not _NAME.fullmatch(name):
            raise BadArgumentError("a name is ~ and up to 63 letters, digits, dots and dashes")
        session = await self._known(principal, name) if name else None
        if session is None:
            session = await self._make(principal, model, name)
        if session.describe().model != model:
            raise BadArgumentError("the stream of this name has another model")
        try:
            await placed(session)
        except NoCapacityError:
            if not name:
                # Nobody knows of it: under a name the next attempt finds it, and its turn.
                await self._hub.close(principal, session.session_id, "no place is free")
            raise
        return session

    async def discard(self, principal: Principal, session: ports.HubSession) -> None:
        """Ends a session that was made for an offer which came to nothing."""
        await self._hub.close(principal, session.session_id, "its offer was refused")

    async def _make(self, principal: Principal, model: str, name: str) -> ports.HubSession:
        async def make() -> str:
            return (await self._hub.create(principal, model)).session_id

        made = await self._ids.do((principal.tenant, name), make) if name else await make()
        return await self._hub.find(principal, made)

    async def _known(self, principal: Principal, name: str) -> ports.HubSession | None:
        """Returns the session of a name, if there is one that has not ended."""
        key = (principal.tenant, name)
        if key not in self._ids:
            return None
        session_id = await self._ids.do(key, _nobody)
        with suppress(UnknownSessionError):
            session = await self._hub.find(principal, session_id)
            if session.describe().status != session_pb2.SESSION_STATUS_CLOSED:
                return session
        self._ids.forget(key)
        return None


async def placed(session: ports.HubSession) -> None:
    """Returns once a session has its place.

    Raises:
        NoCapacityError: It still waits.
        SessionClosedError: It has ended.
    """
    try:
        async with asyncio.timeout(PLACE_S):
            await session.wait_ready()
    except TimeoutError:
        estimate = session.describe().estimated_wait.ToTimedelta().total_seconds()
        raise NoCapacityError("no place is free now", retry_after_s=estimate or RETRY_S) from None


async def _nobody() -> str:
    raise UnknownSessionError("no stream of this name")
