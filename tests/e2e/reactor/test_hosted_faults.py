"""Faults that the hosted service is documented to have, and that this one has not.

The seed tells its users to hold the camera's resolution, to send `set_video` again when it
fails, and not to trust `current_chunk` after a restart. Nobody needs to here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.reactor import reactor_sdks
from tests.e2e.reactor.reactor_sdks import SDKS, passed
from tests.e2e.reactor.wire_client import Heard, WireClient, connected
from tests.media.clips import Recipe, make
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PROMPT = "a watercolour of a harbour"
CHUNK = 24


# "a resolution change mid-chunk crashes the live session"


@pytest.fixture(scope="module")
def resized(simulated: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the SDKs saw whose cameras changed their size every half second, in mid-chunk."""
    nothing = tmp_path_factory.mktemp("clips")

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(
            *(
                reactor_sdks.drive(
                    name, simulated.http_url, "cloud", ["resizing"], nothing, "320x192"
                )
                for name in SDKS
            ),
            return_exceptions=True,
        )

    return dict(zip(SDKS, asyncio.run(all_of_them()), strict=True))


@pytest.mark.parametrize("name", sorted(SDKS))
def test_a_camera_may_change_its_resolution_in_the_middle_of_a_chunk(
    resized: dict[str, Any], name: str
) -> None:
    ran = resized[name]
    report = passed(ran if isinstance(ran, BaseException) else ran["resizing"])
    assert report["errors"] == []
    # Whole chunks: no frame was lost to a change. The first of a run is shorter.
    assert set(report["chunks"][1:]) == {CHUNK}, report["chunks"]


# "A decode failed error from set_video is sometimes a false alarm on a valid clip"

CLIPS = {
    "h264": Recipe(frames=33),
    "b-frames": Recipe(frames=40, b_frames=2),
    "odd size": Recipe(frames=34, width=322, height=178),
    "portrait": Recipe(frames=33, width=192, height=320),
    "turned": Recipe(frames=33, rotation=90),
    "with sound": Recipe(frames=36, audio=True),
    "faststart": Recipe(frames=33, container_options={"movflags": "faststart"}),
    "fragmented": Recipe(frames=33, container_options={"movflags": "frag_keyframe+empty_moov"}),
    "matroska": Recipe(frames=35, container="matroska"),
    "vp8 webm": Recipe(frames=33, codec="libvpx", container="webm"),
    "mpeg4": Recipe(frames=33, codec="mpeg4"),
    "uneven": Recipe(frames=33, ticks=lambda index: index * 1000 // 24 + 7 * (index % 3)),
}
ROUNDS = 2
"""Every clip is set so often, each time from an upload of its own, and each of these twice."""


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("valid")
    return {name: make(folder / f"{name}.video", CLIPS[name]) for name in CLIPS}


async def _uploaded(one: WireClient, clip: Path) -> dict[str, Any]:
    """Uploads a clip; returns the reference at once, as soon as the bytes are there."""
    data = clip.read_bytes()
    told = {"name": "clip", "size": len(data), "mime_type": "video/mp4"}
    slot = await one.ask("POST", "./uploads", told)
    async with one.http.put(slot.body["presigned_url"], data=data) as put:
        assert put.ok
    return {"upload_id": slot.body["presigned_id"], **told}


async def _set(one: WireClient, reference: dict[str, Any]) -> Any:
    """Sets a clip; returns what it was accepted as.

    Raises:
        AssertionError: It was refused.
    """
    since = len(one.heard.items)
    one.command("set_video", {"video": reference})
    (answer,) = await one.heard.until(lambda: _answers(one, since))
    assert answer.name == "video_accepted", answer
    await one.until_heard("state", since, num_source_frames=answer.data["num_frames"])
    return answer.data


def _answers(one: WireClient, since: int) -> list[Heard]:
    names = ("video_accepted", "command_error")
    return [each for each in one.heard.items[since:] if each.name in names]


async def test_no_valid_clip_is_ever_refused(simulated: Stack, valid: dict[str, Path]) -> None:
    async with connected(simulated.http_url, "js-2.9") as one:
        accepted: dict[str, list[Any]] = {name: [] for name in valid}
        for _ in range(ROUNDS):
            for name, clip in valid.items():
                reference = await _uploaded(one, clip)
                accepted[name] += [await _set(one, reference), await _set(one, reference)]
    for name, answers in accepted.items():
        assert len(answers) == 2 * ROUNDS
        assert all(each == answers[0] for each in answers), (name, answers)
        assert answers[0]["num_frames"] == CLIPS[name].frames, name


async def test_a_clip_that_is_still_on_its_way_is_refused_as_that_and_not_as_damaged(
    simulated: Stack, valid: dict[str, Path]
) -> None:
    async with connected(simulated.http_url, "js-2.9") as one:
        data = valid["h264"].read_bytes()
        told = {"name": "clip", "size": len(data), "mime_type": "video/mp4"}
        slot = await one.ask("POST", "./uploads", told)
        reference = {"upload_id": slot.body["presigned_id"], **told}
        goes_on = asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield data[:1000]
            await goes_on.wait()
            yield data[1000:]

        upload = asyncio.ensure_future(one.http.put(slot.body["presigned_url"], data=slowly()))
        since = len(one.heard.items)
        one.command("set_video", {"video": reference})
        (answer,) = await one.heard.until(lambda: _answers(one, since))
        assert answer.name == "command_error"
        assert "not complete" in answer.data["reason"]
        goes_on.set()
        assert (await upload).status == 200
        assert (await _set(one, reference))["num_frames"] == 33


# "right after a restart, state still reports the previous run's final current_chunk"


async def test_the_current_chunk_is_0_from_the_start_of_a_replay_on(
    simulated: Stack, tmp_path: Path
) -> None:
    film = make(tmp_path / "film.mp4", Recipe(frames=57))
    async with connected(simulated.http_url, "js-2.9") as one:
        await _set(one, await _uploaded(one, film))
        await one.reply("set_mode", mode="file")
        await one.reply("set_prompt", prompt=PROMPT)
        for _ in range(2):
            since = len(one.heard.items)
            one.command("start")
            # The states that are told right after a restart, and by commands in that window.
            await one.until_heard("generation_started", since)
            one.command("set_seed", seed=7)
            complete = await one.until_heard("generation_complete", since)
            await one.until_heard("state", since, started=False)
            completed, told = 0, []
            for each in one.heard.items[since:]:
                if each.name == "chunk_complete":
                    assert each.data["chunk_index"] == completed
                    completed += 1
                elif each.name == "state" and each.data["started"]:
                    told.append((each.data["current_chunk"], completed))
            assert all(current == known for current, known in told), told
            assert told[0] == (0, 0)
            assert completed == complete.data["total_chunks"] > 2
