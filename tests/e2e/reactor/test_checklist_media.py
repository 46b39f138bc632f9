"""The server's checklist of the Reactor wire, row by row: answers to offers, and media.

See `test_checklist.py`.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from aiortc import RTCRtpSender, RTCSessionDescription

from tests.e2e.driving import polled
from tests.e2e.reactor.wire_client import WireClient, client, connected
from tests.media.clips import Recipe, make
from tests.stack import Stack

pytestmark = pytest.mark.e2e

SIZE = (1280, 704)
PROMPT = "Van Gogh oil painting, swirling brushstrokes, vivid colors"
FRAMES = 57
"""Of the film: windows of 33 and 24."""
STILL_S = 0.5


async def _answer(one: WireClient) -> str:
    """Offers in a session of its own; returns the answer."""
    await one.create()
    await one.register()
    await one.prepare()
    assert (await one.offer()).status == 202
    return await one.answered()


def _sections(sdp: str) -> list[str]:
    return ["m=" + section for section in sdp.split("\r\nm=")[1:]]


# SDP answerer keyed by track_mapping mids, VP8 (+H264), answer within ~5 s, candidates inside.


async def test_the_answer_has_what_every_client_needs_inside(simulated: Stack) -> None:
    async with client(simulated.http_url, "py-native") as one:
        answer = await _answer(one)
        camera, video, data = _sections(answer)
        assert "a=candidate:" in camera, "browsers take them from the first section"
        assert "a=recvonly" in camera
        assert "a=sendonly" in video
        assert all("a=rtcp-mux" in section for section in (camera, video))
        assert re.search(r"a=rtpmap:\d+ VP8/90000", camera)
        assert re.search(r"a=rtpmap:\d+ (VP8|H264)/90000", video)
        for section in (camera, video):
            for feedback in ("nack", "nack pli"):
                assert re.search(rf"a=rtcp-fb:(\d+|\*) {feedback}\r", section + "\r"), feedback
        assert "a=sctp-port:5000" in data
        assert "a=max-message-size:262144" in data
        mids = re.findall(r"a=mid:(\S+)", answer)
        assert mids == re.findall(r"a=mid:(\S+)", one.sdp)
        assert re.search(r"a=group:BUNDLE (.*)\r", answer)[1].split() == mids  # type: ignore[index]
        assert "a=setup:active" in answer or "a=setup:passive" in answer
        await one.connected(answer)


async def _plays_live(one: WireClient, frames: int = 24) -> None:
    """The seed's live example."""
    since = len(one.heard.items)
    if "control" in one.channels:
        one.control("resume_track")
        one.control("publish_track", "camera")
        await one.heard.until(lambda: one.of("response") or one.of("publish_track"))
    one.publish()
    one.command("set_prompt", prompt=PROMPT)
    one.command("set_mode", mode="live")
    one.command("start")
    started = await one.until_heard("generation_started", since)
    assert started.data == {"prompt": PROMPT, "chunk_num": 0, "frame_num": 0}
    await one.until_heard("chunk_complete", since, chunk_index=0)
    known = len(one.pictures.items)
    await one.pictures.until(lambda: len(one.pictures.items) >= known + frames)
    assert one.of("command_error") == []


# main_video 1280x704 on the recvonly mid; camera frames from the sendonly mid.


async def test_tracks_are_known_by_their_mids_not_by_their_places(full_size: Stack) -> None:
    async def plays(*tracks: str) -> None:
        async with client(full_size.http_url, "js-2.12") as one:
            await one.create()
            await one.connect(tracks=tracks)
            await _plays_live(one)
            assert set(one.pictures.items) == {SIZE}

    await asyncio.gather(plays("camera", "main_video"), plays("main_video", "camera"))


# The seed's live and file examples, by what the published clients say; each codec alone.


@pytest.mark.parametrize(("kind", "codec"), [("js-2.9", "VP8"), ("py-native", "H264")])
async def test_the_live_example_step_by_step(simulated: Stack, kind: str, codec: str) -> None:
    async with client(simulated.http_url, kind) as one:
        await one.create()
        _knows_only(one, codec)
        await one.connect()
        video = one.pc.getTransceivers()[1]
        assert {each.name for each in video._codecs if each.name != "rtx"} == {codec}
        await _plays_live(one)
        running = await one.until_heard("state", running=True, started=True)
        assert running.data["current_prompt"] == PROMPT
        since = len(one.heard.items)
        one.command("reset")
        await one.until_heard("generation_reset", since)
        await one.until_heard("state", since, started=False, has_prompt=False)


