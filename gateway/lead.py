"""How long before its first frame is due a chunk has to be announced: the start buffer.

Pure. The lead has two parts, each learned from what is observed:

* the *transit*, from the announcement of a chunk whose frames are wanted at once to the
  arrival of its first packet: one encode and the way here. It errs on the short side, for
  a packet that comes after its deadline leaves at once and costs nobody but itself, while
  every millisecond too much delays every start;
* the *margin*, for models whose chunks come at uneven times. It is nothing until a chunk
  came too late to be bridged, grows by a share of every such lateness, and is given back
  in small steps after many chunks in a row were all there with time to spare.

The lateness itself also moves the clock, and would keep every later frame so much longer:
it is given back in the same way, so that one hiccup does not cost a live session its delay
for good.

Together they are bounded, so that no viewer is ever further behind than `MAX_LEAD_S` on
their account. A lateness beyond that bound is an outage or a model that is too slow:
neither is cured by waiting, so the margin does not follow it.
"""

from __future__ import annotations

MAX_LEAD_S = 0.12
"""Transit and margin together never exceed this."""
FIRST_TRANSIT_S = 0.008
"""The transit before one was observed: a frame of H.264, on a machine that has time."""
TRANSITS_S = (0.002, 0.028)
"""Bounds of the transit: past the upper one the first frame of a chunk comes late. Between it and
the first transit lies less than the clock tolerates at 24 fps: learning alone is no underrun."""
TRANSIT_GAINS = (0.3, 0.1)
"""Weight of an observation of the transit that is shorter, or longer, than what was learned:
it follows about the shortest quarter of them."""
MARGIN_GAIN = 0.25
"""Share of a lateness by which the margin grows."""
CALM_CHUNKS = 16
"""Chunks in a row that must have time to spare before some margin is given back."""
SPARE_S = 0.010
"""Time to spare that is never given back; with the tolerance of the clock for a chunk a
little late, this keeps giving back apart from growing."""
GIVE_BACK_S = 0.005
"""Most that is given back at once."""


class Lead:
    """The lead of one play-out clock."""

    def __init__(self) -> None:
        """Begins with a typical transit and no margin."""
        self.transit_s = FIRST_TRANSIT_S
        self.margin_s = 0.0
        self.behind_s = 0.0
        """How far latenesses have put the clock back, beside the margin; only those that waiting
        could have bridged, as for the margin."""
        self._calm = 0
        self._least_slack_s = float("inf")

    @property
    def total_s(self) -> float:
        """Transit and margin."""
        return self.transit_s + self.margin_s

    def arrived(self, after_s: float) -> None:
        """The first packet of a chunk came so long after the chunk was announced."""
        low, high = TRANSITS_S
        observed = min(max(after_s, low), high)
        gain = TRANSIT_GAINS[observed > self.transit_s]
        self.transit_s += gain * (observed - self.transit_s)
        self.margin_s = min(self.margin_s, MAX_LEAD_S - self.transit_s)

    def anchored(self) -> None:
        """The clock was set anew, with a run or after a hold: nothing puts it back any more."""
        self.behind_s = 0.0

    def late(self, by_s: float) -> None:
        """A chunk could be there only so long after it was due."""
        self._begin_anew()
        if by_s <= MAX_LEAD_S:
            room = MAX_LEAD_S - self.transit_s
            self.margin_s = min(room, self.margin_s + MARGIN_GAIN * by_s)
            self.behind_s = min(MAX_LEAD_S, self.behind_s + by_s)

    def in_time(self, slack_s: float) -> float:
        """A chunk can be there so long before it is due (less than 0: a little after).

        Returns:
            By how much the clock may be put forward: what proved needless, first of what
            latenesses put it back, then of the margin.
        """
        self._calm += 1
        self._least_slack_s = min(self._least_slack_s, slack_s)
        if self._calm < CALM_CHUNKS:
            return 0.0
        most = min(GIVE_BACK_S, self.behind_s + self.margin_s)
        spare = min(self._least_slack_s - SPARE_S, most)
        self._begin_anew()
        if spare <= 0:
            return 0.0
        of_behind = min(spare, self.behind_s)
        self.behind_s -= of_behind
        self.margin_s -= spare - of_behind
        return spare

    def _begin_anew(self) -> None:
        self._calm = 0
        self._least_slack_s = float("inf")
