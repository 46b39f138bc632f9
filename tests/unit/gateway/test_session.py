"""A session of the gateway: its journal, its commands, its camera and its play-out."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gateway.client_connection import MAX_UNANSWERED
from gateway.connection import Status
from gateway.journal import LENGTH as JOURNAL
from gateway.links import ActorLink
from gateway.pacing import Pacing
from gateway.ports import CameraFrame
from gateway.session import FIRST_CONNECTION, GatewaySession
from sana_gateway.v1 import command_pb2, media_pb2, message_pb2, session_pb2
from sana_gateway_internal.v1 import stream_pb2
from scheduler.core.errors import (
    LimitError,
    NotReadyError,
    SessionClosedError,
)
from scheduler.core.ids import Principal
from tests.fakes.gateway_parts import Ear, FakeLink, lease

pytestmark = pytest.mark.unit

ME = Principal("me", frozenset({"session"}))
SESSION = "s1"
FRAME_RATE = 1000.0
"""Frames per second of what plays here, so that it is over soon."""
VP8 = media_pb2.CODEC_VP8


class Events:
    """What the session tells its hub."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.openings = 0
        self.lost = 0
        self.refusals = 0
        self.sought = 0
        self.wishes = 0
        self.over_for: list[str] = []

    def connections_changed(self, session: GatewaySession) -> None:
        self.counts.append(session.connection_count)

    def opened(self, session: GatewaySession) -> None:
        self.openings += 1

    def unplaced(self, session: GatewaySession, *, refused: bool) -> None:
        self.lost += 1
        self.refusals += refused

    def handed_over(self, session: GatewaySession) -> None:
        self.sought += 1

    def wanted(self, session: GatewaySession) -> None:
        self.wishes += 1

    def over(self, session: GatewaySession, reason: str) -> None:
        self.over_for.append(reason)


class Bench:
    """A session with a link that the test answers for."""

    def __init__(self, max_connections: int = 4, pacing: Pacing | None = None) -> None:
        self.events = Events()
        self.link = FakeLink()
        self.session = GatewaySession(
            SESSION,
            "painter",
            ME,
            self.events,
            max_connections=max_connections,
            pacing=pacing or Pacing(),
        )

    def place(self, *revisions: int, link: FakeLink | None = None, epoch: int = 1) -> None:
        """The session is placed, and its actor takes the gateway in."""
        self.link = link or self.link
        place = lease(SESSION, self.link.address, ME, epoch=epoch)
        self.session.join(place, cast(ActorLink, self.link))
        self.link.open(SESSION, *revisions)

    def tell(self, **response: Any) -> None:
        """The actor says something."""
        self.link.tell(SESSION, **response)

    def state(self, revision: int, *, to: int = 0, command_id: str = "", **fields: Any) -> None:
        state = message_pb2.State(**fields)
        message = message_pb2.Message(revision=revision, command_id=command_id, state=state)
        self.tell(message=stream_pb2.SessionMessage(message=message, connection_id=to))

    def chunk(self, run: int, frames: int, chunk: int = 0, first: int = 0) -> None:
        self.tell(
            chunk=stream_pb2.ChunkReady(
                run=run, chunk=chunk, first_frame=first, frames=frames, frame_rate=FRAME_RATE
            )
        )

    def packet(
        self, run: int, frame: int, *, key: bool = False, epoch: int = 1, held: bool = False
    ) -> None:
        self.link.packet(
            stream_pb2.VideoPacket(
                session_id=SESSION, epoch=epoch, run=run, frame=frame, keyframe=key, data=b"x",
                output=stream_pb2.Output(codec=VP8), held=held,
            )
        )  # fmt: skip


def command(command_id: str) -> command_pb2.Command:
    return command_pb2.Command(command_id=command_id, pause=command_pb2.Pause())


def frame(number: int, *, key: bool = False) -> CameraFrame:
    return CameraFrame(b"x", keyframe=key, codec=VP8, timestamp_us=number)


