"""What there is to do and to see in the playground."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tests.e2e.walkthrough.scene import RATE, Rgb, apart, number_of
from tests.e2e.walkthrough.window import Box, Window

LEAST_CHANGE: Final = 12.0
"""Distance of two mean colours that nobody takes for the same, of 441."""
STILL: Final = 4
"""Looks at the same picture in a row after which it stands."""

Colour = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Pair:
    """What source and result showed at one moment."""

    source: int
    result: int

    @property
    def apart(self) -> int:
        """How many frames lie between them."""
        return apart(self.source, self.result)


class Playground:
    """A window with the playground."""

    def __init__(self, window: Window) -> None:
        """Takes a window; `open` is the first thing to do."""
        self.window = window

    def open(self, url: str) -> None:
        """Goes there."""
        self.window.go(f"{url}/")
        self.window.find("go")

    # -- to do

    def choose_clip(self, path: Path) -> None:
        """Chooses a file."""
        self.window.find("source-file").click()
        self.window.choose_file("file", path)
        self.window.until(lambda: self.window.text("source-name") == path.name)

    def prompt(self, words: str) -> None:
        """Types a prompt over the one that is there."""
        self.window.find("prompt").write(words)

    def start(self) -> None:
        """Presses Start, and waits for the run."""
        self.go("Start")
        self.window.until(lambda: self.window.text("go") == "Pause", "it does not start")

    def go(self, word: str) -> None:
        """Presses the large button, on which this word must stand."""
        self.window.until(lambda: self.window.text("go") == word, f"nothing says {word}")
        self.window.find("go").click()

    def view(self, name: str) -> None:
        """Chooses how the pictures are shown."""
        self.window.named("button", name).click()

    def tab(self, name: str) -> None:
        """Opens a panel."""
        self.window.named("tab", name).click()

    def fork(self, *prompts: str) -> None:
        """Copies the shot, a copy for each prompt."""
        self.window.find("fork").click()
        for number, prompt in enumerate(prompts, 1):
            self.window.find(f"fork-prompt-{number}").write(prompt)
        self.window.find("fork-go").click()

    def copied(self, language: str) -> str:
        """Copies what was done as a program in a language; returns it."""
        self.tab("Code")
        self.view(language)
        self.window.find("copy").click()
        self.problem("Copied")
        return self.window.text("code")

    def leave(self) -> None:
        """Ends the session, where there is one."""
        if self.status != "disconnected":
            self.window.find("leave").click()
            self.window.until(lambda: self.status == "disconnected", "it does not end")
            self.window.until(lambda: self.window.text("go") == "Start", "a run goes on")
            assert (self.progress, self.window.value("main-tile", "data-view")) == ("", "preview")

    # -- to see

    @property
    def status(self) -> str | None:
        """How the connection is."""
        return self.window.value("status", "data-status")

    @property
    def progress(self) -> str:
        """How far it is."""
        return self.window.text("progress")

    @property
    def state(self) -> dict[str, str]:
        """The table of the state, in the panel that is open."""
        rows: list[list[str]] = self.window.look(
            "[...document.querySelectorAll('[data-testid=state] tr')]"
            ".map(({ cells }) => [...cells].map((cell) => cell.innerText))"
        )
        return {row[0]: row[1] for row in rows}

    @property
    def problems(self) -> list[tuple[str, str]]:
        """What is wrong, and what to do about it."""
        found: list[list[str]] = self.window.look(
            "[...document.querySelectorAll('[data-testid=problems] .problem')].map((each) =>"
            " ['strong', '.advice'].map((part) => each.querySelector(part)?.innerText ?? ''))"
        )
        return [(title, advice) for title, advice in found]

    def problem(self, words: str) -> str:
        """Waits for a problem in whose title these words are, puts it away, returns the advice."""

        def look() -> tuple[str, str] | None:
            return next((each for each in self.problems if words in each[0]), None)

        _, advice = self.window.until(look, f"nobody says {words!r}")
        while self.problems:
            self.window.named("button", "Dismiss").click()
        return advice

    def source(self) -> Rgb:
        """The source, as it is shown."""
        return self._shown("source")

    def result(self) -> Rgb:
        """The result, as it is shown."""
        return self._shown("result")

    def number(self) -> int | None:
        """Number of the frame that the result shows."""
        return number_of(self.result())

    def pair(self) -> Pair | None:
        """What source and result show, side by side, at one moment."""
        window = self.window
        tile, *boxes = (window.find(each).place for each in ("main-tile", "source", "result"))
        drawn = window.picture(tile)
        source, result = (number_of(cut(drawn, box.inside(tile))) for box in boxes)
        return None if source is None or result is None else Pair(source, result)

    def pairs(self, enough: Callable[[list[Pair]], bool], count: int) -> list[Pair]:
        """Notes what source and result show whenever the result changes; returns the latest.

        Args:
            enough: Whether no more are needed.
            count: Least, and how many are returned.
        """
        found: list[Pair] = []

        def look() -> bool:
            pair = self.pair()
            if pair is not None and (not found or found[-1].result != pair.result):
                found.append(pair)
            return len(found) >= count and enough(found)

        try:
            self.window.until(look)
        except AssertionError:
            raise AssertionError(f"source and result: {found[-3 * count :]}") from None
        return found[-count:]

    def stands(self) -> int:
        """Waits until the result does not change any more; returns the number of its frame."""
        seen: list[int | None] = []

        def look() -> bool:
            seen.append(self.number())
            return len(seen) > STILL and len({*seen[-STILL:]}) == 1 and seen[-1] is not None

        self.window.until(look, "the picture does not stand")
        assert seen[-1] is not None
        return seen[-1]

    def moves(self, since: int | None = None) -> int:
        """Waits until the result shows another frame than that; returns its number."""
        before = self.number() if since is None else since
        seen: list[int] = []

        def look() -> bool:
            now = self.number()
            if now is not None and now != before:
                seen.append(now)
            return bool(seen)

        self.window.until(look, "the picture stands")
        return seen[-1]

    def runs_for(self, seconds: float) -> None:
        """Watches the run for so long of its clip."""
        count = "Number((/Frame (\\d+)/.exec(document.body.innerText) ?? [])[1] ?? 0)"
        begins = int(self.window.look(count))
        self.window.until(f"{count} >= {begins + round(seconds * RATE)}")

    def turns(self, colour: Colour) -> Colour:
        """Waits until the result has another mean colour; returns that."""
        seen: list[Colour] = []

        def look() -> bool:
            seen.append(mean(self.result()))
            return distance(seen[-1], colour) > LEAST_CHANGE

        self.window.until(look, "the colours stay as they were")
        return seen[-1]

    def takes_differ(self, count: int) -> None:
        """Waits until so many copies of the shot are shown, and no two pictures look alike."""
        window = self.window
        window.until(lambda: window.value("stage", "data-takes") == str(count))
        takes = [window.find("take", number) for number in range(count)]
        pictures = [window.find("result"), *takes]

        def look() -> bool:
            if window.count("[data-testid=take] .tile-note"):
                return False
            colours = [mean(window.picture(each.place)) for each in pictures]
            return all(distance(*pair) > LEAST_CHANGE for pair in combinations(colours, 2))

        window.until(look, "the copies look alike")

    def _shown(self, testid: str) -> Rgb:
        return self.window.picture(self.window.find(testid).place)


def cut(picture: Rgb, box: Box) -> Rgb:
    """Returns a part of a picture."""
    top, left = round(box.top), round(box.left)
    return picture[top : top + round(box.height), left : left + round(box.width)]


def mean(picture: Rgb) -> Colour:
    """Returns the mean colour."""
    return np.asarray(picture.reshape(-1, 3).mean(axis=0))


def distance(one: Colour, other: Colour) -> float:
    """Returns how far two colours are apart."""
    return float(np.linalg.norm(one - other))
