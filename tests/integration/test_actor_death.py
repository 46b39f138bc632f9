"""Two actors over real sockets: one vanishes in the middle of a run, the other goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import av
import grpc
import numpy as np
import pytest

from sana_gateway.v1 import command_pb2, media_pb2, message_pb2
from sana_gateway_internal.v1 import snapshot_pb2, stream_pb2, stream_pb2_grpc
from scheduler.core.ids import Epoch, GatewayId, SessionId
from scheduler.core.quality import FULL, Quality
from scheduler.process.storage import FilesystemStorage
from scheduler.process.tokens import LeaseTokens
from sdk_adapters.harness.marker import read_marker
from tests.integration.model_hosts import SECRET, Hosts, placement
from tests.media.clips import Recipe, make

pytestmark = pytest.mark.integration

TOKENS = LeaseTokens(SECRET)
FRAMES = 33 + 5 * 24
VP8 = stream_pb2.Output(codec=media_pb2.CODEC_VP8)


@dataclass
class Seen:
    """What a viewer has seen of one session."""

    frames: list[tuple[int, np.ndarray]] = field(default_factory=list)
    """(frame by its packet, luma by its decoder), in order."""
    keyframes: list[int] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)


class Gateway:
    """A gateway with one session: plays chunks by a clock of its own, and decodes."""

    def __init__(self) -> None:
        self.snapshot: snapshot_pb2.ControlSnapshot | None = None
        self.messages: list[message_pb2.Message] = []
        self.told: list[stream_pb2.ControlResponse] = []
        self.seen = Seen()
        self.run = self.next_frame = 0
        self._end = 0
        self._ends: dict[int, int] = {}
        self._changed = asyncio.Event()
        self._ids = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def link(self, address: str, epoch: int, restore: stream_pb2.Restore | None) -> None:
        """Takes part at an actor; what the link to another one says does not count any more."""
        await self.leave()
        self.seen.epochs.append(epoch)
        self._decoder = av.CodecContext.create("vp8", "r")
        self._channel = grpc.aio.insecure_channel(address)
        stub = stream_pb2_grpc.StreamStub(self._channel)
        self._requests: asyncio.Queue[stream_pb2.ControlRequest] = asyncio.Queue()
        self._send(hello=stream_pb2.Hello(gateway_id="g1"))
        token = TOKENS.sign(SessionId("s1"), Epoch(epoch), GatewayId("g1"))
        self._send(open=stream_pb2.Open(session_id="s1", token=token, restore=restore))
        control = stub.Control(self._outgoing(self._requests))
        self._tasks = [asyncio.create_task(self._control(control))]
        await self.until(lambda: any(each.HasField("opened") for each in self.told[-3:]))
        media = stub.Media(_nothing(), metadata=(("gateway-id", "g1"),))
        self._tasks += [asyncio.create_task(self._media(media, epoch))]
        demand = stream_pb2.OutputDemand(session_id="s1", output=VP8, wanted=True, keyframe=True)
        self._send(output=demand)

    async def leave(self) -> None:
        """Ends its link, as when the other end is gone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks:
            await self._channel.close(None)
        self._tasks = []
        self._end = self.next_frame
        self._ends.clear()

    def command(self, **fields: object) -> None:
        self._ids += 1
        command = command_pb2.Command(command_id=f"c{self._ids}", **fields)  # type: ignore[arg-type]
        told = stream_pb2.SessionCommand(session_id="s1", connection_id=1, command=command)
        self._send(command=told)

    def restore(self) -> stream_pb2.Restore:
        revision = max((message.revision for message in self.messages), default=0)
        return stream_pb2.Restore(
            snapshot=self.snapshot, run=self.run, next_frame=self.next_frame, revision=revision
        )

    def has(self, kind: str) -> Callable[[], bool]:
        return lambda: any(each.WhichOneof("payload") == kind for each in self.messages)

    async def until(self, condition: Callable[[], bool], seconds: float = 40) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def _send(self, **fields: object) -> None:
        self._requests.put_nowait(stream_pb2.ControlRequest(**fields))  # type: ignore[arg-type]

    @staticmethod
    async def _outgoing(
        requests: asyncio.Queue[stream_pb2.ControlRequest],
    ) -> AsyncIterator[stream_pb2.ControlRequest]:
        while True:
            yield await requests.get()

    async def _control(self, call: AsyncIterable[stream_pb2.ControlResponse]) -> None:
        async for together in call:
            for response in together.more or (together,):
                self._take(response)
                self._changed.set()

    def _take(self, response: stream_pb2.ControlResponse) -> None:
        self.told.append(response)
        match response.WhichOneof("response"):
            case "snapshot":
                self.snapshot = response.snapshot.snapshot
            case "message":
                self.messages.append(response.message.message)
            case "chunk":
                chunk = response.chunk
                if chunk.run != self.run:
                    self.run, self.next_frame, self._end = chunk.run, 0, 0
                assert chunk.first_frame == max(self._end, self.next_frame)
                began = self._end == self.next_frame
                self._end = chunk.first_frame + chunk.frames
                self._ends[chunk.chunk] = self._end
                if began:
                    self._report(0.1)

    async def _media(self, call: AsyncIterable[stream_pb2.MediaResponse], epoch: int) -> None:
        async for batch in call:
            for packet in batch.packets:
                if packet.held or packet.run < self.run or packet.epoch != epoch:
                    continue
                if packet.keyframe:
                    self.seen.keyframes.append(packet.frame)
                for frame in self._decoder.decode(av.Packet(packet.data)):
                    plane = np.frombuffer(bytes(frame.planes[0]), np.uint8)
                    luma = plane.reshape(frame.height, -1)[:, : frame.width]
                    self.seen.frames.append((packet.frame, luma.copy()))
                self._show(packet.frame)
                self._changed.set()

    def _show(self, frame: int) -> None:
        """A frame is handed out as it comes: the actor encodes by the clock."""
        self.next_frame = frame + 1
        for chunk in [chunk for chunk, end in self._ends.items() if end <= self.next_frame]:
            del self._ends[chunk]
            self._send(commit=stream_pb2.Commit(session_id="s1", run=self.run, chunk=chunk))
            self._report(1 / 24)

    def _report(self, due_in_s: float) -> None:
        report = stream_pb2.Playout(
            session_id="s1",
            run=self.run,
            next_frame=self.next_frame,
            due_in_us=round(due_in_s * 1e6),
            buffered=self._end - self.next_frame,
        )
        self._send(playout=report)


