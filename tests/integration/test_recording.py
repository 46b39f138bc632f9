"""A session of the gateway is recorded, with whatever becomes of its actor.

Real are the session, its play-out and its outputs, the recorder, the remuxing and the files;
the actor is played by the test, with packets of a real encoder.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from gateway.links import ActorLink
from gateway.recording.index import HEADER, Index
from gateway.recording.recordings import Bounds, Recordings
from gateway.session import GatewaySession
from sana_gateway.v1 import media_pb2
from sana_gateway_internal.v1 import stream_pb2
from tests.fakes.gateway_parts import Ear, FakeLink, lease
from tests.unit.gateway.recording.reels import HEIGHT, WIDTH, numbers, packets
from tests.unit.gateway.recording.studio import WatchedStorage, allow
from tests.unit.gateway.test_session import FRAME_RATE, ME, SESSION, Bench

pytestmark = pytest.mark.integration

H264, VP8 = media_pb2.CODEC_H264, media_pb2.CODEC_VP8


class Recorded(Bench):
    """A session that is recorded from the moment it has an actor."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.storage = WatchedStorage(root)
        bounds = Bounds(1 << 30, 1 << 30, 60.0)
        self.recordings = Recordings(self.storage, "g1", bounds, allow)
        self.events.opened = self._opened  # type: ignore[method-assign]

    def _opened(self, session: GatewaySession) -> None:
        self.recordings.opened(session)

    async def at(self, link: FakeLink, epoch: int = 1) -> None:
        """The session gets an actor, which is told that it is recorded."""
        self.link = link
        place = lease(SESSION, link.address, ME, epoch=epoch)
        place.capabilities.width, place.capabilities.height = WIDTH, HEIGHT
        place.capabilities.frame_rate = FRAME_RATE
        self.session.join(place, cast(ActorLink, link))
        link.open(SESSION)
        await link.changes.until(self.demanded)

    def demanded(self) -> list[stream_pb2.OutputDemand]:
        """Returns what the actor was told of H.264."""
        return [each for each in self.link.of("output") if each.output.codec == H264]

    async def play(self, first: int, count: int, *, epoch: int = 1, gop: int = 100) -> None:
        """The actor makes a chunk, and the gateway shows it to its end."""
        commits = len(self.link.of("commit"))
        self.chunk(1, count, chunk=first, first=first)
        for n, (data, key) in enumerate(packets(count, gop, first=first)):
            self.give(data, first + n, key=key, epoch=epoch)
        await self.link.changes.until(lambda: len(self.link.of("commit")) > commits)

    def give(
        self, data: bytes, frame: int, *, key: bool, epoch: int = 1, held: bool = False
    ) -> None:
        self.link.packet(
            stream_pb2.VideoPacket(
                session_id=SESSION, epoch=epoch, run=1, frame=frame, keyframe=key, data=data,
                output=stream_pb2.Output(codec=H264), held=held,
            )
        )  # fmt: skip

    async def recorded(self, root: Path) -> list[int]:
        """Ends the session; returns the numbers of the pictures that were recorded."""
        self.session.close("the test is over")
        self.recordings.ended(SESSION)
        await self.recordings.close()
        folder = root / "recordings" / SESSION
        index = Index.decoded((folder / "index.json").read_bytes())
        assert index is not None
        names = [HEADER, *(each.name for each in index.segments)]
        return numbers((folder / name).read_bytes() for name in names)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Recorded]:
    made = Recorded(tmp_path)
    yield made
    await made.recordings.close()
    await made.storage.close()


async def test_a_session_is_recorded_though_nobody_watches(bench: Recorded, tmp_path: Path) -> None:
    await bench.at(FakeLink())
    (demand,) = bench.demanded()
    assert (demand.wanted, demand.keyframe, demand.recorded) == (True, True, True)
    await bench.play(0, 24)
    assert await bench.recorded(tmp_path) == list(range(24))


async def test_its_output_is_shared_with_who_watches_h264_and_beside_that_of_others(
    bench: Recorded, tmp_path: Path
) -> None:
    await bench.at(FakeLink())
    ears = [Ear(), Ear()]
    for ear, codec in zip(ears, (H264, VP8), strict=True):
        bench.session.connect(ear)[0].subscribe([codec], ear)
    wanted = {(each.output.codec, each.output.rung) for each in bench.link.of("output")}
    assert wanted == {(H264, 0), (VP8, 0)}
    await bench.play(0, 24)
    assert [each.frame for each in ears[0].frames] == list(range(24))
    assert await bench.recorded(tmp_path) == list(range(24))


async def test_it_goes_on_at_another_actor_when_its_own_was_killed(
    bench: Recorded, tmp_path: Path
) -> None:
    await bench.at(FakeLink())
    await bench.play(0, 24)
    bench.link.lose()
    await bench.at(FakeLink("actor-2"), epoch=2)
    (demand,) = bench.demanded()
    assert (demand.keyframe, demand.recorded) == (True, True)
    await bench.play(24, 24, epoch=2)
    assert await bench.recorded(tmp_path) == list(range(48))


async def test_a_pause_is_no_part_of_it(bench: Recorded, tmp_path: Path) -> None:
    await bench.at(FakeLink())
    await bench.play(0, 24)
    for n, (data, key) in enumerate(packets(5, 5, first=23)):
        bench.give(data, 23, key=n == 0 and key, held=True)
    await bench.storage.changes.until(lambda: "chunk_00000.m4s" in bench.storage.written)
    await bench.play(24, 24)
    assert await bench.recorded(tmp_path) == list(range(48))


async def test_a_session_goes_on_when_it_cannot_be_recorded_any_more(bench: Recorded) -> None:
    ear = Ear()
    await bench.at(FakeLink())
    bench.session.connect(ear)[0].subscribe([H264], ear)
    await bench.play(0, 24)
    bench.storage.broken = True
    bench.recordings.clip(SESSION, 1.0)
    await bench.link.changes.until(lambda: not bench.demanded()[-1].recorded)
    assert bench.demanded()[-1].wanted
    await bench.play(24, 24)
    assert [each.frame for each in ear.frames] == list(range(48))
