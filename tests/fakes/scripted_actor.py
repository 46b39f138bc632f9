"""An actor that does what a test says, and a gateway's questions, over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from sana_gateway.v1 import session_pb2
from sana_gateway_internal.v1 import placement_pb2 as pb


def place_request(session: str, model: str = "model", waited_us: int = 0) -> pb.PlaceRequest:
    return pb.PlaceRequest(
        session_id=session,
        model=model,
        principal=pb.Principal(tenant="tenant", scopes=["session"]),
        gateway_id="gateway",
        waited_us=waited_us,
    )


class Actor:
    """A scripted actor: registers, then does what a test says."""

    def __init__(
        self,
        stub: Any,
        *,
        name: str = "a",
        slots: int = 1,
        held: tuple[pb.HeldSession, ...] = (),
    ) -> None:
        self._outgoing: asyncio.Queue[pb.EnrollRequest] = asyncio.Queue()
        self.register = pb.Register(
            actor_id=name,
            models=["model", "alias"],
            address="unix:/actor",
            capabilities=session_pb2.Capabilities(frame_rate=24.0),
            resident_slots=slots,
            chunk_ms=600.0,
            period_ms=1000.0,
            sessions=held,
            gpus="3",
        )
        self.call = stub.Enroll(self._requests())
        self._beating = asyncio.create_task(self._beat())

    async def _requests(self) -> AsyncIterator[pb.EnrollRequest]:
        yield pb.EnrollRequest(register=self.register)
        while True:
            yield await self._outgoing.get()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(0.2)
            self._outgoing.put_nowait(pb.EnrollRequest(heartbeat=pb.Heartbeat(chunk_ms=600.0)))

    async def registered(self) -> Actor:
        await self.call.initial_metadata()
        return self

    async def order(self) -> pb.EnrollResponse:
        response = await self.call.read()
        assert isinstance(response, pb.EnrollResponse), "the stream ended"
        return response

    def say(self, request: pb.EnrollRequest) -> None:
        self._outgoing.put_nowait(request)

    async def admit(self, refusal: str = "") -> pb.Admit:
        admit = (await self.order()).admit
        admitted = pb.Admitted(session_id=admit.session_id, epoch=admit.epoch, refusal=refusal)
        self._outgoing.put_nowait(pb.EnrollRequest(admitted=admitted))
        return admit

    async def close(self) -> None:
        self._beating.cancel()
        self.call.cancel()
        await asyncio.gather(self._beating, return_exceptions=True)


async def placed(stub: Any, actor: Actor, session: str) -> pb.Lease:
    call = stub.Place(place_request(session))
    await actor.admit()
    responses = [response async for response in call]
    lease: pb.Lease = responses[-1].lease
    return lease


async def reported(stub: Any, *sessions: str) -> Any:
    """Returns a standing report of a gateway that is connected to these sessions."""
    connections = [pb.Connections(session_id=session, count=1) for session in sessions]

    async def report() -> AsyncIterator[pb.PresenceRequest]:
        yield pb.PresenceRequest(gateway_id="gateway", connections=connections)
        await asyncio.Event().wait()

    presence = stub.Presence(report())
    await presence.initial_metadata()
    return presence
