"""How long a frame of the operator console takes while a thousand sessions are live.

    python -m tests.bench.console [--json OUT] [--sessions N] [--seconds S] [--most MS]

The page is the built one, in Chromium without a GPU, and the service is the real scheduler and
gateway with made-up actors (`tests.fakes.busy_pool`): every session makes a chunk a second, some
are late, sessions come and go. Measured is the pool's picture with its timeline and its log.

Browsers show at most as many frames as the screen has, so that at 60 Hz no frame is shorter than
16.7 ms. The console is therefore looked at twice: with the limit taken away, where a frame takes as
long as its work (script, style, layout, painting, compositing), and as users have it, for how many
frames the screen missed. Without the limit there are frames in which nothing moves by a pixel;
they are left out: what counts are frames in which a canvas was painted. Frames are wall time:
others on the machine make them longer, never shorter.

The exit status is 1 where the median frame takes longer than `--most`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.bench.service import percentile
from tests.e2e.browser.chromium import Browser, Page

MOST_MS: Final = 16.0
"""What a frame may take in the median."""
SCREEN_MS: Final = 1000 / 60
WARM_S: Final = 25.0
"""The whole window of the timeline is full after that."""
START_S: Final = 120.0
STOP_S: Final = 20.0
UNLIMITED: Final = ("--disable-frame-rate-limit", "--disable-gpu-vsync")
_FRAMES: Final = """new Promise((resolve) => {
  const [frames, painting] = [[], CanvasRenderingContext2D.prototype];
  const clear = painting.clearRect;
  let [before, end, paints] = [0, performance.now() + %d, []];
  painting.clearRect = function (...where) {
    paints.push(document.timeline.currentTime);
    return clear.apply(this, where);
  };
  const frame = (at) => {
    // The page may have painted this frame already. All are times of frames, some rounded.
    const isOver = (time) => Math.abs(time - at) > 0.2;
    if (before > 0) frames.push([at - before, paints.some(isOver)]);
    paints = paints.filter((time) => !isOver(time));
    before = at;
    if (performance.now() < end) return requestAnimationFrame(frame);
    painting.clearRect = clear;
    resolve(frames);
  };
  requestAnimationFrame(frame);
})"""
"""How long each frame took, and whether a canvas was painted in it."""
_LIVE: Final = "document.querySelector('[data-link=live]') !== null"
_CARDS: Final = "document.querySelectorAll('[data-actor]').length"


@contextmanager
def pool(sessions: int) -> Iterator[str]:
    """A busy pool in a process of its own; yields where its gateway listens."""
    words = [sys.executable, "-m", "tests.fakes.busy_pool", "--sessions", f"{sessions}"]
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=nothing, text=True) as run:
        assert run.stdout is not None
        try:
            url = next((json.loads(line)["url"] for line in run.stdout if '"url"' in line), None)
            if url is None:
                raise RuntimeError(f"the pool does not start; see {' '.join(words)}")
            yield url
        finally:
            run.terminate()
            run.wait(STOP_S)


def until(page: Page, expression: str) -> None:
    """Returns once something is so on a page."""
    end = time.monotonic() + START_S
    while not page.run(expression):
        if time.monotonic() > end:
            raise TimeoutError(f"never: {expression}; the page said {page.said[-5:]}")
        time.sleep(0.2)


def frames(page: Page, url: str, length_s: float) -> list[float]:
    """Returns how long each frame took in which a canvas was painted, in milliseconds."""
    page.go(f"{url}/console")
    until(page, _LIVE)
    until(page, f"{_CARDS} > 0")
    page.run(f"new Promise((resolve) => setTimeout(resolve, {WARM_S * 1e3}))")
    taken: list[tuple[float, bool]] = page.run(_FRAMES % (length_s * 1e3), wait_s=length_s + 60)
    if page.said:
        raise RuntimeError(f"the page complained: {page.said}")
    return [length for length, painted in taken if painted]


def summary(taken: Sequence[float]) -> dict[str, Any]:
    """Returns what the frames say."""
    ordered = sorted(taken)
    return {
        "frames": len(ordered),
        "p50 ms": round(percentile(ordered, 0.5), 2),
        "p95 ms": round(percentile(ordered, 0.95), 2),
        "p99 ms": round(percentile(ordered, 0.99), 2),
        "longest ms": round(ordered[-1], 1),
        "missed by a screen of 60 Hz": round(
            sum(each > 1.5 * SCREEN_MS for each in ordered) / len(ordered), 4
        ),
    }


def measure(url: str, length_s: float) -> dict[str, Any]:
    """Looks at the console without the screen's limit, and with it."""
    told: dict[str, Any] = {}
    for name, flags in (("frame", UNLIMITED), ("at 60 Hz", ())):
        with Browser("--window-size=1440,900", *flags) as browser:
            with browser.open("about:blank") as page:
                told[name] = summary(frames(page, url, length_s))
            told["browser"] = browser.version
    return told


def main() -> int:
    """Measures, and prints what it found."""
    parser = argparse.ArgumentParser(description="Measure frames of the operator console.")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--most", type=float, default=MOST_MS, help="of the median, in ms")
    asked = parser.parse_args()
    with pool(asked.sessions) as url:
        told = {"sessions": asked.sessions, **measure(url, asked.seconds)}
    written = json.dumps(told, indent=2)
    print(written)
    if asked.json is not None:
        asked.json.write_text(written + "\n")
    return int(told["frame"]["p50 ms"] > asked.most)


if __name__ == "__main__":
    sys.exit(main())