async def test_a_client_that_waits_hears_its_place_and_then_that_it_is_ready() -> None:
    bench, ear = Bench(), Ear()
    bench.session.connect(ear)
    bench.session.queued(2, 8.0)
    late = Ear()
    bench.session.connect(late)
    shown = bench.session.describe()
    assert (shown.status, shown.queue_position) == (session_pb2.SESSION_STATUS_WAITING, 2)
    assert shown.estimated_wait.ToTimedelta().total_seconds() == 8.0
    bench.place()
    await bench.session.wait_ready()
    assert ear.heard == late.heard == [("queued", 2, 8.0), ("ready",)]
    shown = bench.session.describe()
    assert (shown.status, shown.queue_position) == (session_pb2.SESSION_STATUS_READY, 0)
    assert bench.events.counts == [1, 2]
    assert bench.link.tokens[SESSION] == "token for actor-1"


async def test_a_newcomer_gets_the_latest_state() -> None:
    bench, ear = Bench(), Ear()
    bench.place(1, 2)
    bench.state(3, seed=33)
    connection, gap = bench.session.connect(ear)
    assert not gap
    assert connection.connection_id == FIRST_CONNECTION
    assert [message.revision for message in ear.messages] == [3]
    assert not ear.messages[0].replayed


async def test_the_state_is_known_of_a_session_that_is_parked_and_wakes_it_not() -> None:
    bench = Bench()
    bench.place(1)
    bench.state(2, seed=33)
    bench.session.parked(1, "host-1")
    shown = bench.session.state
    assert shown is not None
    assert shown.seed == 33
    assert bench.session.is_parked
    assert (bench.events.wishes, bench.events.counts) == (0, [])
    bench.session.close("over")
    assert bench.session.state is None


async def test_who_comes_back_gets_what_was_missed_marked_as_replayed() -> None:
    bench, ear = Bench(), Ear()
    bench.place(1, 2, 3)
    bench.state(4)
    _, gap = bench.session.connect(ear, resume_after=2)
    assert not gap
    assert ear.kinds == ["ready", "message", "message"]
    assert [(each.revision, each.replayed) for each in ear.messages] == [(3, True), (4, True)]
    bench.state(5)
    assert not ear.messages[-1].replayed


async def test_who_has_missed_nothing_gets_nothing_twice() -> None:
    bench, ear = Bench(), Ear()
    bench.place(1, 2)
    _, gap = bench.session.connect(ear, resume_after=2)
    assert not gap
    assert ear.kinds == ["ready"]


@pytest.mark.parametrize("known", [1, JOURNAL + 500])
async def test_a_gap_is_marked_and_filled_with_one_state(known: int) -> None:
    bench, ear = Bench(), Ear()
    bench.place()
    for revision in range(1, JOURNAL + 4):
        bench.state(revision)
    _, gap = bench.session.connect(ear, resume_after=known)
    assert gap
    assert [message.revision for message in ear.messages] == [JOURNAL + 3]
    assert not ear.messages[0].replayed


async def test_the_oldest_message_that_is_kept_is_reached_without_a_gap() -> None:
    bench, ear = Bench(), Ear()
    bench.place()
    for revision in range(1, JOURNAL + 4):
        bench.state(revision)
    _, gap = bench.session.connect(ear, resume_after=3)
    assert not gap
    assert [message.revision for message in ear.messages] == list(range(4, JOURNAL + 4))


async def test_only_the_asker_learns_which_command_a_message_answers() -> None:
    bench, asker, other, later = Bench(), Ear(), Ear(), Ear()
    bench.place()
    number = bench.session.connect(asker)[0].connection_id
    bench.session.connect(other)
    bench.state(1, to=number, command_id="c1")
    bench.session.connect(later, resume_after=0)
    assert [each.command_id for each in asker.messages] == ["c1"]
    assert [each.command_id for each in other.messages] == [""]
    assert [each.command_id for each in later.messages] == [""]


async def test_a_refusal_goes_to_the_asker_alone_and_is_not_kept() -> None:
    bench, asker, other, later = Bench(), Ear(), Ear(), Ear()
    bench.place()
    number = bench.session.connect(asker)[0].connection_id
    bench.session.connect(other)
    error = message_pb2.Message(command_error=message_pb2.CommandError(command="pause"))
    bench.tell(message=stream_pb2.SessionMessage(message=error, connection_id=number))
    bench.session.connect(later, resume_after=0)
    assert len(asker.messages) == 1
    assert other.messages == later.messages == []


