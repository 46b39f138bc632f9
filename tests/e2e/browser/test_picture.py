"""What a viewer in a real browser sees: every picture once, at its rate, whatever happens."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.e2e.browser.conftest import Open
from tests.e2e.browser.viewer import Viewer, gaps_ms, summary
from tests.e2e.driving import PROMPT
from tests.media.clips import Recipe, make

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(180)]

FRAMES = 105
"""Windows of 33 and three of 24: 4.4 s."""
CODECS = ("H264", "VP8")
PICTURE = (1280, 704)
SHORT = 57
"""Windows of 33 and 24."""
RECOVERED_MS = 3000
"""A lost picture is back by then; some 150 ms where nothing else runs."""
JOINED_MS = 3000
"""A joiner sees a picture by then; within 300 ms where nothing else runs."""


def clip_of(frames: int, folder: Path) -> str:
    """Returns a clip in base64."""
    path = make(folder / f"{frames}.mp4", Recipe(frames=frames))
    return base64.b64encode(path.read_bytes()).decode()


@pytest.fixture(scope="module")
def steady_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A clip of some seconds."""
    return clip_of(FRAMES, tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def short_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A clip of two windows."""
    return clip_of(SHORT, tmp_path_factory.mktemp("clips"))


def check_steady(viewer: Viewer, run: int, codec: str) -> None:
    """Every picture of a run came once, in order, and none late enough to be a freeze."""
    frames, report = viewer.frames(run), viewer.stats()
    print(f"{codec}: {summary(viewer, frames)}")
    assert viewer.numbers(run) == list(range(FRAMES))
    assert {(each.width, each.height) for each in frames} == {PICTURE}
    assert report["codec"]["mimeType"] == f"video/{codec}"
    inbound = report["inbound-rtp"]
    assert inbound["framesDecoded"] >= FRAMES
    assert (inbound["framesDropped"], inbound["freezeCount"]) == (0, 0)
    assert (inbound["packetsLost"], inbound["pliCount"]) == (0, 0)


def test_every_picture_is_shown_once_in_both_codecs(
    open_viewer: Open, steady_clip: str, tmp_path: Path
) -> None:
    viewers = {codec: open_viewer() for codec in CODECS}
    first, second = viewers.values()
    session = first.connect(codec="H264")
    second.connect(codec="VP8", session=session)
    first("stage", steady_clip, PROMPT)
    since = first.command("start")
    first.told("generation_complete", since)
    for codec, viewer in viewers.items():
        viewer("shows", 1, FRAMES - 1)
        check_steady(viewer, 1, codec)
        viewer.page.screenshot(tmp_path / f"{codec}.png")


def test_a_picture_that_was_lost_comes_back(open_viewer: Open, steady_clip: str) -> None:
    viewers = {codec: open_viewer() for codec in CODECS}
    first, second = viewers.values()
    session = first.connect(codec="H264")
    second.connect(codec="VP8", session=session)
    first("stage", steady_clip, PROMPT)
    first.command("start")
    for viewer in viewers.values():
        viewer("more", 20)
    asked = {codec: viewer("refresh") for codec, viewer in viewers.items()}
    for viewer in viewers.values():
        viewer("more", 15)
    known = {codec: len(viewer.frames()) for codec, viewer in viewers.items()}
    for viewer in viewers.values():
        viewer("spoil", 1)
    for codec, viewer in viewers.items():
        viewer("more", 15)
        after = viewer.frames()[known[codec] - 1 :]
        print(f"{codec}: keyframe {asked[codec]:.0f} ms after it was asked for")
        print(f"{codec}: {summary(viewer, after)}")
        report = viewer.inbound()
        assert report["pliCount"] >= 2, "it asked each time; a client may ask twice for one"
        assert report["keyFramesDecoded"] >= 3
        assert max(gaps_ms(after)) < RECOVERED_MS


def test_a_late_joiner_sees_the_picture_and_harms_nobody(
    open_viewer: Open, steady_clip: str
) -> None:
    first, late = open_viewer(), open_viewer()
    session = first.connect(codec="H264")
    first("stage", steady_clip, PROMPT)
    first.command("start")
    first("more", 24)
    late.connect(codec="H264", session=session)
    late("more", 24)
    times = late.page.run("client.times")
    print(
        f"answered {times['answered'] - times['begun']:.0f} ms, "
        f"connected {times['connected'] - times['begun']:.0f} ms, "
        f"ready {times['ready'] - times['begun']:.0f} ms, "
        f"picture {times['shown'] - times['begun']:.0f} ms after it began"
    )
    assert times["shown"] - times["connected"] < JOINED_MS
    frames = first.frames()
    print("first:", summary(first, frames))
    print("late:", summary(late, late.frames()))
    assert first.numbers() == list(range(len(first.numbers())))
    inbound = first.inbound()
    assert (inbound["framesDropped"], inbound["freezeCount"]) == (0, 0)
    numbers = late.numbers()
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert late.inbound()["freezeCount"] == 0


def test_the_picture_holds_through_pause_replay_and_reset(
    open_viewer: Open, short_clip: str
) -> None:
    viewer = open_viewer()
    viewer.connect(codec="H264")
    viewer("stage", short_clip, PROMPT)
    since = viewer.command("start")
    viewer("more", 20)
    since = viewer.command("pause")
    viewer.told("state", since, paused=True, running=False)
    held = viewer("settled")
    viewer.page.run("pause(500)")
    still = viewer("showing")
    assert (still["run"], still["frame"]) == (1, held["frame"])
    since = viewer.command("resume")
    viewer.told("generation_complete", since)
    viewer("shows", 1, SHORT - 1)
    assert viewer.numbers(1) == list(range(SHORT))
    viewer.command("start")
    viewer("shownOf", 2)
    since = viewer.command("reset")
    viewer.told("generation_reset", since)
    held = viewer("settled")
    assert held["run"] == 2
    viewer("stage", short_clip, PROMPT)
    since = viewer.command("start")
    viewer.told("generation_complete", since)
    viewer("shows", 3, SHORT - 1)
    frames = viewer.frames()
    print(summary(viewer, frames))
    assert viewer.numbers(frames[-1].run) == list(range(SHORT))
    assert [each.run for each in frames] == sorted(each.run for each in frames)
    assert all(0 < step < 1 << 31 for step in viewer.rtp_steps())
    assert {(each.width, each.height) for each in frames} == {PICTURE}
    assert viewer.inbound()["framesDropped"] == 0
