"""The measuring viewer over gRPC, against a scriptable hub."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from gateway.ports import EncodedFrame
from model_actor.models.simulated.marker import session_tag, write_marker
from sana_gateway import GatewayError
from sana_gateway.v1 import media_pb2, message_pb2
from sdk_adapters.harness import viewer
from sdk_adapters.harness.generator.watching import Watching
from sdk_adapters.harness.viewer import ViewReport
from tests.fakes.grpc_gateway import grpc_gateway
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services
from tests.fakes.session import FakeSession, FakeSubscription

pytestmark = pytest.mark.unit

WIDTH, HEIGHT = 320, 176


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
async def address(hub: FakeHub) -> AsyncIterator[str]:
    async with grpc_gateway(fake_services(hub)) as address:
        yield address


@pytest.fixture
async def session(hub: FakeHub) -> FakeSession:
    """A session that somebody else plays."""
    return await hub.create(fake_services(hub).auth.authenticate(None), "painter")


async def watched(hub: FakeHub) -> FakeSubscription:
    def subscriptions() -> list[FakeSubscription]:
        made = [each for session in hub.sessions.values() for each in session.connections]
        return [each for connection in made for each in connection.subscriptions]

    found: list[FakeSubscription] = await hub.until(subscriptions)
    return found[-1]


def encoded(number: int, data: bytes = b"x", *, keyframe: bool = True) -> EncodedFrame:
    return EncodedFrame(
        data=data,
        keyframe=keyframe,
        codec=media_pb2.CODEC_VP8,
        timestamp_us=number * 41_667,
        run=3,
        chunk=0,
        frame=number,
        source_us=0,
    )


ENCODERS = {
    "vp8": ("libvpx", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}),
    "h264": ("libx264", {"preset": "ultrafast", "tune": "zerolatency"}),
}


def pictures(
    numbers: list[int],
    run: int,
    tag: int,
    codec_name: str = "vp8",
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> list[bytes]:
    """Encodes marked pictures, one packet each; the first is a keyframe."""
    name, options = ENCODERS[codec_name]
    width, height = size
    codec: Any = av.CodecContext.create(name, "w")
    codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
    codec.time_base, codec.bit_rate, codec.options = Fraction(1, 24), 2_000_000, options
    packets = []
    for index, number in enumerate(numbers):
        plane = np.full((height * 3 // 2, width), 128, np.uint8)
        if number >= 0:
            write_marker(plane[:height], number, run, tag)
        frame = av.VideoFrame.from_ndarray(plane, format="yuv420p")
        frame.pts = index
        packets += [bytes(packet) for packet in codec.encode(frame)]
    assert len(packets) == len(numbers)
    return packets


async def seen(
    hub: FakeHub, address: str, session: FakeSession, *words: str, frames: list[EncodedFrame]
) -> ViewReport:
    """Shows frames to a viewer of a session that then ends."""
    options = viewer.parse(("--address", address, "--session", session.session_id, *words))
    viewing = asyncio.create_task(viewer.view(options))
    subscription = await watched(hub)
    for frame in frames:
        subscription.viewer.frame(frame)
    subscription.connection.session.end("over")
    return await viewing


def frames_of(report: ViewReport) -> tuple[float, ...]:
    """Returns how many came, never came, and came again."""
    return tuple(report.counts[f"frames_{name}"] for name in ("shown", "lost", "repeated"))


def pictures_of(report: ViewReport) -> tuple[float, ...]:
    """Returns how many were read, wrong and unreadable."""
    return tuple(
        report.counts.get(f"pictures_{name}", 0) for name in ("read", "wrong", "unreadable")
    )


async def test_the_numbers_of_the_packets_are_enough(
    hub: FakeHub, address: str, session: FakeSession
) -> None:
    frames = [encoded(number) for number in (40, 41, 42, 42, 45)]
    report = await seen(hub, address, session, frames=frames)
    assert frames_of(report) == (4, 2, 1), "it came amid the run, of which it missed nothing"
    assert report.session_id == session.session_id
    assert report.values["frame_lateness"]["count"] == 4


async def test_decoded_pictures_are_compared_with_what_came_with_them(
    hub: FakeHub, address: str, session: FakeSession
) -> None:
    packets = pictures([0, 1, 2, 5, -1], run=3, tag=session_tag(session.session_id))
    frames = [encoded(index, data, keyframe=index == 0) for index, data in enumerate(packets)]
    frames.append(encoded(5, b"garbage"))
    report = await seen(hub, address, session, "--decode", "--codec", "vp8", frames=frames)
    assert frames_of(report) == (6, 0, 0)
    assert pictures_of(report) == (3, 1, 2)


async def test_pictures_of_another_session_or_run_are_wrong(
    hub: FakeHub, address: str, session: FakeSession
) -> None:
    tag = session_tag(session.session_id)
    packets = [*pictures([0], 3, tag ^ 1), *pictures([1], 4, tag), *pictures([2], 3, tag)]
    frames = [encoded(index, data) for index, data in enumerate(packets)]
    report = await seen(hub, address, session, "--decode", "--codec", "vp8", frames=frames)
    assert pictures_of(report) == (1, 2, 0)


async def test_canned_pictures_are_numbered_by_their_loop(
    hub: FakeHub, address: str, session: FakeSession
) -> None:
    packets = pictures([238, 239, 0, 2], run=0, tag=0)
    frames = [encoded(238 + index, data) for index, data in enumerate(packets)]
    report = await seen(hub, address, session, "--decode", "--codec", "vp8", frames=frames)
    assert pictures_of(report) == (3, 1, 0)


@pytest.mark.parametrize("codec", ["h264", "vp8"])
async def test_a_stream_that_changes_its_rung_is_decoded_through_every_change(
    hub: FakeHub, address: str, session: FakeSession, codec: str
) -> None:
    tag = session_tag(session.session_id)
    frames = []
    # main, low, main: each rung begins at a keyframe, as the service sees to.
    for rung, first in ((0, 0), (1, 4), (0, 8)):
        size = (640, 352) if rung == 0 else (320, 176)
        packets = pictures(list(range(first, first + 4)), 3, tag, codec, size)
        frames += [
            replace(
                encoded(first + index, data, keyframe=index == 0),
                codec=media_pb2.Codec.Value(f"CODEC_{codec.upper()}"),
                rung=rung,
            )
            for index, data in enumerate(packets)
        ]
    report = await seen(hub, address, session, "--decode", "--codec", codec, frames=frames)
    assert frames_of(report) == (12, 0, 0)
    assert pictures_of(report) == (12, 0, 0)


@pytest.mark.parametrize("decode", [False, True])
async def test_a_picture_that_is_held_is_no_repeat(
    hub: FakeHub, address: str, session: FakeSession, *, decode: bool
) -> None:
    packets = pictures([0, 1, 2], run=3, tag=session_tag(session.session_id))
    (again,) = pictures([2], run=3, tag=session_tag(session.session_id))
    frames = [encoded(index, data, keyframe=index == 0) for index, data in enumerate(packets)]
    frames.append(replace(encoded(2, again), held=True))
    words = ("--codec", "vp8", *(("--decode",) if decode else ()))
    report = await seen(hub, address, session, *words, frames=frames)
    assert frames_of(report) == (3, 0, 0)
    assert pictures_of(report) == ((4, 0, 0) if decode else (0, 0, 0))


@pytest.mark.parametrize("shared", [False, True])
async def test_glass_to_glass_is_told_where_the_camera_has_our_clock(
    hub: FakeHub, address: str, session: FakeSession, *, shared: bool
) -> None:
    captured_us = round(time.monotonic() * 1e6)
    words = ("--shared-clock",) if shared else ()
    frame = replace(encoded(0), source_us=captured_us)
    report = await seen(hub, address, session, *words, frames=[frame])
    assert ("glass_to_glass" in report.values) == shared
    if shared:
        assert 0 < report.values["glass_to_glass"]["max"] < 60_000


async def test_the_viewer_plays_a_clip_to_its_end(
    hub: FakeHub, address: str, tmp_path: Path
) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"a clip")
    words = ("--address", address, "--model", "painter", "--clip", str(clip))
    viewing = asyncio.create_task(viewer.view(viewer.parse(words)))
    subscription = await watched(hub)
    session = subscription.connection.session
    await hub.until(lambda: session.state.started)
    for number in range(40):
        subscription.viewer.frame(encoded(number))
        await asyncio.sleep(0)
    session.publish(generation_complete=message_pb2.GenerationComplete(total_chunks=2))
    report = await viewing
    assert frames_of(report) == (40, session.state.num_source_frames - 40, 0)
    assert report.values["start_to_first_frame"]["count"] == 1
    assert session.end_reason is not None


async def test_frames_are_due_while_whoever_plays_it_has_not_paused(
    hub: FakeHub, address: str, session: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    followed = asyncio.Event()

    class Followed(Watching):
        def joins(self) -> None:
            calls.append("joins")
            super().joins()
            if len(calls) == 3:
                followed.set()

        def stops(self, at: float | None = None) -> None:
            calls.append("stops")
            super().stops(at)

    monkeypatch.setattr(viewer, "Watching", Followed)
    words = ("--address", address, "--session", session.session_id)
    viewing = asyncio.create_task(viewer.view(viewer.parse(words)))
    await watched(hub)
    await hub.until(lambda: len(session.open_connections) == 2)
    for paused in (True, False):
        session.state.paused = paused
        session.publish(state=session.state)
    async with asyncio.timeout(30):
        await followed.wait()
    session.end("over")
    await viewing
    assert calls == ["joins", "stops", "joins"]


def test_the_command_line_asks_for_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--model", "painter"], ["--model", "m", "--session", "s"]):
        with pytest.raises(SystemExit):
            viewer.parse(words)
    assert "--clip" in capsys.readouterr().err


def test_a_gateway_that_refuses_is_an_exit_status(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = str(tmp_path / "nothing.mp4")
    words = ["--address", "127.0.0.1:1", "--model", "m", "--clip", missing]

    async def refused(_: object) -> ViewReport:
        raise GatewayError("refused")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(viewer, "view", refused)
        assert viewer.main(words) == 1
    assert "refused" in capsys.readouterr().err


def test_the_report_is_printed_and_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report = ViewReport("s", {"frames_shown": 3.0}, {"frame_lateness": {"count": 3, "max": 1.5}})

    async def viewed(_: object) -> ViewReport:
        return report

    path = tmp_path / "report.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(viewer, "view", viewed)
        assert viewer.main(["--session", "s", "--json", str(path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(path.read_text()) == report.document()
