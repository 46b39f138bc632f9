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
from sdk_adapters.harness.ledger import FrameLedger, Report
from sdk_adapters.harness.sources import MarkerReader
from tests.fakes.grpc_gateway import grpc_gateway
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services
from tests.fakes.session import FakeSubscription

pytestmark = pytest.mark.unit

WIDTH, HEIGHT = 320, 176


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
async def address(hub: FakeHub) -> AsyncIterator[str]:
    async with grpc_gateway(fake_services(hub)) as address:
        yield address


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


async def report_of(hub: FakeHub, *arguments: str, frames: list[EncodedFrame]) -> Report:
    viewing = asyncio.create_task(viewer.view(viewer.parse(arguments)))
    subscription = await watched(hub)
    for frame in frames:
        subscription.viewer.frame(frame)
    subscription.connection.session.end("over")
    return await viewing


async def test_the_numbers_of_the_packets_are_enough(hub: FakeHub, address: str) -> None:
    session = await hub.create(fake_services(hub).auth.authenticate(None), "painter")
    report = await report_of(
        hub,
        *("--address", address, "--session", session.session_id),
        frames=[encoded(number) for number in (0, 1, 2, 2, 5)],
    )
    assert (report.received, report.missing, report.repeated) == (4, 2, 1)
    assert report.runs[0].run == 3


async def test_decoding_goes_by_the_markers(hub: FakeHub, address: str) -> None:
    session = await hub.create(fake_services(hub).auth.authenticate(None), "painter")
    packets = pictures([0, 1, 2, 5, -1], run=3, tag=session_tag(session.session_id))
    frames = [encoded(index, data, keyframe=index == 0) for index, data in enumerate(packets)]
    report = await report_of(
        hub,
        *("--address", address, "--session", session.session_id, "--decode", "--codec", "vp8"),
        frames=[*frames, encoded(9, b"garbage")],
    )
    assert (report.received, report.missing, report.mismatched) == (4, 2, 1)
    assert (report.unreadable, report.foreign) == (2, 0)


@pytest.mark.parametrize("codec", ["h264", "vp8"])
async def test_a_stream_that_changes_its_rung_is_decoded_through_every_change(
    hub: FakeHub, address: str, codec: str
) -> None:
    session = await hub.create(fake_services(hub).auth.authenticate(None), "painter")
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
    report = await report_of(
        hub,
        *("--address", address, "--session", session.session_id, "--decode", "--codec", codec),
        frames=frames,
    )
    assert (report.received, report.missing, report.repeated) == (12, 0, 0)
    assert (report.unreadable, report.foreign, report.mismatched) == (0, 0, 0)


@pytest.mark.parametrize("decode", [False, True])
async def test_a_picture_that_is_held_is_no_repeat(
    hub: FakeHub, address: str, *, decode: bool
) -> None:
    session = await hub.create(fake_services(hub).auth.authenticate(None), "painter")
    packets = pictures([0, 1, 2], run=3, tag=session_tag(session.session_id))
    (again,) = pictures([2], run=3, tag=session_tag(session.session_id))
    frames = [encoded(index, data, keyframe=index == 0) for index, data in enumerate(packets)]
    frames.append(replace(encoded(2, again), held=True))
    words = ("--address", address, "--session", session.session_id, "--codec", "vp8")
    report = await report_of(hub, *words, *(("--decode",) if decode else ()), frames=frames)
    assert (report.received, report.missing, report.held) == (3, 0, 1)
    assert (report.repeated, report.out_of_order, report.unreadable) == (0, 0, 0)


def test_where_the_stream_does_not_say_so_a_picture_that_comes_again_late_is_held() -> None:
    ledger = FrameLedger()
    reader = MarkerReader(ledger, "s", None)

    def show(number: int, arrival_s: float) -> None:
        plane = np.full((HEIGHT, WIDTH), 128, np.uint8)
        write_marker(plane, number, 1, session_tag("s"))
        reader.picture(plane, arrival_s)

    for number, arrival_s in ((0, 0.0), (1, 0.04), (1, 0.3), (1, 0.34), (2, 0.4), (2, 0.44)):
        show(number, arrival_s)
    show(1, 0.9)
    report = ledger.report()
    assert (report.received, report.held, report.repeated) == (3, 2, 2)


