"""The HTTP routes of WHIP and WHEP.

Where a publisher or player is refused it is told why as JSON, with a status that the
standards name. Offers are read before anything is made for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from typing import Final

from aiohttp import web

from gateway import http, ports
from gateway.ingress import IngressServices
from gateway.placement import SchedulerAwayError
from gateway.webrtc.sdp import Section, parse_offer
from scheduler.core.errors import (
    BadArgumentError,
    BadOfferError,
    NoCapacityError,
    RequestError,
    SessionClosedError,
    UnknownSessionError,
)
from scheduler.core.ids import Principal
from sdk_adapters.whip import negotiation
from sdk_adapters.whip.resources import Kind, Resource, Resources
from sdk_adapters.whip.streams import Streams, placed

MAX_SDP: Final = 65_536
"""Most bytes of an offer, and of a fragment: they are parsed on the event loop."""
BODY_S: Final = 10.0
"""How long a body may take."""
AWAY_S: Final = 1.0
"""When to come back while the scheduler is away."""

SESSION_HEADER: Final = "Sana-Session-Id"
"""On every answer to an offer: the session, for the commands and for other doors."""
WATCH: Final = "urn:sana-gateway:whep"
"""Relation of the link to where the session is watched."""
COMMAND: Final = "urn:sana-gateway:commands"
"""Relation of the link to where the session is told what to do."""

_GONE: Final = "no such publisher or player, or it is gone"

Handler = Callable[[web.Request], Awaitable[web.Response]]


def told(handler: Handler) -> Handler:
    """Answers what only a gateway in trouble, or a session that is over, makes a handler raise."""

    @wraps(handler)
    async def answered(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except SessionClosedError as error:
            raise web.HTTPGone(reason="the session has ended") from error
        except SchedulerAwayError:
            raise NoCapacityError("no session can be placed now", retry_after_s=AWAY_S) from None

    return answered


class Endpoints:
    """Handlers of the routes."""

    def __init__(self, services: IngressServices, streams: Streams) -> None:
        """Prepares the handlers.

        Args:
            services: What every wire is made with.
            streams: The sessions.
        """
        self._services = services
        self._streams = streams
        self.resources: Final = Resources(services.peers)
        """The publishers and players."""

    def routes(self) -> list[web.AbstractRouteDef]:
        """Returns what to mount."""
        made, watched = "/whip/sessions/{session}", "/whep/{session}"
        routes: list[web.AbstractRouteDef] = []
        for path, offered in ((made, self._publish_here), (watched, self._watch)):
            resource = path + "/{resource}"
            routes += [
                web.post(path, told(offered)),
                web.patch(resource, told(self._trickle)),
                web.delete(resource, told(self._delete)),
                web.get(path, _nothing),
                web.get(resource, _nothing),
            ]
        # Names of models have slashes; those of streams are known by their first character.
        create = r"/whip/{model:(?!sessions(?:/|$)).+?}{name:(?:/~[^/]*)?}"
        return [*routes, web.post(create, told(self._publish)), web.get(create, _nothing)]

    # Offers.

    async def _publish(self, request: web.Request) -> web.Response:
        principal, offer, tracks = await self._offered(request, negotiation.camera_tracks)
        model, name = request.match_info["model"], request.match_info["name"].lstrip("/")
        session = await self._streams.publish(principal, model, name)
        try:
            return await self._open(request, "whip", session, offer, tracks)
        except RequestError:
            if not name:
                await self._streams.discard(principal, session)
            raise

    async def _publish_here(self, request: web.Request) -> web.Response:
        principal, offer, tracks = await self._offered(request, negotiation.camera_tracks)
        session = await self._placed(principal, request)
        return await self._open(request, "whip", session, offer, tracks)

    async def _watch(self, request: web.Request) -> web.Response:
        principal, offer, tracks = await self._offered(request, negotiation.viewer_tracks)
        session = await self._placed(principal, request)
        return await self._open(request, "whep", session, offer, tracks)

    async def _offered(
        self, request: web.Request, choose: Callable[[Sequence[Section]], dict[str, str]]
    ) -> tuple[Principal, str, dict[str, str]]:
        """Returns who offers, what, and which section of it is which track.

        Raises:
            HTTPUnsupportedMediaType: The body is said to be no SDP.
            HTTPNotAcceptable: The caller takes no SDP for an answer.
            BadArgumentError: It is none.
            BadOfferError: It has not the video that this endpoint is for.
        """
        principal = http.caller(self._services, request)
        _must_be(request, negotiation.SDP)
        if not negotiation.accepts(request.headers.get("Accept"), negotiation.SDP):
            raise web.HTTPNotAcceptable
        text = await _text(request)
        try:
            sections = parse_offer(text).sections
        except BadOfferError as error:
            raise BadArgumentError(str(error)) from None
        return principal, text, choose(sections)

    async def _placed(self, principal: Principal, request: web.Request) -> ports.HubSession:
        session = await self._streams.find(principal, request.match_info["session"])
        await placed(session)
        return session

    async def _open(
        self,
        request: web.Request,
        kind: Kind,
        session: ports.HubSession,
        offer: str,
        tracks: dict[str, str],
    ) -> web.Response:
        resource, answer = await self.resources.open(kind, session, offer, tracks)
        # As text it would name a charset, which SDP has not and strict clients do not expect.
        response = web.Response(body=answer.encode(), status=201, content_type=negotiation.SDP)
        base, session_id = self._base(request), session.session_id
        response.headers["Location"] = base + resource.path
        response.headers["ETag"] = resource.tag
        response.headers[SESSION_HEADER] = session_id
        links = [
            *negotiation.ice_links(self._services.peers.ice_servers()),
            negotiation.link(f"{base}/whep/{session_id}", WATCH),
            negotiation.link(f"{base}/sessions/{session_id}/commands", COMMAND),
        ]
        for each in links:
            response.headers.add("Link", each)
        return response

    def _base(self, request: web.Request) -> str:
        # A front door finds the worker by the session, which each of these paths names.
        prefix = self._services.settings.path_prefix
        return http.public_base(self._services, request).removesuffix(prefix)

    # Resources.

    async def _trickle(self, request: web.Request) -> web.Response:
        resource = await self._resource(request)
        _must_be(request, negotiation.FRAGMENT)
        if_match = request.headers.get("If-Match")
        if if_match is None and resource.kind == "whip":
            raise web.HTTPPreconditionRequired
        # Players in use say nothing; there is no other ICE session that they could mean.
        tags = {resource.tag} if if_match is None else negotiation.entity_tags(if_match)
        fragment = negotiation.parse_fragment(await _text(request))
        restart = fragment.username and fragment.username not in resource.usernames
        if restart or negotiation.ANY_TAG in tags:
            raise web.HTTPUnprocessableEntity(reason="ICE is not restarted here; offer anew")
        if resource.tag not in tags:
            raise web.HTTPPreconditionFailed
        if resource.peer is not None:
            await resource.peer.add_candidates(fragment.candidates)
        return web.Response(status=204)

    async def _delete(self, request: web.Request) -> web.Response:
        if not self.resources.delete(*await self._named(request)):
            raise UnknownSessionError(_GONE)
        return web.Response(status=200)

    async def _resource(self, request: web.Request) -> Resource:
        resource = self.resources.find(*await self._named(request))
        if resource is None:
            raise UnknownSessionError(_GONE)
        return resource

    async def _named(self, request: web.Request) -> tuple[Kind, str, str]:
        """Returns kind, session and id of the resource that a path names; the session is one of
        the caller's.
        """
        principal = http.caller(self._services, request)
        session = await self._streams.find(principal, request.match_info["session"])
        kind: Kind = "whip" if request.path.startswith("/whip/") else "whep"
        return kind, session.session_id, request.match_info["resource"]


async def _nothing(_: web.Request) -> web.Response:
    """What there is to see of an endpoint or a resource: nothing (RFC 9725, section 4.1)."""
    return web.Response(status=204)


def _must_be(request: web.Request, media_type: str) -> None:
    if request.content_type != media_type:
        raise web.HTTPUnsupportedMediaType


async def _text(request: web.Request) -> str:
    """Returns a small body.

    Raises:
        HTTPRequestEntityTooLarge: It is none.
        HTTPRequestTimeout: It does not come to its end.
        BadArgumentError: It is no text.
    """
    try:
        async with asyncio.timeout(BODY_S):
            body = await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    if len(body) > MAX_SDP:
        raise web.HTTPRequestEntityTooLarge(MAX_SDP, len(body))
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise BadArgumentError("the body is no text") from None
