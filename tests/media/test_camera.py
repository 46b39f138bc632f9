"""Cameras of many kinds through real workers, and what happens when a worker dies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from model_actor.media import camera as camera_module
from model_actor.media.camera import MAX_PACKETS, CameraDecoder, CameraPacket
from model_actor.media.codec import Codec
from model_actor.media.encoder import EncoderSettings, VideoEncoder
from model_actor.media.limits import DecodeLimits
from model_actor.media.workers import DecodeWorkers
from scheduler.core.errors import InvariantError
from tests.media import clips

pytestmark = pytest.mark.media

WIDTH, HEIGHT, RATE, WINDOW = 320, 176, 24, 33


@dataclass
class Publisher:
    """Encodes numbered frames, as a browser would."""

    codec: Codec = Codec.H264
    width: int = 320
    height: int = 192
    rate: float = RATE
    number: int = 0
    now_us: int = 5_000_000
    encoder: VideoEncoder = field(init=False)

    def __post_init__(self) -> None:
        self.encoder = VideoEncoder(
            EncoderSettings(self.codec, self.width, self.height, self.rate, 800_000)
        )

    def packet(self, *, keyframe: bool = False) -> CameraPacket:
        picture = clips.numbered(self.number % 256, self.width, self.height)
        encoded = self.encoder.encode(picture.reshape(-1, self.width), keyframe=keyframe)
        packet = CameraPacket(self.codec, encoded.keyframe, self.now_us, encoded.data)
        self.number += 1
        self.now_us += round(1_000_000 / self.rate)
        return packet

    def packets(self, count: int) -> Iterator[CameraPacket]:
        return (self.packet() for _ in range(count))


@dataclass
class Camera:
    """A decoder and what it called back."""

    workers: DecodeWorkers
    decoder: CameraDecoder
    changed: asyncio.Event
    keyframes: list[int] = field(default_factory=list)

    async def until(self, reached: Callable[[], bool]) -> None:
        """Waits for a state that has no event of its own."""
        async with asyncio.timeout(60):
            while not reached():  # noqa: ASYNC110 (none of these has an event)
                await asyncio.sleep(0.002)

    async def feed(self, *packets: CameraPacket) -> None:
        """Pushes packets no faster than they are decoded, and waits for all of them."""
        for packet in packets:
            await self.until(lambda: len(self.decoder._sent) < MAX_PACKETS // 2)
            self.decoder.push(packet)
        await self.until(lambda: not self.decoder._sent)

    def numbers(self, count: int | None = None) -> list[int]:
        block = self.decoder.take(count or self.decoder.available)
        assert block.frames.flags.c_contiguous
        found = [clips.number_of(frame) for frame in block.frames]
        block.release()
        return found

    @property
    def pid(self) -> int:
        assert self.decoder._link is not None
        return self.decoder._link.pid


@asynccontextmanager
async def opened(limits: DecodeLimits | None = None) -> AsyncIterator[Camera]:
    workers = DecodeWorkers(spare=1, limits=limits)
    await workers.start()
    changed, asked = asyncio.Event(), list[int]()
    decoder = await workers.open_camera(
        width=WIDTH,
        height=HEIGHT,
        frame_rate=RATE,
        on_keyframe_needed=lambda: asked.append(1),
        on_frames=changed.set,
        window=WINDOW,
    )
    yield Camera(workers, decoder, changed, asked)
    await workers.close()


@pytest.fixture
async def camera() -> AsyncIterator[Camera]:
    async with opened() as camera:
        yield camera


@pytest.mark.parametrize("codec", list(Codec))
async def test_frames_come_fitted_in_order_one_for_one(camera: Camera, codec: Codec) -> None:
    publisher = Publisher(codec)
    assert camera.keyframes == [1], "a new decoder asks for a keyframe"
    await camera.feed(*publisher.packets(40))
    async with asyncio.timeout(30):
        await camera.changed.wait()
    assert camera.decoder.available == 40
    block = camera.decoder.take(WINDOW)
    assert block.frames.shape == (WINDOW, HEIGHT * 3 // 2, WIDTH)
    assert not block.frames.flags.writeable
    assert [clips.number_of(frame) for frame in block.frames] == list(range(WINDOW))
    assert block.pts_us[0] == 5_000_000
    assert list(np.diff(block.pts_us)) == pytest.approx([41667] * (WINDOW - 1), abs=1)
    assert camera.numbers() == list(range(WINDOW, 40))
    assert camera.decoder.stats.decode_errors == 0


@pytest.mark.parametrize(("rate", "sent"), [(60.0, 120), (30.0, 60), (15.0, 30), (10.0, 20)])
async def test_any_rate_becomes_the_models(camera: Camera, rate: float, sent: int) -> None:
    await camera.feed(*Publisher(rate=rate).packets(sent))
    # Two seconds of source, whose last frame has not ended yet.
    assert camera.decoder.available == pytest.approx(48, abs=3)
    found = camera.numbers()
    ideal = [slot * rate / RATE for slot in range(len(found))]
    assert np.abs(np.array(found) - ideal).max() <= max(1.0, rate / RATE)


async def test_the_rate_changes_in_the_middle_of_the_stream(camera: Camera) -> None:
    publisher = Publisher()
    await camera.feed(*publisher.packets(12))
    camera.decoder.pace(12.0)
    await camera.feed(*publisher.packets(24))
    assert camera.decoder.available == pytest.approx(12 + 12, abs=1)
    block = camera.decoder.take(camera.decoder.available)
    gaps = list(np.diff(block.pts_us))
    block.release()
    assert gaps[:11] == pytest.approx([41667] * 11, abs=1)
    assert gaps[12:] == pytest.approx([83333] * len(gaps[12:]), abs=1)
    assert camera.decoder.stats.decode_errors == 0
    os.kill(camera.pid, signal.SIGKILL)
    await camera.until(lambda: camera.decoder.stats.restarts == 1)
    await camera.feed(publisher.packet(keyframe=True), *publisher.packets(11))
    assert camera.decoder.available == pytest.approx(6, abs=1), "the next worker knows it too"


async def test_a_silence_is_skipped_not_filled(camera: Camera) -> None:
    publisher = Publisher()
    await camera.feed(*publisher.packets(5))
    publisher.now_us += 3_000_000
    await camera.feed(*publisher.packets(5))
    assert camera.numbers() == list(range(10))


async def test_size_and_codec_change_without_an_error(camera: Camera) -> None:
    found = []
    publisher = Publisher()
    for codec, width, height in (
        (Codec.H264, 320, 192),
        (Codec.H264, 640, 360),
        (Codec.VP8, 192, 320),
        (Codec.VP8, 322, 182),
        (Codec.H264, 1280, 720),
    ):
        now_us = publisher.now_us
        publisher = Publisher(codec, width, height, now_us=now_us)
        await camera.feed(*publisher.packets(6))
        found.append(camera.decoder.available)
    assert found == [6, 12, 18, 24, 30]
    assert camera.decoder.stats.size_changes == 4
    assert camera.decoder.stats.decode_errors == 0


async def test_begins_at_a_keyframe(camera: Camera, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_module, "KEYFRAME_INTERVAL_S", 3600.0)
    publisher = Publisher()
    publisher.packet()
    await camera.feed(*publisher.packets(10))
    assert camera.decoder.stats.discarded == 10
    assert camera.keyframes == [1], "asked once, not once a packet"
    await camera.feed(publisher.packet(keyframe=True), *publisher.packets(3))
    assert camera.numbers() == [11, 12, 13, 14]


async def test_asks_again_while_none_comes(camera: Camera, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_module, "KEYFRAME_INTERVAL_S", 0.0)
    publisher = Publisher()
    publisher.packet()
    await camera.feed(*publisher.packets(3))
    assert len(camera.keyframes) == 4


async def test_a_discontinuity_discards_up_to_the_next_keyframe(camera: Camera) -> None:
    publisher = Publisher()
    await camera.feed(*publisher.packets(4))
    publisher.packet()
    after = publisher.packet()
    await camera.feed(
        replace(after, discontinuity=True),
        *publisher.packets(2),
        publisher.packet(keyframe=True),
    )
    assert camera.decoder.stats.discarded == 3
    assert camera.numbers()[:4] == [0, 1, 2, 3]
    assert camera.decoder.stats.decode_errors == 0


async def test_rubbish_is_counted_and_answered_with_a_keyframe_request(
    camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera_module, "KEYFRAME_INTERVAL_S", 0.0)
    publisher = Publisher(Codec.VP8)
    await camera.feed(*publisher.packets(3))
    asked = len(camera.keyframes)
    for data in (b"\x00", b"", bytes(2000), b"\x01" * 7):
        await camera.feed(replace(publisher.packet(keyframe=True), data=data))
    assert camera.decoder.stats.decode_errors > 0
    assert len(camera.keyframes) > asked
    await camera.feed(publisher.packet(keyframe=True), *publisher.packets(2))
    assert camera.numbers()[-3:] == [7, 8, 9]


async def test_a_late_model_gets_the_newest_frames(camera: Camera) -> None:
    publisher = Publisher()
    await camera.feed(*publisher.packets(130))
    assert camera.decoder.available == WINDOW + 24
    assert camera.decoder.stats.dropped == 130 - WINDOW - 24
    assert camera.numbers() == list(range(130 - WINDOW - 24, 130))


async def test_frames_in_use_are_never_overwritten(camera: Camera) -> None:
    publisher = Publisher()
    await camera.feed(*publisher.packets(WINDOW))
    held = camera.decoder.take(WINDOW)
    await camera.feed(*publisher.packets(120))
    assert [clips.number_of(frame) for frame in held.frames] == list(range(WINDOW))
    assert camera.decoder.available == WINDOW + 24
    held.release()
    held.release()
    await camera.feed(*publisher.packets(10))
    assert camera.numbers() == list(range(WINDOW + 120, WINDOW + 130)), "at the live edge"


async def test_blocks_are_contiguous_wherever_they_lie_in_the_ring(camera: Camera) -> None:
    publisher = Publisher()
    expected = 0
    for _ in range(12):
        await camera.feed(*publisher.packets(24))
        assert camera.numbers(24) == [n % 256 for n in range(expected, expected + 24)]
        expected += 24


async def test_flush_goes_on_at_the_live_edge_from_a_keyframe(
    camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera_module, "KEYFRAME_INTERVAL_S", 0.0)
    publisher = Publisher()
    await camera.feed(*publisher.packets(10))
    for packet in publisher.packets(10):
        camera.decoder.push(packet)
    asked = len(camera.keyframes)
    camera.decoder.flush()
    assert camera.decoder.available == 0
    assert len(camera.keyframes) == asked + 1
    await camera.feed(*publisher.packets(3))
    assert camera.decoder.available == 0, "what was on its way is void, the rest not decodable"
    await camera.feed(publisher.packet(keyframe=True), *publisher.packets(2))
    assert camera.numbers() == [23, 24, 25]


async def test_more_frames_than_wait_are_our_mistake(camera: Camera) -> None:
    with pytest.raises(InvariantError):
        camera.decoder.take(1)


async def test_overflow_discards_up_to_the_next_keyframe(camera: Camera) -> None:
    publisher = Publisher()
    await camera.feed(*publisher.packets(5))
    os.kill(camera.pid, signal.SIGSTOP)
    for packet in publisher.packets(MAX_PACKETS + 10):
        camera.decoder.push(packet)
    assert camera.decoder.stats.discarded == 10
    os.kill(camera.pid, signal.SIGCONT)
    await camera.until(lambda: not camera.decoder._sent)
    await camera.feed(*publisher.packets(2))
    assert camera.decoder.stats.discarded == 12
    await camera.feed(publisher.packet(keyframe=True))
    assert camera.numbers()[-1] == 5 + MAX_PACKETS + 12


async def test_a_killed_worker_costs_a_short_freeze(
    camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera_module, "KEYFRAME_INTERVAL_S", 0.0)
    publisher = Publisher()
    await camera.feed(*publisher.packets(10))
    before, asked = camera.pid, len(camera.keyframes)
    os.kill(before, signal.SIGKILL)
    await camera.until(lambda: camera.decoder.stats.restarts == 1)
    assert camera.pid != before
    assert len(camera.keyframes) > asked
    await camera.feed(*publisher.packets(2), publisher.packet(keyframe=True), publisher.packet())
    assert camera.numbers() == [*range(10), 12, 13], "what waited before is kept"
    assert camera.workers.crashes == 1


async def test_a_stuck_worker_is_replaced() -> None:
    async with opened(DecodeLimits(packet_s=0.2)) as camera:
        publisher = Publisher()
        await camera.feed(*publisher.packets(3))
        stuck = camera.pid
        os.kill(stuck, signal.SIGSTOP)
        async with asyncio.timeout(60):
            while not camera.decoder.stats.restarts:
                camera.decoder.push(publisher.packet())
                await asyncio.sleep(0.02)
        assert camera.pid != stuck
        await camera.feed(publisher.packet(keyframe=True))
        assert camera.numbers()[-1] == publisher.number - 1


async def test_push_and_flush_after_close_do_nothing(camera: Camera) -> None:
    await camera.decoder.close()
    camera.decoder.push(Publisher().packet())
    camera.decoder.flush()
    with pytest.raises(InvariantError):
        camera.decoder.take(1)