async def test_the_delays_of_the_picture_are_reported(hub: FakeHub, address: str) -> None:
    session = await hub.create(fake_services(hub).auth.authenticate(None), "painter")
    captured_us = round(time.monotonic() * 1e6)
    words = ("--address", address, "--session", session.session_id, "--shared-clock")
    viewing = asyncio.create_task(viewer.view(viewer.parse(words)))
    subscription = await watched(hub)
    subscription.viewer.frame(replace(encoded(0), source_us=captured_us))
    subscription.viewer.stats(
        media_pb2.ViewerStats(
            run=3, source_to_emit_us=40_000, command_to_emit_us=50_000, late_us=1_000, underruns=2
        )
    )
    subscription.connection.session.end("over")
    delays = (await viewing).delays
    assert 0 < delays.glass_to_glass_ms["max"] < 60_000
    assert delays.source_to_emit_ms["max"] == 40.0
    assert delays.command_to_emit_ms["max"] == 50.0
    assert delays.late_ms["max"] == 1.0
    assert (delays.chunks, delays.underruns, delays.frames_dropped) == (1, 2, 0)


async def test_pictures_of_another_session_are_foreign(hub: FakeHub, address: str) -> None:
    session = await hub.create(fake_services(hub).auth.authenticate(None), "painter")
    packets = pictures([0, 1], run=3, tag=session_tag(session.session_id) ^ 1)
    report = await report_of(
        hub,
        *("--address", address, "--session", session.session_id, "--decode", "--codec", "vp8"),
        frames=[encoded(index, data) for index, data in enumerate(packets)],
    )
    assert (report.received, report.foreign) == (0, 2)


async def test_canned_pictures_are_counted_modulo_their_loop(hub: FakeHub, address: str) -> None:
    session = await hub.create(fake_services(hub).auth.authenticate(None), "painter")
    packets = pictures([238, 239, 0, 2], run=0, tag=0)
    frames = [encoded(238 + index, data) for index, data in enumerate(packets)]
    report = await report_of(
        hub,
        *("--address", address, "--session", session.session_id),
        *("--decode", "--codec", "vp8", "--modulo", "240"),
        frames=frames,
    )
    assert (report.received, report.missing, report.foreign, report.mismatched) == (4, 1, 0, 1)


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
    assert (report.received, report.missing) == (40, 8)
    assert session.end_reason is not None


async def test_a_pause_is_no_freeze(
    hub: FakeHub, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, resumed = asyncio.Event(), asyncio.Event()

    class Watched(FrameLedger):
        def seen(self, *args: Any) -> None:
            super().seen(*args)
            seen.set()

        def reanchor(self) -> None:
            super().reanchor()
            resumed.set()

    monkeypatch.setattr(viewer, "FrameLedger", Watched)
    session = await hub.create(fake_services(hub).auth.authenticate(None), "painter")
    words = ("--address", address, "--session", session.session_id)
    viewing = asyncio.create_task(viewer.view(viewer.parse(words)))
    subscription = await watched(hub)
    await hub.until(lambda: len(session.open_connections) == 2)
    # In due times of the stream the second comes ten seconds too late.
    subscription.viewer.frame(replace(encoded(0), timestamp_us=10_000_000))
    await seen.wait()
    for paused in (True, False):
        session.state.paused = paused
        session.publish(state=session.state)
    await resumed.wait()
    subscription.viewer.frame(replace(encoded(1), timestamp_us=0))
    session.end("over")
    report = await viewing
    assert (report.received, report.freezes, report.late) == (2, 0, 0)


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

    async def refused(_: object) -> Report:
        raise GatewayError("refused")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(viewer, "view", refused)
        assert viewer.main(words) == 1
    assert "refused" in capsys.readouterr().err


def test_the_report_is_printed_and_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report = FrameLedger().report()

    async def viewed(_: object) -> Report:
        return report

    path = tmp_path / "report.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(viewer, "view", viewed)
        assert viewer.main(["--session", "s", "--json", str(path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(path.read_text())
    assert printed["received"] == 0