def _knows_only(one: WireClient, codec: str) -> None:
    """Lets a client offer one codec."""
    known = RTCRtpSender.getCapabilities("video").codecs
    mine = [each for each in known if each.mimeType in (f"video/{codec}", "video/rtx")]
    add = one.pc.addTransceiver

    def only(*words: Any, **options: Any) -> Any:
        transceiver = add(*words, **options)
        transceiver.setCodecPreferences(mine)
        return transceiver

    one.pc.addTransceiver = only


async def test_the_file_example_step_by_step(simulated: Stack, tmp_path: Path) -> None:
    film = make(tmp_path / "film.mp4", Recipe(frames=FRAMES))
    await asyncio.gather(
        *(_plays_a_file(simulated.http_url, film, kind) for kind in ("js-2.9", "py-native"))
    )


async def _plays_a_file(url: str, film: Path, kind: str) -> None:
    """The seed's file example."""
    async with connected(url, kind) as one:
        file = await one.upload(film)
        one.command("set_mode", mode="file")
        one.command("set_video", {"video": file})
        accepted = await one.until_heard("video_accepted")
        latents = (FRAMES - 1) // 8 + 1
        size = {"width": 320, "height": 192}
        assert accepted.data == {**size, "num_frames": FRAMES, "num_latent_frames": latents}
        staged = {"has_video": True, "num_source_frames": FRAMES}
        await one.until_heard("state", **staged)
        one.command("set_prompt", prompt=PROMPT)
        one.command("start")
        complete = await one.until_heard("generation_complete")
        chunks = [each.data for each in one.of("chunk_complete")]
        assert complete.data["total_chunks"] == len(chunks)
        assert sum(each["frames_emitted"] for each in chunks) == FRAMES
        ended = await one.until_heard("state", len(one.heard.items) - 1, started=False, **staged)
        assert ended.data["running"] is False
        assert one.pictures.items


# Pausing a track: this connection alone. js-2.9 never asks, and is shown all the same.


async def test_an_output_is_paused_for_its_connection_alone(simulated: Stack) -> None:
    async with (
        connected(simulated.http_url, "js-2.12") as one,
        connected(simulated.http_url, "js-2.9", one.session_id) as browser,
    ):
        await _plays_live(one)
        await browser.pictures.until(lambda: len(browser.pictures.items) >= 12)
        one.control("pause_track")
        await one.pictures.quiet(STILL_S)
        seen, shown = len(one.pictures.items), len(browser.pictures.items)
        await browser.pictures.until(lambda: len(browser.pictures.items) >= shown + 12)
        assert len(one.pictures.items) == seen
        one.control("resume_track")
        await one.pictures.until(lambda: len(one.pictures.items) >= seen + 12)


# Reconnect: PUT, on the same number or on a new one; the session has kept its state.


async def test_a_client_comes_back_to_its_session(simulated: Stack) -> None:
    kinds = ("js-2.9", "js-2.12", "py-native")
    await asyncio.gather(*(_comes_back(simulated.http_url, kind) for kind in kinds))


async def _comes_back(url: str, kind: str) -> None:
    async with connected(url, kind) as one:
        await _plays_live(one, frames=12)
        async with client(url, kind) as again:
            # js-2.12 makes a new number, the native client keeps its own, js-2.9 has none.
            again.session_id, again.connection_id = one.session_id, one.connection_id
            await one.pc.close()
            if kind == "js-2.12":
                await again.register()
            await again.prepare()
            assert (await again.offer("PUT")).status == 202
            await again.connected(await again.answered())
            state = await again.until_heard("state")
            assert state.data["current_prompt"] == PROMPT
            assert state.data["started"] is True
            again.publish()
            await again.pictures.until(lambda: len(again.pictures.items) >= 12)
            again.session_id = ""


async def test_an_offer_that_is_never_connected_disturbs_nobody(simulated: Stack) -> None:
    """A page that was closed during its negotiation: its session goes on for others."""
    async with client(simulated.http_url, "js-2.12") as one:
        await _answer(one)
        async with connected(simulated.http_url, "js-2.12", one.session_id) as second:
            await second.reply("set_prompt", prompt=PROMPT)
            assert (await one.ask("GET", ".")).body["state"] == "ACTIVE"


async def test_a_refused_offer_says_so_on_the_poll(simulated: Stack) -> None:
    async with client(simulated.http_url, "js-2.12") as one:
        await one.create()
        await one.register()
        await one.prepare()
        await one.offer(sdp_offer="v=0\r\nno offer at all\r\n")

        async def is_refused() -> Any:
            path = f"{one.transport}/sdp_params"
            polls = await one.ask("GET", path)
            return polls if polls.status != 202 else None

        refused = await polled(is_refused)
        assert refused.status == 422
        assert refused.body["detail"]
        # The same number may be offered on again.
        assert (await one.offer("PUT")).status == 202
        await one.pc.setRemoteDescription(RTCSessionDescription(await one.answered(), "answer"))
        async with asyncio.timeout(30):
            await one.until_heard("state")
