"""What the end-to-end tests drive the service with: words, pictures, clips, cameras."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Generic, TypeVar

import av

from sana_gateway import CameraFrame, Client, Codec, Message, Session, VideoFrame, ViewerStats
from sana_gateway.v1 import media_pb2
from tests.media.clips import Recipe, numbered, picture

FULL_SIZE = ("--model", "simulated", "--model-option", "chunk_ms=50", "--backend", "in-process")
"""Options of a service without Ray whose model marks each frame with its number."""
SIMULATED = (*FULL_SIZE, "--model-option", "size=320x192")
"""The same with small pictures, for what has nothing to do with their size: it costs less."""
H264: media_pb2.Codec.ValueType = Codec.Value("CODEC_H264")
VP8: media_pb2.Codec.ValueType = Codec.Value("CODEC_VP8")
WAIT_S = 40.0
"""Longest wait for anything: a machine that runs other tests beside this one is slow."""
POLL_S = 0.02
"""Between two looks at what only answers when asked."""
PROMPT = "a watercolour of a harbour"
RATE = 24
NEVER = 1_000_000
"""Frames between two keyframes that nobody asked for."""

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class Seen(Generic[ItemT]):
    """Things in the order they came, and a way to wait for more."""

    def __init__(self) -> None:
        self.items: list[ItemT] = []
        self._more = asyncio.Event()

    def add(self, item: ItemT) -> None:
        """Notes one."""
        self.items.append(item)
        self._more.set()

    async def until(self, condition: Callable[[], ResultT]) -> ResultT:
        """Waits until a condition on what was seen holds; returns what it returned."""
        async with asyncio.timeout(WAIT_S):
            while not (result := condition()):
                self._more.clear()
                await self._more.wait()
        return result

    async def quiet(self, seconds: float) -> None:
        """Waits until nothing has come for so long."""
        with suppress(TimeoutError):
            while True:
                self._more.clear()
                async with asyncio.timeout(seconds):
                    await self._more.wait()


class Told(Seen[Message]):
    """What a session says, from now on."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.ended: list[str] = []
        session.on("message", self.add)
        session.on("ended", self._end)

    def of(self, kind: str) -> list[Any]:
        """Returns the payloads of a kind so far."""
        return [getattr(each, kind) for each in self.items if each.WhichOneof("payload") == kind]

    @property
    def kinds(self) -> list[str | None]:
        """The kinds of all messages so far."""
        return [each.WhichOneof("payload") for each in self.items]

    async def until_told(self, kind: str, count: int = 1) -> Any:
        """Waits for so many messages of a kind; returns the payload of that one."""
        await self.until(lambda: len(self.of(kind)) >= count)
        return self.of(kind)[count - 1]

    async def until_ended(self) -> str:
        """Waits for the end of the session; returns the reason."""
        await self.until(lambda: self.ended)
        return self.ended[0]

    def _end(self, reason: str) -> None:
        self.ended.append(reason)
        self._more.set()


