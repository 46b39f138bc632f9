"""A real browser publishes its camera: whatever it does with it, the session goes on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

import pytest

from tests.e2e.browser.conftest import Open
from tests.e2e.browser.viewer import Viewer, summary
from tests.e2e.driving import PROMPT

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(180)]

PHASES = [(640, 480, 24, 40), (1280, 720, 24, 100), (320, 240, 60, 160), (640, 480, 10, 220)]
"""Width, height, pictures a second and grey level of the camera, one after the other."""
MUTED = 0
LEVELS = (MUTED, *(level for *_, level in PHASES))
PHASE_MS = 700

LUMA: dict[str, Callable[[int], float]] = {
    "VP8": lambda level: level,
    "H264": lambda level: 16 + level * 219 / 255,
}
"""Luma of a grey as the service decodes it.

Chromium draws canvases in full range. H.264 says so in its stream, and the service converts;
VP8 has no word for it.
"""


def shown(level: int, codec: str) -> float:
    """Returns the luma with which `simulated` shows a grey of the camera."""
    return LUMA[codec](level) / 4 + 36


def begin(viewer: Viewer) -> None:
    """Starts an edit of the camera, which is published."""
    viewer.command("set_mode", mode="live")
    viewer.command("set_prompt", prompt=PROMPT)
    viewer.told("generation_started", viewer.command("start"))


def camera(viewer: Viewer) -> dict[str, Any]:
    """Returns the browser's report about the camera that it sends."""
    report: dict[str, Any] = viewer.stats("camera")["outbound-rtp"]
    return report


def levels(viewer: Viewer, codec: str) -> list[int]:
    """Returns the greys of the camera that were shown, one after the other."""
    nearest = [
        min(LEVELS, key=lambda level: abs(shown(level, codec) - each.ground))
        for each in viewer.frames()
    ]
    return [level for level, _ in groupby(nearest)]


def check_unharmed(viewer: Viewer) -> None:
    """No picture is missing, none came late, and nothing was refused."""
    numbers, report = viewer.numbers(), viewer.inbound()
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert (report["freezeCount"], report["framesDropped"]) == (0, 0)
    assert "command_error" not in viewer.kinds


@pytest.mark.parametrize("codec", ["VP8", "H264"])
def test_a_camera_may_change_in_every_way(open_viewer: Open, codec: str) -> None:
    publisher, watcher = open_viewer(), open_viewer()
    session = publisher.connect(codec="H264", cameraCodec=codec)
    watcher.connect(codec="H264", session=session)
    assert publisher("claim") is None
    publisher("film", *PHASES[0])
    begin(publisher)
    for phase in PHASES[1:]:
        publisher.page.run(f"pause({PHASE_MS})")
        publisher("turn", *phase)
    for enabled in ("false", "true"):
        publisher.page.run(f"pause({PHASE_MS})")
        publisher.page.run(f"client.canvas.track.enabled = {enabled}")
    publisher.page.run(f"pause({PHASE_MS})")
    publisher("film", *PHASES[1])
    watcher("ground", shown(MUTED, codec))
    watcher("ground", shown(100, codec), len(watcher.frames()))
    for who, each in {"publisher": publisher, "watcher": watcher}.items():
        print(f"{codec} {who}: {summary(each, each.frames())}")
        check_unharmed(each)
    # What is not published at all is waited for, and goes on without a command.
    since = publisher.page.run("client.messages.length")
    publisher.page.run("client.send(null)")
    publisher.told("state", since, running=False)
    publisher("film", *PHASES[2])
    watcher("ground", shown(160, codec), len(watcher.frames()))
    assert levels(watcher, codec) == [40, 100, 160, 220, MUTED, 220, 100, 160]
    report, reports = camera(publisher), publisher.stats("camera")
    print(
        f"{codec} camera: {report['framesEncoded']} frames, {report['keyFramesEncoded']} keyframes,"
        f" PLI {report['pliCount']}, NACK {report['nackCount']},"
        f" lost {reports['remote-inbound-rtp']['packetsLost']}"
    )
    assert reports["codec"]["mimeType"] == f"video/{codec}"
    assert "command_error" not in publisher.kinds


def test_a_second_publisher_is_refused(open_viewer: Open) -> None:
    publisher, second = open_viewer(), open_viewer()
    session = publisher.connect(codec="H264", cameraCodec="VP8")
    second.connect(codec="VP8", cameraCodec="VP8", session=session)
    assert publisher("claim") is None
    assert second("claim") == "PUBLISHER_SLOT_TAKEN"
    publisher("film", *PHASES[0])
    # Neither does the one who sends all the same get into the picture.
    second("film", 640, 480, 24, 220)
    begin(publisher)
    second("more", 24)
    assert levels(publisher, "VP8") == levels(second, "VP8") == [40]
    for each in (publisher, second):
        check_unharmed(each)


def test_the_browsers_own_camera_may_change_its_size(open_viewer: Open) -> None:
    viewer = open_viewer()
    viewer.connect()
    assert viewer("claim") is None
    viewer("capture", {"width": 640, "height": 480})
    begin(viewer)
    for width, height in [(1280, 720), (320, 240)]:
        viewer("more", 12)
        viewer("constrain", {"width": width, "height": height})
        assert camera(viewer)["frameHeight"] == height
    viewer("more", 48)
    print(summary(viewer, viewer.frames()), camera(viewer).get("encoderImplementation"))
    check_unharmed(viewer)
