"""Our Python client by its public names alone: arrays in, arrays out, over gRPC and WebRTC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sana_gateway import Client, CommandRejected, PublisherTakenError, RejectReason, Session
from sana_gateway.camera import Camera, Rgb, play
from sana_gateway.pictures import Picture
from sdk_adapters.harness.marker import Marker, read_marker, session_tag
from tests.e2e.driving import PROMPT, WAIT_S, Told, stage, stage_another
from tests.e2e.reactor.matrix import CLOUD, record
from tests.media.clips import Recipe, make
from tests.stack import Stack

pytestmark = pytest.mark.e2e

NAMES = {"grpc": "sana-gateway-client gRPC", "webrtc": "sana-gateway-client WebRTC"}
WIRES = tuple(NAMES)
LAST = {"grpc": 80, "webrtc": 70}
"""Frame of the long clip that is seen by all means: over WebRTC the very last ones may be lost."""
SIZES = ((192, 320, 3), (96, 160, 3))
"""That of the model; half of it for a viewer that does not keep up, as on a busy machine."""


@pytest.fixture(scope="module")
def quarter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of a quarter of a minute, for what takes a while."""
    return make(tmp_path_factory.mktemp("clips") / "quarter.mp4", Recipe(frames=24 * 15))


class Screen:
    """What a viewer saw: the numbers read from the pixels of its pictures."""

    def __init__(self, session: Session) -> None:
        self.marks: list[Marker] = []
        self.pictures: list[Picture] = []
        """Without their pixels, which would fill the memory."""
        self._tag = session_tag(session.session_id)
        self._more = asyncio.Event()

    def take(self, picture: Picture) -> None:
        """Looks at a picture."""
        assert picture.rgb.shape in SIZES
        mark = read_marker(luma(picture.rgb))
        if mark is not None:
            assert mark.session_tag == self._tag, "a picture of somebody else's session"
            self.marks.append(mark)
            self.pictures.append(Picture(picture.rgb[:0], *fields(picture)))
            self._more.set()

    @property
    def frames(self) -> list[int]:
        """The numbers of the newest run, each as often as it was seen."""
        newest = self.marks[-1].run if self.marks else None
        return [mark.frame for mark in self.marks if mark.run == newest]

    def has_shown(self, run: int, frame: int) -> bool:
        """Whether so many runs were seen, and the newest of them up to a frame."""
        return len({mark.run for mark in self.marks}) == run and max(self.frames) >= frame

    async def until(self, condition: Callable[[], object]) -> None:
        """Waits until what was seen satisfies a condition."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self._more.clear()
                await self._more.wait()


def fields(picture: Picture) -> tuple[int, int | None, int | None, int | None]:
    return picture.timestamp_us, picture.run, picture.chunk, picture.frame


def luma(rgb: Rgb) -> Any:
    """BT.601 luma of the limited range, as the marker's reader expects it."""
    weighted = rgb @ np.array([0.257, 0.504, 0.098]) + 16
    return weighted.clip(0, 255).astype(np.uint8)


@asynccontextmanager
async def watching(session: Session, wire: str, camera: Camera | None = None) -> AsyncIterator[Any]:
    """Watches, and publishes a camera, by one of the two ways."""
    screen = Screen(session)
    publishing: asyncio.Task[None] | None = None

    async def look(pictures: AsyncIterator[Picture]) -> None:
        async for picture in pictures:
            screen.take(picture)

    async with (
        session.peer(camera=camera, codec="vp8") if wire == "webrtc" else session.pictures()
    ) as source:
        if wire == "grpc" and camera is not None:
            publishing = asyncio.create_task(session.publish_camera(camera))
        shown = source.pictures() if wire == "webrtc" else source
        looking = asyncio.create_task(look(shown))
        try:
            yield screen
        finally:
            for task in (looking, publishing):
                if task is not None:
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task


@asynccontextmanager
async def filming(clip: Path) -> AsyncIterator[Camera]:
    """A camera that shows a clip over and over."""
    camera = Camera()
    playing = asyncio.create_task(play(camera, clip, loop=True))
    try:
        yield camera
    finally:
        camera.close()
        playing.cancel()
        with suppress(asyncio.CancelledError):
            await playing


@pytest.mark.parametrize("wire", WIRES)
async def test_a_camera_is_edited(client: Client, clip: Path, wire: str) -> None:
    with record(NAMES[wire], CLOUD, "live"):
        async with (
            await client.create_session("simulated") as session,
            filming(clip) as camera,
            watching(session, wire, camera) as screen,
        ):
            told = Told(session)
            await session.set_prompt(PROMPT)
            await session.set_mode("live")
            await session.start()
            await told.until_told("generation_started")
            await screen.until(lambda: len(set(screen.frames)) >= 30)
            await session.set_prompt("charcoal")
            await told.until(
                lambda: any(c.active_prompt == "charcoal" for c in told.of("chunk_complete"))
            )
            await session.pause()
            await session.wait_for(lambda state: state.paused and not state.running, WAIT_S)
            await session.resume()
            seen = max(screen.frames)
            await screen.until(lambda: max(screen.frames) > seen + 24)
            await session.reset()
            state = await session.wait_for(lambda state: not state.started, WAIT_S)
            assert not state.has_prompt
            assert told.of("generation_reset")


