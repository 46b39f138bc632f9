"""Sessions as users of these standards know them: by id, or by a name of their own.

A program that publishes knows one URL, typed in once, and asks for it again whenever it
connects. So a user may name a stream: `~studio` is, for whom it was made, the session that was
made under this name, while it lives. In every path a name may stand for a session's id.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Final

from gateway import ports
from gateway.ingress import IngressServices
from gateway.once import Once
from scheduler.core.errors import BadArgumentError, NoCapacityError, UnknownSessionError
from scheduler.core.ids import Principal
from sdk_adapters.whip.names import Key, Names, is_over, own_key

PLACE_S: Final = 5.0
"""How long a session may take to be placed while its client waits; OBS waits for eight."""
RETRY_S: Final = 5.0
"""When to come back for a place, where nobody can tell."""
SWEEP_S: Final = 10.0
"""How often the names of ended sessions are forgotten."""

_LOOKED_AT: Final = 64
"""Names that are looked at before others have their turn."""
_NAME = re.compile(r"~[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


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
        self.names: Final = Names()
        """Which session a name stands for."""
        self._making = Once[Key, ports.HubSession]()
        """Sessions that are being made under a name."""
        self._sweeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to forget the names of ended sessions."""
        self._sweeping = asyncio.create_task(self._sweep_for_ever())

    async def stop(self) -> None:
        """Ends what is under way. Repeating it is no error."""
        sweeping, self._sweeping = self._sweeping, None
        if sweeping is not None:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)
        await self._making.stop()

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
        own = own_key(principal, key)
        if own in self._making:
            await self._making.do(own, _nobody)
        known = await self._known(principal, key, to_publish=False)
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
        session = await self._known(principal, name, to_publish=True) if name else None
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

    async def sweep(self) -> None:
        """Forgets the names of ended sessions."""
        for looked_at, entry in enumerate(self.names.entries(), 1):
            if is_over(entry.session):
                self.names.forget(entry)
            if looked_at % _LOOKED_AT == 0:
                await asyncio.sleep(0)

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            await self.sweep()

    async def _make(self, principal: Principal, model: str, name: str) -> ports.HubSession:
        if not name:
            return await self._hub.create(principal, model)
        key = own_key(principal, name)

        async def make() -> ports.HubSession:
            session = await self._hub.create(principal, model)
            self.names.give(key, session)
            return session

        made = await self._making.do(key, make)
        return await self._hub.find(principal, made.session_id)

    async def _known(
        self, principal: Principal, name: str, *, to_publish: bool
    ) -> ports.HubSession | None:
        """Returns the session of a name, if there is one that has not ended.

        Returns None without a pause after the last look: who makes one then is the first.
        """
        while (entry := self.names.find(principal, name, to_publish=to_publish)) is not None:
            with suppress(UnknownSessionError):
                session = await self._hub.find(principal, entry.session.session_id)
                if not is_over(session):
                    return session
            self.names.forget(entry)
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


async def _nobody() -> ports.HubSession:
    raise UnknownSessionError("no stream of this name")
