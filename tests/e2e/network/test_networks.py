"""Viewers on bad networks: they keep a picture, and cost nobody else a frame."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.driving import SIMULATED
from tests.e2e.network.hosts import SERVER, TwoHosts, inside, two_hosts
from tests.media.clips import Recipe, make
from tests.required import ROOT
from tests.stack import serving

pytestmark = pytest.mark.e2e

FRAMES = 33 + 13 * 24
"""Length of the clip: fourteen seconds."""
NARROW_KBPS = 900.0
"""Less than the main rung's least rate, more than the low rung's."""


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


@pytest.fixture(scope="module")
def bed() -> Iterator[TwoHosts]:
    """Two hosts."""
    with two_hosts() as hosts:
        yield hosts


@pytest.fixture(scope="module")
def address(bed: TwoHosts) -> Iterator[str]:
    """The service on one of them."""
    with serving(*SIMULATED, "--host", SERVER, prefix=inside(bed.server)) as running:
        yield running.grpc_address


@pytest.mark.timeout(120)
def test_viewers_keep_their_picture_through_loss_delay_narrowness_and_a_stall(
    bed: TwoHosts, address: str, tmp_path: Path
) -> None:
    clip = make(tmp_path / "clip.mp4", Recipe(frames=FRAMES))
    with contextlib.ExitStack() as scripts:
        near = scripts.enter_context(script(bed.server, "near", address, str(clip)))
        session = near.told()["session"]
        far = scripts.enter_context(script(bed.client, "far", address, session))
        stalled = scripts.enter_context(
            script(bed.client, "far", address, session, "--codec", "vp8")
        )
        assert far.told()["connected"]
        assert stalled.told()["connected"]
        near.go()
        began = time.monotonic()
        at = [began + seconds for seconds in (2.0, 5.0, 9.0)]
        sleep_until(at[0])
        bed.shape(loss=0.2, delay_ms=100)
        stalled.process.send_signal(signal.SIGSTOP)
        sleep_until(at[1])
        bed.shape(kbps=NARROW_KBPS, delay_ms=20)
        sleep_until(at[2])
        stalled.process.send_signal(signal.SIGCONT)
        bed.shape()
        watched = near.told()
        seen, late = far.finish(), stalled.finish()
    keep = __import__("os").environ.get("KEEP")
    if keep:
        Path(keep).write_text(
            json.dumps({"at": at, "seen": seen, "late": late, "watched": watched})
        )
    assert watched["frames"] == list(range(FRAMES)), "the viewer nearby misses nothing"
    assert watched["rungs"] == [0], "and nothing is made smaller for it"
    lossy, narrow, clean = (pictures(seen, *span) for span in phases(at))
    assert lossy, "a fifth of the packets lost, and yet there is a picture"
    assert any(width == 640 for _, width in narrow), "a narrow network gets the low rung"
    assert any(stats.get("rung") == 1 for _, stats in seen["stats"])
    assert clean, "the picture comes back with the network"
    assert pictures(late, at[2], float("inf")), "who stood still goes on at a keyframe"


def sleep_until(moment: float) -> None:
    """Lets the session play on; the phases of the test are stretches of real time."""
    time.sleep(max(0.0, moment - time.monotonic()))


def phases(at: list[float]) -> list[tuple[float, float]]:
    """Returns the stretches: lossy, narrow, clean; each without what is still on its way."""
    return [(at[0] + 1.0, at[1]), (at[1] + 1.0, at[2]), (at[2] + 1.0, float("inf"))]


def pictures(seen: dict[str, Any], begin: float, end: float) -> list[tuple[float, int]]:
    """Returns the pictures of a stretch: when, and how wide."""
    return [(when, width) for when, width in seen["pictures"] if begin <= when < end]
