"""A gateway's link to an actor, over real gRPC."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from gateway import links as module
from gateway.links import ActorLink, ActorLinks, LinkDeadError
from sana_gateway_internal.v1 import stream_pb2, stream_pb2_grpc
from tests.fakes.changes import Changes
from tests.required import ROOT

pytestmark = pytest.mark.integration


class Actor(stream_pb2_grpc.StreamServicer):
    """An actor that sends what the test puts in and keeps what it is sent."""

    def __init__(self) -> None:
        self.asked: list[stream_pb2.ControlRequest] = []
        self.cameras: list[stream_pb2.CameraPacket] = []
        self.control: asyncio.Queue[stream_pb2.ControlResponse | None] = asyncio.Queue()
        self.media: asyncio.Queue[stream_pb2.MediaResponse] = asyncio.Queue()
        self.changes = Changes()

    async def Control(  # noqa: N802 - the generated name
        self,
        request_iterator: AsyncIterator[stream_pb2.ControlRequest],
        context: grpc.aio.ServicerContext[stream_pb2.ControlRequest, stream_pb2.ControlResponse],
    ) -> AsyncIterator[stream_pb2.ControlResponse]:
        async def read() -> None:
            async for request in request_iterator:
                self.asked.append(request)
                self.changes.happened()

        reader = asyncio.create_task(read())
        try:
            while (response := await self.control.get()) is not None:
                yield response
        finally:
            reader.cancel()

    async def Media(  # noqa: N802 - the generated name
        self,
        request_iterator: AsyncIterator[stream_pb2.MediaRequest],
        context: grpc.aio.ServicerContext[stream_pb2.MediaRequest, stream_pb2.MediaResponse],
    ) -> AsyncIterator[stream_pb2.MediaResponse]:
        async def read() -> None:
            async for request in request_iterator:
                self.cameras.extend(request.packets)
                self.changes.happened()

        reader = asyncio.create_task(read())
        try:
            while True:
                yield await self.media.get()
        finally:
            reader.cancel()


@dataclass(eq=False)
class Session:
    """A session that remembers what its link tells."""

    fails: bool = False
    told: list[stream_pb2.ControlResponse] = field(default_factory=list)
    packets: list[stream_pb2.VideoPacket] = field(default_factory=list)
    lost: int = 0
    changes: Changes = field(default_factory=Changes)

    def control(self, response: stream_pb2.ControlResponse) -> None:
        self.told.append(response)
        self.changes.happened()

    def packet(self, packet: stream_pb2.VideoPacket) -> None:
        if self.fails:
            raise RuntimeError
        self.packets.append(packet)
        self.changes.happened()

    def link_lost(self) -> None:
        self.lost += 1
        self.changes.happened()


@dataclass
class Bench:
    """An actor and the links of a gateway."""

    actor: Actor
    address: str
    links: ActorLinks

    async def opened(self, *session_ids: str) -> tuple[ActorLink, list[Session]]:
        """Joins sessions, and lets the actor answer, so that media may flow."""
        link = await self.links.get(self.address)
        sessions = [Session() for _ in session_ids]
        for session_id, session in zip(session_ids, sessions, strict=True):
            link.join(session_id, session, "token")
            asked = (f"open {session_id}",)
            await self.actor.changes.until(lambda asked=asked: asked in told(self.actor.asked))
            opened = stream_pb2.Opened(session_id=session_id)
            self.actor.control.put_nowait(stream_pb2.ControlResponse(opened=opened))
            await session.changes.until(lambda session=session: session.told)
        return link, sessions


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    actor, server = Actor(), grpc.aio.server()
    stream_pb2_grpc.add_StreamServicer_to_server(actor, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    links = ActorLinks("g1")
    yield Bench(actor, f"127.0.0.1:{port}", links)
    await links.close()
    await server.stop(None)


def video(session_id: str, frame: int) -> stream_pb2.VideoPacket:
    return stream_pb2.VideoPacket(session_id=session_id, frame=frame, data=b"x" * 13_000)


async def test_the_packets_of_a_batch_reach_their_sessions_in_order(bench: Bench) -> None:
    _, (first, second) = await bench.opened("s1", "s2")
    packets = [video(f"s{1 + number % 3}", number) for number in range(12)]
    bench.actor.media.put_nowait(stream_pb2.MediaResponse(packets=packets))
    await second.changes.until(lambda: len(second.packets) == 4)
    assert [packet.frame for packet in first.packets] == [0, 3, 6, 9]
    assert [packet.frame for packet in second.packets] == [1, 4, 7, 10]


async def test_a_session_that_fails_harms_no_other_of_the_batch(bench: Bench) -> None:
    _, (first, second) = await bench.opened("s1", "s2")
    first.fails = True
    packets = [video("s1", 0), video("s2", 0), video("s1", 1), video("s2", 1)]
    bench.actor.media.put_nowait(stream_pb2.MediaResponse(packets=packets))
    await second.changes.until(lambda: len(second.packets) == 2)


async def test_camera_frames_arrive_complete_and_in_order(bench: Bench) -> None:
    link, _ = await bench.opened("s1")
    for number in range(40):
        assert link.camera(
            stream_pb2.CameraPacket(session_id="s1", timestamp_us=number, data=b"x" * 20_000)
        )
    await bench.actor.changes.until(lambda: len(bench.actor.cameras) == 40)
    assert [packet.timestamp_us for packet in bench.actor.cameras] == list(range(40))


async def test_a_link_whose_stream_ends_tells_its_sessions_and_is_made_anew(bench: Bench) -> None:
    link, (first, second) = await bench.opened("s1", "s2")
    bench.actor.control.put_nowait(None)
    await second.changes.until(lambda: first.lost and second.lost)
    assert link.dead
    assert not link.camera(stream_pb2.CameraPacket(session_id="s1"))
    with pytest.raises(LinkDeadError):
        link.join("s1", first, "token")
    assert await bench.links.get(bench.address) is not link
    assert (first.lost, second.lost) == (1, 1)


async def test_who_it_is_is_said_by_itself_whatever_waits_already(bench: Bench) -> None:
    link = await bench.links.get(bench.address)
    for number in range(3):
        link.join(f"s{number}", Session(), "token")
    await bench.actor.changes.until(lambda: len(bench.actor.asked) >= 2)
    assert bench.actor.asked[0].WhichOneof("request") == "hello"


async def test_who_leaves_hears_nothing_more(bench: Bench) -> None:
    link, (first, second) = await bench.opened("s1", "s2")
    link.leave("s1", second)
    link.leave("s1", first)
    link.leave("s1", first)
    packets = [video("s1", 0), video("s2", 0)]
    bench.actor.media.put_nowait(stream_pb2.MediaResponse(packets=packets))
    await second.changes.until(lambda: second.packets)
    assert first.packets == []
    await bench.actor.changes.until(
        lambda: (
            [each.leave.session_id for each in bench.actor.asked if each.HasField("leave")]
            == ["s1"]
        )
    )


async def test_a_session_that_joined_anew_is_not_left_by_who_was_there_before(
    bench: Bench,
) -> None:
    link, (first,) = await bench.opened("s1")
    second, restore = Session(), stream_pb2.Restore(run=2, next_frame=7, revision=5)
    link.join("s1", second, "other token", restore, standby=True)
    link.leave("s1", first)
    opens = await bench.actor.changes.until(
        lambda: [each.open for each in bench.actor.asked if each.HasField("open")][1:]
    )
    wanted = stream_pb2.Open(session_id="s1", token="other token", restore=restore, standby=True)
    assert opens == [wanted]
    assert not any(each.HasField("leave") for each in bench.actor.asked)


async def test_an_address_where_nobody_listens_any_more_is_known_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HELLO_TIMEOUT_S", 60.0)
    links = ActorLinks("g1")
    async with asyncio.timeout(20):
        with pytest.raises(LinkDeadError):
            await links.get(f"unix:{tmp_path / 'gone'}")
    await links.close()


async def test_an_actor_whose_process_is_stopped_is_noticed(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 'actor'}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fakes.stream_actor", address,
        stdout=asyncio.subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    links, session = ActorLinks("g1"), Session()
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        link = await links.get(address)
        link.join("s1", session, "token")
        await session.changes.until(lambda: session.told)
        process.send_signal(signal.SIGSTOP)
        await session.changes.until(lambda: session.lost, timeout_s=60.0)
        assert link.dead
    finally:
        process.kill()
        await process.wait()
        await links.close()


def told(asked: list[stream_pb2.ControlRequest]) -> list[tuple[str, ...]]:
    """Returns what each message that came told of: (what, session)."""
    return [
        tuple(
            f"{kind} {getattr(each, kind).session_id}"
            for each in request.more or (request,)
            if (kind := each.WhichOneof("request") or "") != "hello"
        )
        for request in asked
    ]


async def test_what_is_told_together_goes_in_one_message_in_its_order(bench: Bench) -> None:
    link, _ = await bench.opened("s1")
    bench.actor.asked.clear()
    for number in range(3):
        commit = stream_pb2.Commit(session_id=f"s{number}")
        link.send(stream_pb2.ControlRequest(commit=commit), urgent=False)
    link.send(stream_pb2.ControlRequest(playout=stream_pb2.Playout(session_id="s3")))
    await bench.actor.changes.until(lambda: bench.actor.asked)
    assert told(bench.actor.asked) == [("commit s0", "commit s1", "commit s2", "playout s3")]


async def test_what_is_not_urgent_leaves_by_itself_all_the_same(bench: Bench) -> None:
    link, _ = await bench.opened("s1")
    bench.actor.asked.clear()
    commit = stream_pb2.Commit(session_id="s1")
    link.send(stream_pb2.ControlRequest(commit=commit), urgent=False)
    await bench.actor.changes.until(lambda: bench.actor.asked)
    assert told(bench.actor.asked) == [("commit s1",)]


async def test_several_responses_in_one_message_reach_their_sessions_in_order(bench: Bench) -> None:
    _, (first, second) = await bench.opened("s1", "s2")
    responses = [
        stream_pb2.ControlResponse(
            ack=stream_pb2.SessionAck(session_id=session_id, command_id=word)
        )
        for session_id, word in (("s1", "a"), ("s2", "b"), ("s1", "c"))
    ]
    bench.actor.control.put_nowait(stream_pb2.ControlResponse(more=responses))
    await first.changes.until(lambda: len(first.told) == 3)
    assert [each.ack.command_id for each in first.told[1:]] == ["a", "c"]
    assert [each.ack.command_id for each in second.told[1:]] == ["b"]