async def _nothing() -> AsyncIterator[stream_pb2.MediaRequest]:
    await asyncio.Event().wait()
    yield stream_pb2.MediaRequest()


@pytest.fixture
async def hosts(tmp_path: Path) -> AsyncIterator[Hosts]:
    hosts = Hosts(tmp_path)
    yield hosts
    await hosts.stop()


async def test_a_viewer_sees_every_frame_of_a_clip_once_although_its_actor_died(
    hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    booked = asyncio.Event()

    async def book(*_: object) -> tuple[Quality, float]:
        booked.set()
        return FULL, 0.0

    monkeypatch.setattr("model_actor.enrolment.Enrolment.book", book)
    # A busy machine may encode late: here every frame counts.
    monkeypatch.setattr("model_actor.engine.outputs.SKIP_AFTER_S", 600.0)
    storage = FilesystemStorage(tmp_path / "storage")
    clip = make(tmp_path / "clip.mp4", Recipe(frames=FRAMES)).read_bytes()
    await storage.create("s1/u1", len(clip))
    await storage.append("s1/u1", 0, clip)
    await storage.close()
    first, address = await hosts.start()
    assert await first.admit(placement(1)) == ""
    gateway = Gateway()
    await gateway.link(address, 1, None)
    gateway.command(set_mode=command_pb2.SetMode(mode=command_pb2.MODE_FILE))
    upload = command_pb2.FileRef(upload_id="u1", size=len(clip))
    gateway.command(set_video=command_pb2.SetVideo(video=upload))
    gateway.command(set_prompt=command_pb2.SetPrompt(prompt="one"))
    await gateway.until(gateway.has("video_accepted"))
    gateway.command(start=command_pb2.Start())
    second, other = await hosts.start()
    # In the middle of a chunk, with a state on the host that is older.
    await gateway.until(lambda: gateway.next_frame >= 70)
    hosts.vanish(first)
    await gateway.leave()
    died_at = gateway.next_frame
    assert await second.admit(placement(2, restore=True, computing=True)) == ""
    await gateway.link(other, 2, gateway.restore())
    await gateway.until(gateway.has("generation_complete"))
    moved = [each.session_moved for each in gateway.messages if each.HasField("session_moved")]
    assert [each.continuity for each in moved] == [message_pb2.CONTINUITY_EXACT]
    numbers = [number for number, _ in gateway.seen.frames]
    assert numbers == list(range(FRAMES)), "by the packets"
    markers = [read_marker(luma) for _, luma in gateway.seen.frames]
    assert [marker.frame for marker in markers if marker is not None] == numbers, "by the pictures"
    assert died_at in gateway.seen.keyframes, "the other actor begins with a keyframe"
    done = [each.chunk_complete for each in gateway.messages if each.HasField("chunk_complete")]
    assert sum(each.frames_emitted for each in done) == FRAMES
    assert [each.chunk_index for each in done] == list(range(7))
    with contextlib.suppress(ValueError):
        await gateway.leave()
