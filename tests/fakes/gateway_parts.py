"""What surrounds a session and a hub in a gateway: a client's sink, actors, the scheduler."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.links import LinkDeadError
from gateway.ports import EncodedFrame
from sana_gateway.v1 import media_pb2, message_pb2, pool_pb2
from sana_gateway_internal.v1 import placement_pb2, stream_pb2
from scheduler import wire
from scheduler.core.errors import UnknownSessionError
from scheduler.core.ids import Principal
from tests.fakes.changes import Changes


class Ear:
    """A sink and a viewer that remember, in order."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []
        self.messages: list[message_pb2.Message] = []
        self.frames: list[EncodedFrame] = []
        self.told: list[media_pb2.ViewerStats] = []
        self.changes = Changes()

    @property
    def kinds(self) -> list[str]:
        return [str(each[0]) for each in self.heard]

    def queued(self, position: int, estimated_wait_s: float) -> None:
        self._hear("queued", position, estimated_wait_s)

    def ready(self) -> None:
        self._hear("ready")

    def message(self, message: message_pb2.Message) -> None:
        self.messages.append(message)
        self._hear("message", message.revision)

    def ack(self, command_id: str, accepted: bool) -> None:
        self._hear("ack", command_id, accepted)

    def camera_keyframe(self) -> None:
        self._hear("camera_keyframe")

    def ended(self, reason: str) -> None:
        self._hear("ended", reason)

    def frame(self, frame: EncodedFrame) -> None:
        self.frames.append(frame)
        self.changes.happened()

    def stats(self, stats: media_pb2.ViewerStats) -> None:
        self.told.append(stats)

    def _hear(self, *what: Any) -> None:
        self.heard.append(what)
        self.changes.happened()


class FakeLink:
    """A link to an actor that never answers by itself."""

    def __init__(self, address: str = "actor-1") -> None:
        self.address = address
        self.sent: list[stream_pb2.ControlRequest] = []
        self.urgent: list[bool] = []
        """Of what was sent, in the same order."""
        self.cameras: list[stream_pb2.CameraPacket] = []
        self.joined: dict[str, Any] = {}
        self.tokens: dict[str, str] = {}
        self.opens: list[stream_pb2.Open] = []
        """How sessions were joined, in order."""
        self.left: list[str] = []
        self.dead = False
        self.has_room = True
        self.changes = Changes()

    def join(
        self,
        session_id: str,
        session: Any,
        token: str,
        restore: stream_pb2.Restore | None = None,
        *,
        standby: bool = False,
    ) -> None:
        if self.dead:
            raise LinkDeadError("the actor's streams have ended")
        self.joined[session_id], self.tokens[session_id] = session, token
        self.opens.append(
            stream_pb2.Open(session_id=session_id, token=token, restore=restore, standby=standby)
        )
        self.changes.happened()

    def leave(self, session_id: str, session: Any) -> None:
        if self.joined.get(session_id) is session:
            del self.joined[session_id]
            self.left.append(session_id)
        self.changes.happened()

    def send(self, request: stream_pb2.ControlRequest, *, urgent: bool = True) -> None:
        self.sent.append(request)
        self.urgent.append(urgent)
        self.changes.happened()

    def camera(self, packet: stream_pb2.CameraPacket) -> bool:
        if self.has_room:
            self.cameras.append(packet)
        return self.has_room

    def of(self, kind: str) -> list[Any]:
        """Returns what was sent of a kind."""
        return [getattr(each, kind) for each in self.sent if each.WhichOneof("request") == kind]

    def open(self, session_id: str, *revisions: int) -> None:
        """The actor answers how it was last asked; its journal has states of these revisions."""
        journal = [_state(revision) for revision in revisions]
        opens = [each for each in self.opens if each.session_id == session_id]
        self.tell(session_id, opened=stream_pb2.Opened(journal=journal, standby=opens[-1].standby))

    def tell(self, session_id: str, **response: Any) -> None:
        """The actor says something."""
        (kind,) = response
        response[kind].session_id = session_id
        self.joined[session_id].control(stream_pb2.ControlResponse(**response))

    def packet(self, packet: stream_pb2.VideoPacket) -> None:
        """The actor sends a frame."""
        self.joined[packet.session_id].packet(packet)

    def lose(self) -> None:
        """The actor's streams end."""
        sessions, self.joined = dict(self.joined), {}
        for session in sessions.values():
            session.link_lost()


def _state(revision: int) -> message_pb2.Message:
    return message_pb2.Message(revision=revision, state=message_pb2.State(seed=revision))


