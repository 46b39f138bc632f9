"""The pictures that the docs show, taken while the story is lived with the model `painter`."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from tests.e2e.browser.chromium import Browser
from tests.e2e.walkthrough import story
from tests.e2e.walkthrough.console import Console
from tests.e2e.walkthrough.playground import Playground
from tests.e2e.walkthrough.window import Window

DESK: Final = (1440, 900)
PHONE: Final = (390, 844)
MOST_BYTES: Final = 300_000
"""Of a picture: documents are read over slow lines, too."""
COLOURS: Final = (256, 192, 128, 96, 64)
"""Sizes of palettes, until one makes the picture small enough."""
SCALES: Final = (1.0, 0.85, 0.7)

Take = Callable[[str], None]

PLAYGROUND: Final = ("playground", "playground-dark", "playground-phone", "fork", "error")
CONSOLE: Final = ("console", "console-dark", "console-phone", "console-session")
NAMES: Final = (*PLAYGROUND, *CONSOLE)
"""All of them, without `.png`."""


def save(shown: bytes, path: Path) -> Path:
    """Writes a screenshot with as many colours as fit into `MOST_BYTES`."""
    with Image.open(io.BytesIO(shown)) as image:
        whole = image.convert("RGB")
    for scale in SCALES:
        size = (round(whole.width * scale), round(whole.height * scale))
        scaled = whole if scale == 1 else whole.resize(size, Image.Resampling.LANCZOS)
        for colours in COLOURS:
            few = scaled.quantize(palette=_palette(scaled, colours), dither=Image.Dither.NONE)
            few.save(path, optimize=True)
            if path.stat().st_size <= MOST_BYTES:
                return path
    raise ValueError(f"{path.name} stays larger than {MOST_BYTES} bytes")


def _palette(image: Image.Image, colours: int) -> Image.Image:
    """Returns a palette: half are colours as they are, those of buttons, letters and grounds,
    which go on from one row to the next; the other half is for pictures.
    """
    rows = np.asarray(image)
    upright = (rows[2:] == rows[1:-1]).all(axis=2) & (rows[:-2] == rows[1:-1]).all(axis=2)
    distinct, counts = np.unique(rows[1:-1][upright], axis=0, return_counts=True)
    flat = distinct[np.argsort(-counts, kind="stable")[: colours // 2]]
    few = image.quantize(colours - len(flat), Image.Quantize.MEDIANCUT)
    chosen = flat.reshape(-1).tolist() + (few.getpalette() or [])
    palette = Image.new("P", (1, 1))
    palette.putpalette(chosen)
    return palette


@contextmanager
def on_a_phone(window: Window) -> Iterator[None]:
    """Turns a window into the screen of a phone for a while."""
    window.resize(*PHONE, phone=True)
    yield
    window.resize(*DESK)


def take_playground(browser: Browser, url: str, clip: Path, folder: Path) -> None:
    """Takes the pictures of the playground."""
    with Window(browser) as window:
        page = Playground(window)

        def take(name: str) -> None:
            window.settle()
            save(window.screenshot(), folder / f"{name}.png")

        window.prefer("light")
        page.open(url)
        page.choose_clip(clip)
        page.prompt(story.OIL)
        page.start()
        page.view(story.COMPARE)
        page.runs_for(6)
        take("playground")
        window.prefer("dark")
        page.tab("Code")
        take("playground-dark")
        page.tab("Quality")
        window.prefer("light")
        with on_a_phone(window):
            take("playground-phone")
        page.fork(story.NEON, "Detailed pencil sketch on rough white paper")
        page.takes_differ(2)
        take("fork")
        page.leave()
        window.find("source-camera").click()
        window.until(lambda: bool(page.problems), "nothing is said")
        take("error")


def take_console(browser: Browser, url: str, folder: Path) -> None:
    """Takes the pictures of the console of a busy pool."""
    with Window(browser) as window:
        console = Console(window)

        def take(name: str) -> None:
            window.settle()
            save(window.screenshot(), folder / f"{name}.png")

        window.prefer("light")
        console.open(url)
        console.draws(8)
        console.watches_for(12)
        take("console")
        window.prefer("dark")
        console.watches_for(1)
        take("console-dark")
        window.prefer("light")
        console.open_first_session()
        window.named("tab", "Trace").click()
        window.until(lambda: window.count("aside.drawer .falls li") >= 2, "no trace comes")
        take("console-session")
        window.press("Escape")
        with on_a_phone(window):
            console.watches_for(1)
            take("console-phone")
