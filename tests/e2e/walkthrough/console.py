"""What there is to do and to see in the operators' console."""

from __future__ import annotations

from typing import Final

from tests.e2e.walkthrough.window import Window

FIRST_CELL: Final = 10.0
"""Pixels from a corner of the picture of an actor's sessions into the first of them."""


class Console:
    """A window with the console."""

    def __init__(self, window: Window) -> None:
        """Takes a window; `open` is the first thing to do."""
        self.window = window

    def open(self, url: str) -> None:
        """Goes there."""
        self.window.go(f"{url}/console")

    def draws(self, actors: int) -> None:
        """Waits until so many actors are drawn."""
        self.window.until(lambda: self.window.count("article.gpu") == actors)

    @property
    def actor(self) -> str:
        """What the first actor's card is called: device and host."""
        found: str = self.window.look("document.querySelector('article.gpu').ariaLabel")
        return found

    @property
    def cells(self) -> str:
        """What the picture of the first actor's sessions says to screen readers."""
        found: str = self.window.look("document.querySelector('article.gpu .cells').ariaLabel")
        return found

    def open_first_session(self) -> str:
        """Clicks on the first session that is drawn; returns its id."""
        window = self.window
        window.until(lambda: "none" not in self.cells, "no session is drawn")
        box = window.named("application", self.cells).box
        window.click(box.left + FIRST_CELL, box.top + FIRST_CELL)
        window.named("button", "End session…")
        found: str = window.look("document.querySelector('aside.drawer .mono').innerText")
        return found

    def watches_for(self, seconds: float) -> None:
        """Watches it for so long: charts and timelines fill."""
        begins = float(self.window.look("performance.now()"))
        self.window.until(f"performance.now() >= {begins + 1000 * seconds}")

    def dialog(self) -> str:
        """Waits for a dialog; returns its title."""
        title = "document.querySelector('dialog[open] h2')?.innerText"
        return self.window.until(f"{title} ?? ''", "no dialog opens")

    def answer(self, name: str) -> None:
        """Presses a button of the dialog, and waits until that is gone."""
        self.window.named("button", name).click()
        self.window.until(lambda: self.window.count("dialog[open]") == 0, "the dialog stays")
