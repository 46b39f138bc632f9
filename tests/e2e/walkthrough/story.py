"""The story of a new user, in chapters; each begins where the one before ends."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.e2e.walkthrough.playground import (
    LEAST_CHANGE,
    Colour,
    Pair,
    Playground,
    distance,
    mean,
)
from tests.e2e.walkthrough.scene import RATE, Rgb, apart

OIL: Final = "Van Gogh oil painting, swirling brushstrokes, vivid colors"
"""The prompt that the page begins with."""
NEON: Final = "Neon-lit cyberpunk scene, glowing outlines in the dark"
"""What the button Neon stands for."""
OWN_PROMPT: Final = "a woodcut of a bay in heavy weather"
FORK_PROMPTS: Final = ("a bay in deep winter with snow", "a bay on an old postcard in sepia")
COMPARE, BESIDE = "Compare with a divider", "Source and result side by side"
DIVIDER: Final = "Divider between source and result"
PICTURES: Final = 12
"""Pictures that are compared with their sources."""


def edit_a_clip(page: Playground, clip: Path) -> None:
    """A clip and a prompt are chosen, and the result is another picture than the source."""
    window = page.window
    assert window.find("welcome").text.startswith("Edit live video by prompt")
    page.choose_clip(clip)
    page.prompt(OIL)
    page.start()
    page.view(BESIDE)
    page.moves()
    assert page.status == "ready"
    assert distance(mean(page.source()), mean(page.result())) > LEAST_CHANGE


def compare_moments(page: Playground) -> list[Pair]:
    """Source and result show the same moment: they come to be a frame apart at most, and stay so.

    A camera's delay is measured first, which takes a few chunks. And a browser that is short of
    time puts now and then a picture on the screen before its scripts hear of it.
    """
    return page.pairs(
        lambda pairs: sum(pair.apart > 1 for pair in pairs[-PICTURES:]) <= 1, PICTURES
    )


def change_the_prompt(page: Playground) -> None:
    """Prompts are picked and typed while it runs; each changes the colours of the result alone."""
    before, source = mean(page.result()), mean(page.source())
    page.window.named("button", "Neon").click()
    neon = page.turns(before)
    page.prompt(OWN_PROMPT)
    page.window.press("Enter")
    own = page.turns(neon)
    assert distance(own, before) > LEAST_CHANGE, "one of three colours came again"
    assert distance(mean(page.source()), source) < LEAST_CHANGE
    page.tab("State")
    page.window.until(lambda: page.state["current_prompt"] == OWN_PROMPT)


def pause_and_resume(page: Playground) -> None:
    """The picture holds, the progress stands, and both go on from there."""
    window = page.window
    page.go("Pause")
    window.until(lambda: window.text("go") == "Resume")
    held = page.stands()
    told = page.progress
    assert re.fullmatch(r"Frame \d+ of \d+", told)
    window.until(lambda: page.state["paused"] == "true")
    assert page.number() == held
    assert page.progress == told
    page.go("Resume")
    after = page.moves(held)
    assert apart(held, after) <= 4 * RATE, "it goes on where it was"
    window.until(lambda: page.progress != told)


def strip(picture: Rgb, across: float) -> Colour:
    """Returns the mean colour of an upright strip of a picture, without tags and lamps."""
    height, width = picture.shape[:2]
    columns = slice(round((across - 0.03) * width), round((across + 0.03) * width))
    return mean(picture[height // 8 : height * 3 // 4, columns])


def move_the_divider(page: Playground) -> None:
    """By mouse and by keys: what is left of the line is the source, the rest is the result."""
    window = page.window
    page.view(BESIDE)
    alone = {"source": page.source(), "result": page.result()}
    page.view(COMPARE)
    tile, line = window.find("main-tile").box, window.named("slider", DIVIDER)

    def shows(across: float) -> str:
        """Which of the two is seen there, a strip wide."""
        seen = strip(window.picture(tile), across)
        return min(alone, key=lambda name: distance(strip(alone[name], across), seen))

    def stands_at(value: int) -> None:
        window.until(lambda: line.says("function () { return this.ariaValueNow; }") == str(value))

    stands_at(50)
    for place in (0.25, 0.8):
        window.drag(line.box.at(), tile.at(place))
        stands_at(round(100 * place))
        assert shows(place - 0.1) == "source"
        assert shows(place + 0.1) == "result"
    line.click()
    window.press("ArrowLeft", "ArrowLeft", "ArrowLeft")
    stands_at(74)
    window.press("Home")
    stands_at(0)
    assert [shows(place) for place in (0.1, 0.5, 0.9)] == ["result"] * 3
    window.press("End")
    stands_at(100)
    assert [shows(place) for place in (0.1, 0.5, 0.9)] == ["source"] * 3
    window.drag(line.box.at(), tile.at(0.5))


def look_behind(page: Playground) -> None:
    """The panels tell how it goes: quality, messages, and each command that was given."""
    window = page.window
    page.tab("Quality")
    window.until(lambda: window.value("limit", "data-limit") not in (None, "idle"))
    for chart in ("glassToGlassMs", "promptToPixelsMs", "fps"):
        window.find(f"chart-{chart}")
    window.until(lambda: re.search(r"\d", window.text("chart-promptToPixelsMs")))
    page.tab("Messages")
    said = window.text("messages")
    for name in ("set_video", "set_prompt", "start", "pause", "resume", "chunk_complete"):
        assert name in said, name


def fork(page: Playground) -> None:
    """Copies of the shot with other prompts stand beside it, and can be put away."""
    window = page.window
    page.fork(*FORK_PROMPTS)
    page.takes_differ(len(FORK_PROMPTS))
    for prompt in FORK_PROMPTS:
        window.named("button", f"End take: {prompt}").click()
    window.until(lambda: window.value("stage", "data-takes") == "0")


def reset(page: Playground) -> None:
    """The run and its prompt are gone; the source and what was typed are still there."""
    window = page.window
    window.find("reset").click()
    window.until(lambda: window.text("go") == "Start")
    page.tab("State")
    window.until(lambda: page.state["started"] == "false")
    assert (page.state["has_prompt"], page.state["has_video"]) == ("false", "false")
    assert window.text("progress") == ""
    assert window.text("source-name")


def be_refused_the_camera(page: Playground) -> None:
    """Who does not allow the camera reads how to allow it."""
    page.window.find("source-camera").click()
    assert "Allow it" in page.problem("camera is not allowed")


def film(page: Playground, origin: str) -> list[Pair]:
    """The camera is edited as it films, and the source is shown as late as the result is."""
    window = page.window
    window.page.allow_camera(origin)
    window.find("source-camera").click()
    window.until(lambda: window.value("source-camera", "aria-pressed") == "true")
    page.start()
    page.view(BESIDE)
    window.until(lambda: "behind the camera" in page.progress)
    return compare_moments(page)


def bring_what_is_no_clip(page: Playground, folder: Path) -> None:
    """What is no video is refused at once, a broken one when it was looked at; both with advice."""
    notes, broken = folder / "notes.txt", folder / "broken.mp4"
    notes.write_text("no clip")
    broken.write_bytes(b"no clip" * 500)
    page.window.choose_file("file", notes)
    assert "MP4" in page.problem("no video")
    page.choose_clip(broken)
    page.go("Start")
    assert "Choose another clip" in page.problem("")
    page.window.until(lambda: page.window.text("go") == "Start")
