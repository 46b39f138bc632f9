"""Sessions that were placed here to go on, and wait to be told from what.

A gateway that opens one in standby sends the camera ahead; one that brings a snapshot, or
says that it has none, makes it a session. What gateways say meanwhile of cameras, outputs and
play-out is kept, and told to the session in their order. Commands are not: a gateway sends
them, again if need be, when it takes part.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog

from model_actor.engine.live_session import LiveSession
from model_actor.engine.participants import Participants, parting
from model_actor.engine.restoring import (
    NeedsSnapshotError,
    Restored,
    is_newer,
    restore,
    session_info,
)
from model_actor.engine.services import EngineServices, Placement
from model_actor.engine.session_camera import SessionCamera
from model_actor.engine.session_outputs import GatewayLink
from sana_gateway_internal.v1 import stream_pb2
from scheduler.core.quality import Quality

log = structlog.get_logger(__name__)

UNKNOWN = "the session waits for a snapshot"


class Shell:
    """A session that is about to go on here."""

    def __init__(
        self,
        placement: Placement,
        services: EngineServices,
        became: Callable[[Shell, LiveSession], None],
    ) -> None:
        """Waits.

        Args:
            placement: What the scheduler said of it.
            services: What the sessions of the actor share.
            became: Called with the session once it goes on, before anything is told.
        """
        self.placement = placement
        self._services = services
        self._became = became
        self._gateways = Participants(placement.session_id)
        info = session_info(services.info, placement.quality)
        self._camera = SessionCamera(info, self._gateways, services.workers)
        self._links: dict[str, GatewayLink] = {}
        """Who waits, in the order they came."""
        self._ready: dict[str, stream_pb2.Restore | None] = {}
        """Who of them takes part as soon as the session goes on, and what they bring."""
        self._demands: dict[tuple[str, int, int], stream_pb2.OutputDemand] = {}
        self._playouts: dict[str, stream_pb2.Playout] = {}
        self._restoring: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether it was given up."""
        return self._closed

    @property
    def computing(self) -> bool:
        """Whether compute is booked for it."""
        return self.placement.computing

    @property
    def quality(self) -> Quality:
        """How it is to run."""
        return self.placement.quality

    @property
    def awaiting_room(self) -> bool:
        """Whether it was told that there is no room elsewhere: not before it has gone on."""
        return False

    def pace(self, quality: Quality) -> None:
        """It is to run in another quality."""
        self.placement = replace(self.placement, quality=quality)
        self._camera.pace(session_info(self._services.info, quality))

    def open(self, link: GatewayLink, request: stream_pb2.Open) -> None:
        """A gateway waits, or brings what the session is to go on from."""
        self._links.pop(link.gateway_id, None)
        self._links[link.gateway_id] = link
        if request.standby:
            self._gateways.stand_by(link, self.placement.epoch)
            return
        self._gateways.expect(link)
        brought = None
        if request.HasField("restore"):
            brought = stream_pb2.Restore()
            brought.CopyFrom(request.restore)
        self._ready[link.gateway_id] = brought
        if self._restoring is None:
            self._restoring = asyncio.create_task(self._restore())

    def has_gateway(self, gateway_id: str) -> bool:
        """Tells whether a gateway waits here."""
        return gateway_id in self._links

    def leave(self, gateway_id: str) -> None:
        """A gateway waits no longer."""
        if self._links.pop(gateway_id, None) is None:
            return
        self._ready.pop(gateway_id, None)
        self._gateways.leave(gateway_id)
        self._camera.unpublished(gateway_id)
        self._playouts.pop(gateway_id, None)
        for key in [key for key in self._demands if key[0] == gateway_id]:
            del self._demands[key]

    def playout(self, gateway_id: str, report: stream_pb2.Playout) -> None:
        """Keeps where the clock of a gateway stands."""
        self._playouts[gateway_id] = report

    def demand(self, gateway_id: str, demand: stream_pb2.OutputDemand) -> None:
        """Keeps what a gateway wants of an output."""
        key = (gateway_id, demand.output.codec, demand.output.rung)
        if demand.wanted:
            self._demands[key] = demand
        else:
            self._demands.pop(key, None)

    def camera_status(self, gateway_id: str, status: stream_pb2.CameraStatus) -> None:
        """A camera was published at a gateway, or is gone."""
        if status.published:
            self._camera.published(gateway_id)
            # Its decoder is made while the keyframe that it begins with is on its way.
            self._camera.want(wanted=True)
        else:
            self._camera.unpublished(gateway_id)

    def camera_packet(self, gateway_id: str, packet: stream_pb2.CameraPacket) -> None:
        """Decodes the camera ahead."""
        self._camera.want(wanted=True)
        self._camera.packet(gateway_id, packet)

    async def close(self, reason: str, *, tell: bool = True, goes_on: bool = False) -> None:
        """Gives the session up; see `LiveSession.close`."""
        self._closed = True
        if self._restoring is not None:
            self._restoring.cancel()
            await asyncio.gather(self._restoring, return_exceptions=True)
        last_word = parting(self.placement.session_id, reason, goes_on=goes_on)
        for link in self._links.values() if tell else ():
            link.control(last_word)
        self._links.clear()
        await self._camera.close()

    async def _restore(self) -> None:
        session_id = self.placement.session_id
        try:
            made = await self._made()
        except NeedsSnapshotError:
            refused = stream_pb2.Refused(session_id=session_id, reason=UNKNOWN, needs_snapshot=True)
            self._refuse(refused)
        except Exception as error:  # a model may raise anything, and quote what it read
            log.warning("session.not_restored", session_id=session_id, error=type(error).__name__)
            reason = "the session could not be restored"
            self._refuse(stream_pb2.Refused(session_id=session_id, reason=reason))
        else:
            session = LiveSession(
                self.placement,
                self._services,
                made.state,
                restored=made,
                gateways=self._gateways,
                camera=self._camera,
            )
            self._became(self, session)
            ready = [link for name, link in self._links.items() if name in self._ready]
            session.go_on(ready, made.effects)
            revisions = (each.revision for each in self._ready.values() if each)
            session.catch_up(max(revisions, default=0))
            for gateway_id, report in self._playouts.items():
                session.playout(gateway_id, report)
            for (gateway_id, _, _), demand in self._demands.items():
                session.demand(gateway_id, demand)
        finally:
            self._restoring = None

    async def _made(self) -> Restored:
        """Makes the session of the newest that is there when it is made.

        Raises:
            NeedsSnapshotError: Nobody brings anything, and nothing is kept.
        """
        states, kept = self._services.states, self._services.kept
        while True:
            offers = dict(self._ready)
            try:
                made = await restore(self.placement, self._services, self._gateways, offers)
            except NeedsSnapshotError:
                # Another one, which came meanwhile, may know what these do not.
                if not is_newer(self._ready, offers):
                    raise
                continue
            try:
                if not is_newer(self._ready, offers):
                    placement = self.placement
                    await kept.adopt(placement.session_id, placement.epoch, made.found)
                    return made
            except BaseException:
                await states.close(made.state)
                raise
            await states.close(made.state)

    def _refuse(self, refused: stream_pb2.Refused) -> None:
        for gateway_id, link in list(self._links.items()):
            link.control(stream_pb2.ControlResponse(refused=refused))
            self.leave(gateway_id)