class FakeLinks:
    """Links by address; a dead address answers nobody."""

    def __init__(self) -> None:
        self.dead: set[str] = set()
        self.hung: set[str] = set()
        """Addresses that never answer."""
        self.tries: Counter[str] = Counter()
        """How often each address was asked for."""
        self.changes = Changes()
        self._links: dict[str, FakeLink] = {}

    def __getitem__(self, address: str) -> FakeLink:
        return self._links.setdefault(address, FakeLink(address))

    async def get(self, address: str) -> FakeLink:
        self.tries[address] += 1
        self.changes.happened()
        if address in self.dead:
            raise LinkDeadError("the actor does not answer")
        if address in self.hung:
            await asyncio.Event().wait()
        return self[address]


@dataclass(eq=False)
class Asked:
    """A place that was asked for, and the test's answers."""

    session_id: str
    model: str
    principal: Principal
    waited_s: float
    restore: bool = False
    near_host: str = ""
    fork: bool = False
    _answers: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)

    def queue(self, position: int, wait_s: float = 0.0) -> None:
        """Tells the place in the queue."""
        queued = placement_pb2.Queued(position=position, estimated_wait_us=int(wait_s * 1e6))
        self._answers.put_nowait(placement_pb2.PlaceResponse(queued=queued))

    def grant(self, address: str = "actor-1", epoch: int = 1) -> None:
        """Places the session."""
        granted = lease(self.session_id, address, self.principal, self.model, epoch)
        self._answers.put_nowait(placement_pb2.PlaceResponse(lease=granted))

    def fail(self, error: Exception) -> None:
        """Ends the asking."""
        self._answers.put_nowait(error)

    async def next(self) -> Any:
        answer = await self._answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakePlacement:
    """A scheduler that does as the test says."""

    def __init__(self) -> None:
        self.served = ("painter",)
        self.asked: list[Asked] = []
        self.given_up: list[str] = []
        """Sessions whose asking was left before its end."""
        self.released: list[tuple[str, str]] = []
        self.reported: list[tuple[str, int]] = []
        self.found: dict[str, placement_pb2.Lease | Exception] = {}
        self.finds = 0
        self.sought: list[tuple[str, str]] = []
        """Sessions that were asked for, and whose they were to be."""
        self.counts: Callable[[], Mapping[str, int]] = dict
        self.news: Any = None
        self.pool = pool_pb2.DescribePoolResponse()
        self.changes = Changes()

    async def until_asked(self, count: int = 1) -> Asked:
        """Waits until a place was asked for so many times."""
        await self.changes.until(lambda: len(self.asked) >= count)
        return self.asked[count - 1]

    async def place(
        self,
        session_id: str,
        model: str,
        principal: Principal,
        waited_s: float,
        *,
        restore: bool = False,
        near_host: str = "",
        fork: bool = False,
    ) -> AsyncIterator[placement_pb2.PlaceResponse]:
        asked = Asked(session_id, model, principal, waited_s, restore, near_host, fork)
        self.asked.append(asked)
        self.changes.happened()
        try:
            while True:
                answer = await asked.next()
                yield answer
                if answer.HasField("lease"):
                    return
        except asyncio.CancelledError:
            self.given_up.append(session_id)
            self.changes.happened()
            raise

    async def find(self, session_id: str, tenant: str = "") -> placement_pb2.Lease:
        self.finds += 1
        self.sought.append((session_id, tenant))
        self.changes.happened()
        await asyncio.sleep(0)
        answer = self.found.get(session_id) or UnknownSessionError("there is no such session")
        if isinstance(answer, Exception):
            raise answer
        if tenant not in ("", answer.principal.tenant):
            raise UnknownSessionError("there is no such session")
        return answer

    async def release(self, session_id: str, reason: str) -> None:
        self.released.append((session_id, reason))
        self.changes.happened()

    def connections(self, session_id: str, count: int) -> None:
        self.reported.append((session_id, count))

    async def describe_pool(self) -> pool_pb2.DescribePoolResponse:
        return self.pool

    async def run_presence(self, counts: Callable[[], Mapping[str, int]], news: Any) -> None:
        self.counts, self.news = counts, news
        self.changes.happened()
        await asyncio.Event().wait()

    async def run_poll(self) -> None:
        await asyncio.Event().wait()


def lease(
    session_id: str, address: str, principal: Principal, model: str = "painter", epoch: int = 1
) -> placement_pb2.Lease:
    """Makes a lease."""
    return placement_pb2.Lease(
        session_id=session_id,
        epoch=epoch,
        address=address,
        token=f"token for {address}",
        principal=wire.principal_out(principal),
        model=model,
    )