@pytest.mark.parametrize("wire", WIRES)
async def test_a_clip_is_edited_to_its_end_and_again(
    client: Client, long_clip: Path, wire: str
) -> None:
    with record(NAMES[wire], CLOUD, "file"):
        async with await client.create_session("simulated") as session:
            told = Told(session)
            async with watching(session, wire) as screen:
                await stage(session, long_clip)
                await session.set_seed(7)
                for plays in (1, 2):
                    await session.start()
                    await told.until_told("generation_complete", plays)
                    await screen.until(lambda plays=plays: screen.has_shown(plays, LAST[wire]))
                    state = await session.wait_for(lambda state: not state.started, WAIT_S)
                    assert (state.has_video, state.seed) == (True, 7)
            assert told.of("generation_complete")[0].total_chunks == 4
            assert screen.frames == sorted(screen.frames)
            runs = {mark.run for mark in screen.marks}
            assert len(runs) == 2
            if wire == "grpc":
                assert [each.frame for each in screen.pictures] == [m.frame for m in screen.marks]
                assert screen.frames == list(range(81)), "each once, none left out"


@pytest.mark.parametrize("wire", WIRES)
async def test_a_clip_takes_the_place_of_another(
    client: Client, clip: Path, long_clip: Path, wire: str
) -> None:
    with record(NAMES[wire], CLOUD, "uploads"):
        async with await client.create_session("simulated") as session:
            told = Told(session)
            async with watching(session, wire) as screen:
                await stage(session, clip)
                assert (await stage_another(session, told, long_clip)).num_frames == 81
                refused = await stage_another(session, told, b"this is no clip" * 100)
                assert refused.code == RejectReason.Value("REJECT_REASON_BAD_VIDEO")
                assert session.state is not None
                assert session.state.num_source_frames == 81, "as it was"
                await session.start()
                await screen.until(lambda: len(set(screen.frames)) >= 30)


@pytest.mark.parametrize("wire", WIRES)
async def test_a_second_client_sees_hears_and_controls_it(
    simulated: Stack, client: Client, long_clip: Path, wire: str
) -> None:
    with record(NAMES[wire], CLOUD, "join"):
        async with (
            await client.create_session("simulated") as session,
            Client(simulated.grpc_address) as another,
            await another.attach(session.session_id) as joined,
            filming(long_clip) as camera,
        ):
            told, heard = Told(session), Told(joined)
            async with (
                watching(session, wire, camera) as screen,
                watching(joined, wire) as other,
            ):
                await session.set_prompt(PROMPT)
                await session.start()
                await other.until(lambda: len(set(other.frames)) >= 30)
                await screen.until(lambda: len(set(screen.frames)) >= 30)
                if wire == "grpc":
                    with pytest.raises(PublisherTakenError):
                        await joined.publish_camera(Camera())
                await joined.pause()
                await session.wait_for(lambda state: state.paused, WAIT_S)
            assert heard.of("chunk_complete")
            assert told.of("chunk_complete")[: len(heard.of("chunk_complete"))]


@pytest.mark.parametrize("wire", WIRES)
async def test_what_is_refused_says_why_and_changes_nothing(
    client: Client, clip: Path, wire: str
) -> None:
    with record(NAMES[wire], CLOUD, "errors"):
        async with (
            await client.create_session("simulated") as session,
            watching(session, wire) as screen,
        ):
            with pytest.raises(CommandRejected) as refused:
                await session.start()
            assert refused.value.command == "start"
            assert refused.value.reason
            with pytest.raises(CommandRejected) as refused:
                await session.resume()
            assert refused.value.allowed_phases
            with pytest.raises(CommandRejected):
                await session.set_prompt(" ")
            await stage(session, clip)
            await session.start()
            with pytest.raises(CommandRejected):
                await session.start()
            await screen.until(lambda: len(set(screen.frames)) >= 30)


@pytest.mark.parametrize("wire", WIRES)
async def test_a_lost_connection_is_taken_up_again(
    simulated: Stack, quarter: Path, wire: str
) -> None:
    """The network of the client is cut amid a run; over WebRTC its peer is lost as well."""
    with record(NAMES[wire], CLOUD, "reconnect"):
        async with (
            cable(simulated.grpc_address) as line,
            Client(line.address) as client,
            await client.create_session("simulated") as session,
        ):
            told = Told(session)
            await stage(session, quarter)
            async with watching(session, wire) as screen:
                await session.start()
                await screen.until(lambda: len(set(screen.frames)) >= 30)
                chunks = len(told.of("chunk_complete"))
                line.cut()
                if wire == "grpc":
                    seen = max(screen.frames)
                    await screen.until(lambda: max(screen.frames) > seen + 48)
            if wire == "webrtc":
                async with watching(session, wire) as screen:
                    await screen.until(lambda: len(set(screen.frames)) >= 30)
            await told.until_told("chunk_complete", chunks + 3)
            indices = [each.chunk_index for each in told.of("chunk_complete")]
            assert indices == list(range(len(indices))), "no message was missed or repeated"
            assert session.gaps == 0
            await session.pause()
            await session.wait_for(lambda state: state.paused, WAIT_S)


class Cable:
    """A TCP connection to a service that can be cut; what dials again gets through."""

    def __init__(self, host: str, port: int) -> None:
        self.address = ""
        self._to = (host, int(port))
        self._ends: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Cuts all that is connected."""
        for each in self._ends:
            each.transport.abort()

    async def plug(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connects somebody who dialled."""
        far_reader, far_writer = await asyncio.open_connection(*self._to)
        self._ends |= {writer, far_writer}
        await asyncio.gather(
            carry(reader, far_writer), carry(far_reader, writer), return_exceptions=True
        )
        self._ends -= {writer, far_writer}


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@asynccontextmanager
async def cable(address: str) -> AsyncIterator[Cable]:
    host, _, port = address.rpartition(":")
    line = Cable(host, int(port))
    server = await asyncio.start_server(line.plug, "127.0.0.1")
    line.address = "{}:{}".format(*server.sockets[0].getsockname())
    try:
        yield line
    finally:
        server.close()
        line.cut()
