"""The peers that offers made, each an HTTP resource of its own.

A resource lives as long as its peer: until it is deleted, its transport is lost (a client
that vanishes is noticed by its silence, one that never connects after a while), or its session
ends. How many there are is bounded by the peers of the process and the connections of a
session. The session itself lives on for its reconnect window.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, Literal

from prometheus_client import Counter, Gauge

from gateway import ports
from gateway.grpc_api.peers import MediaOnlySink
from gateway.ingress import Peer, PeerFactory
from scheduler.core.errors import LimitError, RequestError
from sdk_adapters.whip import negotiation

Kind = Literal["whip", "whep"]

STOP_S: Final = 2.0
"""How long peers may take to end when the gateway stops."""
GONE_KEPT: Final = 1024
"""Resources that are remembered after their transport was lost; the oldest are forgotten first.
Clients close their peer first and delete it then, and are told that all is well."""

_RESOURCES = Gauge(
    "sana_gateway_whip_resources", "Publishers (whip) and players (whep) now.", ("kind",)
)
_OFFERS = Counter(
    "sana_gateway_whip_offers", "Offers of publishers and players, by outcome.", ("kind", "outcome")
)


class Resource:
    """One publisher or player."""

    def __init__(self, kind: Kind, connection: ports.Connection, offer: str) -> None:
        """Begins without a peer.

        Args:
            kind: Which of the two.
            connection: Its connection of the hub.
            offer: What it offered.
        """
        self.kind: Final = kind
        self.connection: Final = connection
        self.resource_id: Final = secrets.token_urlsafe(16)
        self.tag: Final = f'"{secrets.token_hex(8)}"'
        """Entity tag of its ICE session, which is never restarted."""
        self.usernames: Final = negotiation.usernames(offer)
        self.peer: Peer | None = None
        self.over = False

    @property
    def session_id(self) -> str:
        """The session that it publishes to, or watches."""
        return self.connection.session.session_id

    @property
    def path(self) -> str:
        """Path of its URL."""
        within = "whip/sessions" if self.kind == "whip" else "whep"
        return f"/{within}/{self.session_id}/{self.resource_id}"


class Resources:
    """All publishers and players of this gateway."""

    def __init__(self, factory: PeerFactory) -> None:
        """Starts empty.

        Args:
            factory: Makes their peers.
        """
        self._factory = factory
        self._resources: dict[str, Resource] = {}
        self._gone: OrderedDict[str, tuple[Kind, str]] = OrderedDict()
        """Kind and session of those whose transport was lost."""
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Returns how many there are."""
        return len(self._resources)

    async def open(
        self, kind: Kind, session: ports.HubSession, offer: str, tracks: Mapping[str, str]
    ) -> tuple[Resource, str]:
        """Answers an offer.

        Args:
            kind: Publisher or player.
            session: Whose media.
            offer: The SDP.
            tracks: Name of the track by the mid of its section.

        Returns:
            The resource, and the SDP answer with all of our candidates.

        Raises:
            PublisherTakenError: Another connection publishes.
            BadOfferError: The offer has no codec that we speak.
            LimitError: Too many connections or peers.
            SessionClosedError: The session has ended.
        """
        try:
            opened = await self._open(kind, session, offer, tracks)
        except RequestError as error:
            _OFFERS.labels(kind, "limited" if isinstance(error, LimitError) else "refused").inc()
            raise
        _OFFERS.labels(kind, "answered").inc()
        return opened

    def find(self, kind: Kind, session_id: str, resource_id: str) -> Resource | None:
        """Returns a resource; None where there is no such one, or it is gone."""
        resource = self._resources.get(resource_id)
        known = resource is not None and (resource.kind, resource.session_id) == (kind, session_id)
        return resource if known else None

    def delete(self, kind: Kind, session_id: str, resource_id: str) -> bool:
        """Ends a resource for its client; returns whether there was one, or just had been."""
        resource = self.find(kind, session_id, resource_id)
        if resource is not None:
            self.close(resource)
        if self._gone.get(resource_id) != (kind, session_id):
            return False
        del self._gone[resource_id]
        return True

    def close(self, resource: Resource) -> None:
        """Ends a resource but not its session. Repeating it is no error."""
        if resource.over:
            return
        resource.over = True
        if self._resources.pop(resource.resource_id, None) is not None:
            _RESOURCES.labels(resource.kind).dec()
            self._gone[resource.resource_id] = (resource.kind, resource.session_id)
            while len(self._gone) > GONE_KEPT:
                self._gone.popitem(last=False)
        resource.connection.close()
        if resource.peer is not None:
            self._own(resource.peer.close())

    async def stop(self) -> None:
        """Ends all of them."""
        for resource in list(self._resources.values()):
            self.close(resource)
        if self._closing:
            await asyncio.wait(self._closing, timeout=STOP_S)
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _open(
        self, kind: Kind, session: ports.HubSession, offer: str, tracks: Mapping[str, str]
    ) -> tuple[Resource, str]:
        sink = MediaOnlySink()
        connection, _ = session.connect(sink)
        resource = Resource(kind, connection, offer)
        sink.on_ended = partial(self.close, resource)
        sink.on_camera_keyframe = partial(_ask_keyframe, resource)
        try:
            if kind == "whip":
                connection.claim_camera()
            resource.peer, answer = await self._factory.answer(
                connection,
                negotiation.with_us_as_server(offer),
                tracks,
                on_closed=partial(self.close, resource),
            )
        except BaseException:
            self.close(resource)
            raise
        if resource.over:
            # It ended while it was being answered: the client learns that from its transport.
            await resource.peer.close()
        else:
            self._resources[resource.resource_id] = resource
            _RESOURCES.labels(kind).inc()
        return resource, answer

    def _own(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_quietly(coroutine))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _ask_keyframe(resource: Resource) -> None:
    if resource.peer is not None:
        resource.peer.request_camera_keyframe()


async def _quietly(closing: Coroutine[Any, Any, None]) -> None:
    with suppress(RequestError):
        await closing
