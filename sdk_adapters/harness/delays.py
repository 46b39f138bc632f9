"""How long a picture took: from camera to screen, and from a prompt to what it changed.

Pure, fed with frames, commands, the service's `ViewerStats` and times. The service
measures its own share of each; the rest is the client's to add:

* glass to glass: where publisher and viewer read the same clock, the time at which a
  frame was shown less its `source_us`. The service's share is `source_to_emit_us`.
* prompt to pixels: the time at which the first frame of the chunk that answers a command
  (`command_to_emit_us` is not 0) was shown, less the time at which the command was sent.
  The service's share counts from the command's arrival at the session.

What is left of each is the client's own part: the way there and back, its jitter buffer
and its decoder.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from sana_gateway import ViewerStats
from sdk_adapters.harness.ledger import percentiles

FRAMES: Final = 256
"""Frames whose showing is remembered until the stats of their chunk come."""
SAMPLES: Final = 100_000
"""Values kept of each kind: over an hour of frames; the oldest go first."""


@dataclass(frozen=True, slots=True)
class DelayReport:
    """Percentiles in milliseconds; empty where nothing was measured."""

    glass_to_glass_ms: dict[str, float]
    """From capture to showing, frame by frame."""
    source_to_emit_ms: dict[str, float]
    """The service's share of it, chunk by chunk."""
    prompt_to_pixels_ms: dict[str, float]
    """From sending a command to showing what it changed."""
    command_to_emit_ms: dict[str, float]
    """The service's share of it."""
    late_ms: dict[str, float]
    """How late the first frame of a chunk was handed out."""
    chunks: int
    """Chunks whose stats came."""
    underruns: int
    """Times the play-out clock had to wait for a chunk, over all runs."""
    frames_dropped: int
    """Frames that the service did not send because the viewer fell behind."""


def glass_to_glass_s(source_us: int, shown_s: float) -> float:
    """Returns the seconds from capture to showing of a frame.

    Args:
        source_us: Its source time: microseconds of the clock that the publisher stamps with.
        shown_s: When it was shown: seconds of the same clock.
    """
    return shown_s - source_us / 1e6


def client_share_s(whole_s: float, server_us: int) -> float:
    """Returns what of a delay is not the service's: networks, jitter buffer, decoder."""
    return whole_s - server_us / 1e6


class Delays:
    """Takes what a viewer sees, in any order, and reports."""

    def __init__(self, *, shared_clock: bool = False) -> None:
        """Prepares.

        Args:
            shared_clock: Whether source times are of the clock that `shown_s` is read from.
        """
        self._shared_clock = shared_clock
        self._shown: dict[tuple[int, int], float] = {}
        self._early: dict[tuple[int, int], ViewerStats] = {}
        self._sent: deque[float] = deque(maxlen=FRAMES)
        self._glass: deque[float] = deque(maxlen=SAMPLES)
        self._source: deque[float] = deque(maxlen=SAMPLES)
        self._prompt: deque[float] = deque(maxlen=SAMPLES)
        self._command: deque[float] = deque(maxlen=SAMPLES)
        self._late: deque[float] = deque(maxlen=SAMPLES)
        self._chunks = 0
        self._underruns: dict[int, int] = {}
        self._dropped = 0

    def command(self, sent_s: float) -> None:
        """Notes that a command was sent whose effect will be seen: a prompt, start, resume."""
        self._sent.append(sent_s)

    def frame(self, run: int, frame: int, source_us: int | None, shown_s: float) -> None:
        """Notes that a frame was shown, not a held one again.

        Args:
            run: Its run.
            frame: Its index in the run.
            source_us: Its source time; None where it does not come with the frame.
            shown_s: When.
        """
        if self._shared_clock and source_us is not None:
            self._glass.append(glass_to_glass_s(source_us, shown_s))
        stats = self._early.pop((run, frame), None)
        if stats is not None:
            self._answered(stats, shown_s)
            return
        self._shown.setdefault((run, frame), shown_s)
        if len(self._shown) > FRAMES:
            del self._shown[next(iter(self._shown))]

    def stats(self, stats: ViewerStats) -> None:
        """Takes what the service says of a chunk, before or after its first frame is shown."""
        self._chunks += 1
        self._late.append(stats.late_us / 1e6)
        self._underruns[stats.run] = stats.underruns
        self._dropped = stats.frames_dropped
        if stats.source_to_emit_us:
            self._source.append(stats.source_to_emit_us / 1e6)
        if not stats.command_to_emit_us:
            return
        self._command.append(stats.command_to_emit_us / 1e6)
        shown_s = self._shown.get((stats.run, stats.frame))
        if shown_s is not None:
            self._answered(stats, shown_s)
            return
        self._early[stats.run, stats.frame] = stats
        if len(self._early) > FRAMES:
            del self._early[next(iter(self._early))]

    def report(self) -> DelayReport:
        """Returns what was measured so far."""
        return DelayReport(
            glass_to_glass_ms=percentiles(list(self._glass)),
            source_to_emit_ms=percentiles(list(self._source)),
            prompt_to_pixels_ms=percentiles(list(self._prompt)),
            command_to_emit_ms=percentiles(list(self._command)),
            late_ms=percentiles(list(self._late)),
            chunks=self._chunks,
            underruns=sum(self._underruns.values()),
            frames_dropped=self._dropped,
        )

    def _answered(self, stats: ViewerStats, shown_s: float) -> None:
        """A chunk answers the newest command that was sent at least the service's share ago."""
        latest_s = shown_s - stats.command_to_emit_us / 1e6
        answered = [sent_s for sent_s in self._sent if sent_s <= latest_s]
        if answered:
            self._prompt.append(shown_s - answered[-1])
            self._sent = deque((each for each in self._sent if each > latest_s), maxlen=FRAMES)