async def test_commands_wait_for_the_actor_that_is_found_anew_and_go_out_once_each() -> None:
    bench, ear = Bench(), Ear()
    bench.place()
    connection, _ = bench.session.connect(ear)
    connection.command(command("c1"))
    connection.command(command("c2"))
    bench.tell(ack=stream_pb2.SessionAck(connection_id=connection.connection_id, command_id="c1"))
    bench.link.lose()
    assert bench.events.lost == 1
    assert connection.status is Status.WAITING
    connection.command(command("c3"))
    assert [each.command.command_id for each in bench.link.of("command")] == ["c1", "c2"]
    assert connection.is_unanswered
    bench.place(link=FakeLink("actor-2"))
    assert connection.status is Status.READY
    assert [each.command.command_id for each in bench.link.of("command")] == ["c2", "c3"]
    assert ear.heard.count(("ready",)) == 1, "clients notice nothing"


async def test_a_journal_that_was_told_before_is_not_told_again_after_a_new_link() -> None:
    bench, ear = Bench(), Ear()
    bench.place(1, 2)
    bench.session.connect(ear)
    bench.link.lose()
    bench.place(1, 2, 3, link=FakeLink("actor-2"))
    late = Ear()
    bench.session.connect(late, resume_after=0)
    assert [message.revision for message in late.messages] == [1, 2, 3]


async def test_commands_need_a_place_and_their_number_is_bounded() -> None:
    bench = Bench()
    connection, _ = bench.session.connect(Ear())
    with pytest.raises(NotReadyError):
        connection.command(command("early"))
    bench.place()
    for number in range(MAX_UNANSWERED):
        connection.command(command(f"c{number}"))
    with pytest.raises(LimitError):
        connection.command(command("one too many"))
    bench.tell(ack=stream_pb2.SessionAck(connection_id=connection.connection_id, command_id="c0"))
    connection.command(command("now there is room"))


async def test_connections_are_bounded_and_numbered_anew() -> None:
    bench = Bench(max_connections=2)
    first, _ = bench.session.connect(Ear())
    bench.session.connect(Ear())
    with pytest.raises(LimitError):
        bench.session.connect(Ear())
    first.close()
    first.close()
    third, _ = bench.session.connect(Ear())
    assert third.connection_id == FIRST_CONNECTION + 2
    assert bench.events.counts == [1, 2, 1, 2]
    with pytest.raises(SessionClosedError):
        first.command(command("too late"))


async def test_the_end_is_told_once_and_nothing_works_after_it() -> None:
    bench, ear = Bench(), Ear()
    bench.place()
    connection, _ = bench.session.connect(ear)
    bench.session.close("enough")
    bench.session.close("again")
    assert ear.heard == [("ready",), ("ended", "enough")]
    assert bench.link.joined == {}
    assert bench.session.describe().close_reason == "enough"
    with pytest.raises(SessionClosedError, match="enough"):
        bench.session.connect(Ear())
    with pytest.raises(SessionClosedError, match="enough"):
        await bench.session.wait_ready()
    with pytest.raises(SessionClosedError):
        connection.subscribe([VP8], ear)


async def test_a_place_that_comes_after_the_end_is_not_taken() -> None:
    bench = Bench()
    bench.session.close("given up")
    bench.session.join(lease(SESSION, "actor-1", ME), cast(ActorLink, bench.link))
    assert bench.link.joined == {}


async def test_the_actor_ends_the_session_through_the_hub() -> None:
    bench = Bench()
    bench.place()
    bench.tell(closed=stream_pb2.Closed(reason="evicted"))
    assert bench.events.over_for == ["evicted"]


async def test_an_actor_that_refuses_the_lease_is_left_and_the_session_looked_for() -> None:
    bench = Bench()
    bench.session.join(lease(SESSION, "actor-1", ME), cast(ActorLink, bench.link))
    bench.tell(refused=stream_pb2.Refused(reason="another epoch"))
    assert bench.events.lost == 1
    assert bench.link.joined == {}