class Screen(Seen[VideoFrame]):
    """The frames that a viewer over gRPC got; a picture that is sent again is none of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stream: list[VideoFrame] = []
        """All that came, in order: to decode."""
        self.stats: list[ViewerStats] = []
        """What was told of each chunk."""

    def take(self, response: media_pb2.MediaResponse) -> None:
        """Notes a response of the service."""
        match response.WhichOneof("response"):
            case "video":
                self.stream.append(response.video)
                if not response.video.held:
                    self.add(response.video)
            case "stats":
                self.stats.append(response.stats)
                self._more.set()

    @property
    def run(self) -> int:
        """The latest run that a frame came of."""
        return max(frame.run for frame in self.items)

    def numbers(self, run: int | None = None) -> list[int]:
        """Returns the indices of the frames of a run, the latest by default, as they came."""
        if not self.items:
            return []
        chosen = self.run if run is None else run
        return [frame.frame for frame in self.items if frame.run == chosen]

    def of(self, run: int) -> list[VideoFrame]:
        """Returns the frames of a run."""
        return [frame for frame in self.items if frame.run == run]


@asynccontextmanager
async def watching(
    client: Client, session: Session, codec: media_pb2.Codec.ValueType = H264
) -> AsyncIterator[Screen]:
    """Watches main_video; begins when the service has taken the subscription."""
    call: Any = client.stub.Media(metadata=client.metadata())  # type: ignore[call-arg]
    start = media_pb2.MediaStart(session_id=session.session_id, watch=True, watch_codec=codec)
    await call.write(media_pb2.MediaRequest(start=start))
    responses = aiter(call)
    assert (await anext(responses)).WhichOneof("response") == "started"
    screen = Screen()

    async def read() -> None:
        async for response in responses:
            screen.take(response)

    reading = asyncio.create_task(read())
    try:
        yield screen
    finally:
        call.cancel()
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading


async def polled(
    look: Callable[[], Awaitable[ResultT]],
    within_s: float = WAIT_S,
) -> ResultT:
    """Asks what only answers when asked, until the answer is true; returns it."""
    async with asyncio.timeout(within_s):
        while not (result := await look()):  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(POLL_S)
    return result


async def stage(session: Session, clip: Path | bytes, prompt: str = PROMPT) -> None:
    """Brings a session to where `start` plays a clip."""
    await session.set_mode("file")
    await session.set_video(await session.upload(clip))
    await session.set_prompt(prompt)
    await session.wait_for(lambda state: state.has_video, WAIT_S)


async def stage_another(session: Session, told: Told, clip: Path | bytes) -> Any:
    """Stages another clip; returns what the session says to it: accepted, or an error."""
    known = len(told.items)
    await session.set_video(await session.upload(clip))

    def answer() -> Any:
        for each in told.items[known:]:
            if (kind := each.WhichOneof("payload")) in ("video_accepted", "command_error"):
                return getattr(each, kind)
        return None

    return await told.until(answer)


class Camera:
    """A camera whose pictures are encoded one by one, 24 a second.

    As a browser's, it sends a keyframe first, and when it is asked for one: never else.
    """

    _ENCODERS: dict[str, tuple[str, dict[str, str]]] = {  # noqa: RUF012 - a constant table
        "h264": ("libx264", {"preset": "ultrafast", "tune": "zerolatency"}),
        "vp8": ("libvpx", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}),
    }

    def __init__(self, codec: str, width: int = 640, height: int = 480) -> None:
        self.asked = 0
        """Keyframes that the service asked for."""
        self._codec = codec
        self._keyframe = False
        self._on = asyncio.Event()
        self._on.set()
        self._off = False
        self._index = 0
        self.show(width, height)

    def show(self, width: int, height: int) -> None:
        """Changes the resolution, as a phone does that is turned or short of bandwidth."""
        name, options = self._ENCODERS[self._codec]
        context: Any = av.CodecContext.create(name, "w")
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base, context.framerate = Fraction(1, 1_000_000), Fraction(RATE)
        context.bit_rate, context.thread_count, context.options = 800_000, 1, options
        context.gop_size = NEVER
        self._encoder, self._recipe = context, Recipe(width=width, height=height)

    def ask_keyframe(self) -> None:
        """The service needs a keyframe."""
        self.asked += 1
        self._keyframe = True

    def mute(self) -> None:
        """Sends nothing until `unmute`."""
        self._on.clear()

    def unmute(self) -> None:
        """Sends again."""
        self._on.set()

    def end(self) -> None:
        """Ends the stream of frames."""
        self._off = True
        self._on.set()

    async def frames(self) -> AsyncIterator[CameraFrame]:
        """Yields encoded frames as a camera does: in real time."""
        self._off = False
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self._off:
            yield await asyncio.to_thread(self._encode, round(loop.time() * 1e6))
            due = max(due + 1 / RATE, loop.time() - 1)
            await asyncio.sleep(due - loop.time())
            await self._on.wait()

    def _encode(self, now_us: int) -> CameraFrame:
        recipe, encoder = self._recipe, self._encoder
        index, self._index = self._index, self._index + 1
        frame = picture(numbered(index % 256, recipe.width, recipe.height), recipe)
        frame.pts, frame.time_base = now_us, Fraction(1, 1_000_000)
        if self._keyframe:
            self._keyframe = False
            frame.pict_type = av.video.frame.PictureType.I
        (packet,) = encoder.encode(frame)
        return CameraFrame(data=bytes(packet), keyframe=packet.is_keyframe, timestamp_us=now_us)


@asynccontextmanager
async def publishing(session: Session, camera: Camera, codec: str) -> AsyncIterator[None]:
    """Publishes a camera; passes on what goes wrong with it."""
    task = asyncio.create_task(
        session.publish(camera.frames(), codec, on_keyframe=camera.ask_keyframe)  # type: ignore[arg-type]
    )
    try:
        yield
        camera.end()
        await task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
