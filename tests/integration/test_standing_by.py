"""A session on its way to another actor: what that one does before it has the session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import grpc
import pytest

from gateway import moving
from gateway.links import ActorLink, ActorLinks
from gateway.pacing import Pacing
from gateway.ports import CameraFrame
from gateway.session import GatewaySession
from model_actor.engine.live_session import LiveSession
from model_actor.engine.shells import Shell
from model_actor.host import SERVER_OPTIONS
from model_actor.stream_server import StreamServicer
from sana_gateway.v1 import command_pb2, media_pb2, message_pb2
from sana_gateway_internal.v1 import placement_pb2, snapshot_pb2, stream_pb2, stream_pb2_grpc
from scheduler.process.tokens import LeaseTokens
from tests.fakes.gateway_parts import Ear, FakeLink, lease
from tests.unit.gateway.test_session import ME, SESSION, Events
from tests.unit.model_actor.moving_bench import Actor

pytestmark = pytest.mark.integration

TOKENS = LeaseTokens("s" * 32)
FRAME_S = 0.005
"""Between two frames of the camera."""


class Served(Actor):
    """An actor behind its streams."""

    def get(self, session_id: str) -> LiveSession | Shell | None:
        return self.sessions.get(session_id)

    def all(self) -> list[LiveSession | Shell]:
        return list(self.sessions.values())


class Camera(Ear):
    """A client whose camera sends a keyframe when it is asked for one, and never else."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[CameraFrame] = []
        self._keyframe = True

    def camera_keyframe(self) -> None:
        super().camera_keyframe()
        self._keyframe = True

    def next(self) -> CameraFrame:
        keyframe, self._keyframe = self._keyframe, False
        number = len(self.sent) + 1
        codec = media_pb2.CODEC_VP8
        self.sent.append(CameraFrame(b"x", keyframe=keyframe, codec=codec, timestamp_us=number))
        return self.sent[-1]


class Moving:
    """A session of a gateway whose old actor is the test's and whose new one is real."""

    def __init__(self, gateway_id: str, actor: Served, address: str) -> None:
        self.old = FakeLink()
        self.actor = actor
        self.camera = Camera()
        self.links = ActorLinks(gateway_id)
        self.session = GatewaySession(
            SESSION, "rememberer", ME, Events(), max_connections=4, pacing=Pacing()
        )
        self.session.join(lease(SESSION, "old", ME), cast(ActorLink, self.old))
        self.old.open(SESSION)
        self.connection, _ = self.session.connect(self.camera)
        self._gateway_id = gateway_id
        self._address = address

    def plays(self, mode: command_pb2.Mode.ValueType) -> None:
        """The session runs, as its old actor says."""
        state = message_pb2.State(running=True, mode=mode)
        message = stream_pb2.SessionMessage(message=message_pb2.Message(revision=1, state=state))
        self.old.tell(SESSION, message=message)

    async def told_to_move(self) -> None:
        target = placement_pb2.Lease()
        target.CopyFrom(lease(SESSION, self._address, ME, epoch=2))
        target.token = TOKENS.sign(SESSION, 2, self._gateway_id)
        self.session.move(target, await self.links.get(self._address))

    def hand_over(self) -> None:
        """The old actor hands the session over: it was idle."""
        handed = snapshot_pb2.ControlSnapshot(
            session_id=SESSION, epoch=1, revision=1, mode=command_pb2.MODE_LIVE
        )
        handed.phase = message_pb2.PHASE_IDLE
        self.old.tell(SESSION, handed_over=stream_pb2.HandedOver(snapshot=handed))

    async def film(self) -> None:
        """Sends the camera until cancelled."""
        while True:
            self.connection.camera(self.camera.next())
            await asyncio.sleep(FRAME_S)


@pytest.fixture
async def actor(tmp_path: Path) -> AsyncIterator[Served]:
    actor = Served(tmp_path)
    server = grpc.aio.server(options=SERVER_OPTIONS)
    stream_pb2_grpc.add_StreamServicer_to_server(StreamServicer(actor, TOKENS), server)
    server.add_insecure_port(f"unix:{tmp_path}/new")
    await server.start()
    await actor.admit(2, restore=True, computing=True)
    yield actor
    await server.stop(0)
    await actor.close()


@pytest.fixture
async def bench(
    tmp_path: Path, actor: Served, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Moving]:
    """A gateway that hands over once the new actor answers and is fed, and never else."""
    for name, seconds in {"ANSWER_S": 60, "FOREIGN_S": 60, "FEED_S": 0.05, "CHUNK_S": 0}.items():
        monkeypatch.setattr(moving, name, float(seconds))
    monkeypatch.setitem(moving._WAITS, moving.Stage.PREPARING, 60.0)
    bench = Moving("g1", actor, f"unix:{tmp_path}/new")
    yield bench
    bench.session.close("the test is over")
    await bench.links.close()


async def test_a_camera_that_sends_no_keyframes_unasked_reaches_the_new_actor_before_it_takes_over(
    bench: Moving,
) -> None:
    bench.plays(command_pb2.MODE_LIVE)
    filming = asyncio.create_task(bench.film())
    await bench.told_to_move()
    async with asyncio.timeout(20):
        decoder = await bench.actor.workers.cameras.get()
        await bench.old.changes.until(lambda: bench.old.of("hand_over"))
    filming.cancel()
    first, *rest = decoder.packets
    assert first.keyframe
    begun = [each.timestamp_us for each in decoder.packets]
    assert begun == list(range(first.timestamp_us, first.timestamp_us + 1 + len(rest)))


async def test_a_new_actor_of_a_clip_is_waited_for_no_longer_than_it_takes_to_answer(
    bench: Moving,
) -> None:
    bench.plays(command_pb2.MODE_FILE)
    await bench.told_to_move()
    async with asyncio.timeout(20):
        await bench.old.changes.until(lambda: bench.old.of("hand_over"))


async def test_a_gateway_that_stands_by_when_another_has_brought_the_session_is_answered(
    bench: Moving, actor: Served, tmp_path: Path
) -> None:
    bench.plays(command_pb2.MODE_FILE)
    await bench.told_to_move()
    async with asyncio.timeout(20):
        await bench.old.changes.until(lambda: bench.old.of("hand_over"))
        bench.hand_over()
        while not isinstance(actor.get(SESSION), LiveSession):  # noqa: ASYNC110
            await asyncio.sleep(FRAME_S)
        second = Moving("g2", actor, f"unix:{tmp_path}/new")
        second.plays(command_pb2.MODE_LIVE)
        filming = asyncio.create_task(second.film())
        await second.told_to_move()
        await second.old.changes.until(lambda: second.old.of("hand_over"))
    filming.cancel()
    assert actor.session.has_gateway("g2")
    assert actor.session._gateways.get("g2") is None, "it takes part when it says so"
    second.session.close("the test is over")
    await second.links.close()
