"""A page that is a client of the service: what tests ask it to do, and what it saw."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.e2e.browser.chromium import Page


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture that the decoder put out."""

    at: float
    """When, in milliseconds."""
    timestamp: float
    """When the browser means it to be shown, in microseconds."""
    width: int
    height: int
    frame: int
    """Number in its marker; -1 where there is none."""
    run: int
    ground: float
    """Luma of its ground."""


class Viewer:
    """A client in a page."""

    def __init__(self, page: Page, base: str) -> None:
        """Makes a client that is not connected yet."""
        self.page = page
        page.run(f"makeClient({json.dumps(base)})")

    def __call__(self, method: str, *arguments: Any, wait_s: float = 60.0) -> Any:
        """Calls a method of the client in the page."""
        return self.begin(method, *arguments).result(wait_s)

    def begin(self, method: str, *arguments: Any) -> Future[Any]:
        """Calls a method of the client in the page without waiting."""
        return self.page.begin(f"client.{method}(...{json.dumps(arguments)})")

    def connect(self, **options: Any) -> str:
        """Creates a session, or joins `session`; returns its id."""
        return str(self("connect", options)["session"])

    def command(self, kind: str, **data: Any) -> int:
        """Sends a command; returns how many messages had come before."""
        return int(self("command", kind, data))

    def told(self, kind: str, since: int = 0, **values: Any) -> dict[str, Any]:
        """Waits for a message of a kind with these values; returns its data."""
        data: dict[str, Any] = self("told", kind, values, since)["data"]
        return data

    @property
    def kinds(self) -> list[str]:
        """The messages so far."""
        return list(self.page.run("client.messages.map(({ type }) => type)"))

    def frames(self, run: int | None = None) -> list[Frame]:
        """Returns what the decoder put out so far, of one run or of all."""
        frames = [Frame(**each) for each in self.page.run("client.frames")]
        return [each for each in frames if run in (None, each.run)]

    def numbers(self, run: int | None = None) -> list[int]:
        """Returns the numbers of the pictures, pictures that were held counted once."""
        frames = [each for each in self.frames(run) if each.frame >= 0]
        kept = [
            after
            for before, after in pairwise([None, *frames])
            if after is not None
            and (before is None or (before.run, before.frame) != (after.run, after.frame))
        ]
        return [each.frame for each in kept]

    def rtp_steps(self) -> list[int]:
        """Returns by how much the RTP timestamp grew from frame to frame, modulo 2^32."""
        stamps = self.page.run("client.encoded.map(({ rtpTimestamp }) => rtpTimestamp)")
        return [(after - before) % (1 << 32) for before, after in pairwise(stamps)]

    def stats(self, track: str = "main_video") -> dict[str, dict[str, Any]]:
        """Returns the browser's reports about a track, by type."""
        reports: dict[str, dict[str, Any]] = self("stats", track)
        return reports

    def inbound(self) -> dict[str, Any]:
        """Returns the report about what it receives."""
        return self.stats()["inbound-rtp"]


def spread_ms(report: dict[str, Any]) -> float:
    """Returns the standard deviation of the times between decoded frames.

    From the sums of these times and of their squares that the report holds (W3C, Identifiers
    for WebRTC's statistics, `totalSquaredInterFrameDelay`).
    """
    count = max(1, report["framesDecoded"] - 1)
    mean = report["totalInterFrameDelay"] / count
    return 1e3 * max(0.0, report["totalSquaredInterFrameDelay"] / count - mean**2) ** 0.5


def gaps_ms(frames: Sequence[Frame]) -> list[float]:
    """Returns the times between pictures."""
    return [after.at - before.at for before, after in pairwise(frames)]


def summary(viewer: Viewer, frames: Sequence[Frame]) -> str:
    """Returns the figures of a viewer, for the record of a test."""
    report, gaps = viewer.inbound(), gaps_ms(frames)
    return (
        f"decoded {report['framesDecoded']}, dropped {report['framesDropped']}, "
        f"freezes {report['freezeCount']}, keyframes {report['keyFramesDecoded']}, "
        f"PLI {report['pliCount']}, NACK {report['nackCount']}, lost {report['packetsLost']}, "
        f"between frames {statistics.fmean(gaps):.1f} ms ± {spread_ms(report):.1f}, "
        f"longest {max(gaps):.0f} ms"
    )
