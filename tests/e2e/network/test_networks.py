"""Viewers on bad networks: they keep a picture, and cost nobody else a frame."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.browser.chromium import Browser
from tests.e2e.browser.viewer import Frame, Viewer
from tests.e2e.driving import FULL_SIZE
from tests.e2e.network.hosts import SERVER, TwoHosts, inside, two_hosts
from tests.media.clips import Recipe, make
from tests.required import ROOT
from tests.stack import Stack, serving

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

FRAMES: Final = 33 + 24 * 24
"""Length of the clip: 25 seconds, a little more than all phases together."""
MAIN_WIDTH: Final = 1280
SETTLED_MS: Final = 2000
"""After this much of a phase the picture goes on, ..."""
STILL_MS: Final = 2000
"""... and never stands still for this long."""
DOWN_MS: Final = 2500
"""Within this time a network that is far too narrow is given the low rung."""
STALL_S: Final = 3.5


@dataclass(frozen=True)
class Phase:
    """A stretch of the clip on one kind of network."""

    name: str
    seconds: float
    network: dict[str, float] = field(default_factory=dict)


PHASES: Final = (
    Phase("perfect", 3.0),
    Phase("lossy", 6.0, {"loss": 0.2, "delay_ms": 100}),
    Phase("narrow", 5.0, {"kbps": 900, "delay_ms": 20}),
    Phase("perfect again", 10.0),
)


@dataclass(frozen=True)
class Script:
    """A script that runs on one of the hosts and talks JSON lines."""

    process: subprocess.Popen[str]

    def told(self) -> dict[str, Any]:
        """Waits for its next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the script ended early"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def go(self) -> None:
        """Tells it to go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def finish(self) -> dict[str, Any]:
        """Ends its input; returns its last line."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.told()


@contextlib.contextmanager
def script(namespace: str, module: str, *words: str) -> Iterator[Script]:
    """Runs a module of this folder on a host."""
    command = [*inside(namespace), sys.executable, "-m", f"tests.e2e.network.{module}", *words]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        yield Script(process)
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def browser_of(bed: TwoHosts, service: Stack) -> Iterator[Viewer]:
    """Opens a page in a browser on the clients' host."""
    with contextlib.ExitStack() as stack:
        origin = stack.enter_context(script(bed.server, "page", SERVER)).told()["origin"]
        # Looking at encoded frames is allowed to pages of secure origins only.
        secure = f"--unsafely-treat-insecure-origin-as-secure={origin}"
        browser = stack.enter_context(Browser(secure, prefix=inside(bed.client)))
        page = stack.enter_context(browser.open(f"{origin}/browser/page.html"))
        yield Viewer(page, service.http_url)


@pytest.fixture(scope="module")
def bed() -> Iterator[TwoHosts]:
    """Two hosts."""
    with two_hosts() as hosts:
        yield hosts


@pytest.fixture(scope="module")
def service(bed: TwoHosts) -> Iterator[Stack]:
    """The service on one of them."""
    pages = ("--cors-origins", "*")
    with serving(*FULL_SIZE, "--host", SERVER, *pages, prefix=inside(bed.server)) as running:
        yield running


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip that lasts for all phases."""
    return make(tmp_path_factory.mktemp("network") / "clip.mp4", Recipe(frames=FRAMES))


@pytest.mark.timeout(150)
def test_viewers_keep_their_picture_through_loss_delay_narrowness_and_a_stall(
    bed: TwoHosts, service: Stack, clip: Path
) -> None:
    with contextlib.ExitStack() as scripts:
        near = scripts.enter_context(script(bed.server, "near", service.grpc_address, str(clip)))
        session = near.told()["session"]
        far = scripts.enter_context(browser_of(bed, service))
        far.connect(codec="H264", session=session)
        words = (service.grpc_address, session, "--codec", "vp8")
        stalled = scripts.enter_context(script(bed.server, "far", *words))
        assert stalled.told()["connected"]
        near.go()
        far("more", 10)
        spans, woken = through_phases(bed, far, stalled)
        frames, report = new_pictures(far.frames()), far.inbound()
        watched, late = near.told(), stalled.finish()
    for phase, span in zip(PHASES, spans, strict=True):
        print(f"{phase.name}: {described(within(frames, span), span)}")
    print(f"NACK {report['nackCount']}, PLI {report['pliCount']}, lost {report['packetsLost']}")
    assert watched["frames"] == list(range(FRAMES)), "the viewer nearby misses nothing"
    assert watched["rungs"] == [0], "and nothing is made smaller for it"
    for phase, (begin, end) in zip(PHASES, spans, strict=True):
        settled = (begin + SETTLED_MS, end)
        still = longest_still(within(frames, settled), settled)
        assert still < STILL_MS, f"a picture that goes on: {phase.name}"
    narrow = within(frames, spans[2])
    small = [each.at - spans[2][0] for each in narrow if each.width < MAIN_WIDTH]
    assert small, "a narrow network is given the low rung"
    assert small[0] < DOWN_MS
    assert narrow[-1].width < MAIN_WIDTH, "and keeps it"
    assert within(frames, spans[3])[-1].width == MAIN_WIDTH, "which is left with the narrowness"
    told = [stats for at, stats in late["stats"] if at > woken]
    assert told, "who stood still is sent frames again"


def through_phases(
    bed: TwoHosts, far: Viewer, stalled: Script
) -> tuple[list[tuple[float, float]], float]:
    """Plays through the phases, and stalls a viewer in the second one.

    Returns:
        Begin and end of each on the page's clock, in milliseconds; when the stall was over.
    """
    marks, woken = [], 0.0
    began = time.monotonic()
    for number, phase in enumerate(PHASES):
        bed.shape(**phase.network)
        marks.append(float(far.page.run("now()")))
        if number == 1:
            stalled.process.send_signal(signal.SIGSTOP)
            sleep_until(time.monotonic() + STALL_S)
            stalled.process.send_signal(signal.SIGCONT)
            woken = time.monotonic()
        began += phase.seconds
        sleep_until(began)
    marks.append(float(far.page.run("now()")))
    bed.shape()
    return list(pairwise(marks)), woken


def sleep_until(moment: float) -> None:
    """Lets the session play on; the phases of the test are stretches of real time."""
    time.sleep(max(0.0, moment - time.monotonic()))


def new_pictures(frames: Sequence[Frame]) -> list[Frame]:
    """Returns those that show something new."""
    known, new = (-1, -1), []
    for each in frames:
        if (each.run, each.frame) > known:
            known = (each.run, each.frame)
            new.append(each)
    return new


def within(frames: Sequence[Frame], span: tuple[float, float]) -> list[Frame]:
    """Returns those of a stretch of time."""
    return [each for each in frames if span[0] <= each.at < span[1]]


def longest_still(frames: Sequence[Frame], span: tuple[float, float]) -> float:
    """Returns for how long the picture stood still at most, in milliseconds."""
    moments = [span[0], *(each.at for each in frames), span[1]]
    return max(after - before for before, after in pairwise(moments))


def described(frames: Sequence[Frame], span: tuple[float, float]) -> str:
    """Returns the figures of a phase, for the record of the test."""
    rate = 1e3 * len(frames) / (span[1] - span[0])
    widths = sorted({each.width for each in frames})
    return f"{rate:.1f} a second, longest still {longest_still(frames, span):.0f} ms, {widths}"
