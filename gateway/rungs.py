"""Which rung of an output each viewer is given, and what rate each rung is made at.

Pure. An output has two rungs: `MAIN`, whose rate is what all carry whose networks are
comparable to the best viewer's, and `LOW`, made only while somebody needs it. A rate that a
viewer on `MAIN` cannot carry would have it skip to a keyframe time and again, and each of
those goes to everybody. A viewer goes down when its network
has carried too little for `MAIN` for a while, the sooner the less it carries, and up again
when it has carried enough for longer. What a network is seen to carry is bounded by what is
sent over it (a receiver reports at most about 1.5 times what it gets), so on `LOW` an
estimate clearly above its highest rate counts as enough; if `MAIN` turns out to be too much
after all, the next try comes later and later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

MAIN: Final = 0
"""Rung of the best viewers."""
LOW: Final = 1
"""Rung of those whose networks carry much less."""

BITRATES: Final = ((1_500_000, 4_000_000), (200_000, 1_200_000))
"""Least and most bits per second of each rung. The least of `MAIN`: one slow viewer is not
to spoil the picture of the others."""
NOMINAL_BITRATE: Final = 2_500_000
"""What a viewer's network is taken to carry until it has been estimated."""

POOR_SHARE: Final = 0.6
"""Below this share of what the best viewer carries a viewer does not bound the rate of `MAIN`.
Where that rate, too, is so much above what it carries it is to go down, ..."""
POOR_FOR_S: Final = 3.0
"""... once it has been there for this long."""
TIGHT_FOR_S: Final = 1.5
"""Below the least rate of `MAIN`, which goes no lower for it, it goes down after this long."""
HOPELESS_SHARE: Final = 0.4
"""Below this share of the rate of `MAIN`, or `POOR_SHARE` of its least rate, ..."""
HOPELESS_FOR_S: Final = 0.7
"""... it goes down after this long."""
GOOD_SHARE: Final = 0.8
"""From this share of the rate of `MAIN`, and clearly more than its least rate, a viewer is
to go up again, ..."""
GOOD_FOR_S: Final = 5.0
"""... once it has been there for this long."""
LEAST_GOOD_BITRATE: Final = round(1.1 * BITRATES[MAIN][0])
"""No estimate below this is enough for `MAIN`."""
GOOD_BITRATE: Final = round(1.4 * BITRATES[LOW][1])
"""An estimate of a viewer on `LOW` that is enough to try `MAIN`, whatever its rate."""
TRIAL_S: Final = 30.0
"""A viewer that must go down again within this time of going up waits twice as long before
it tries anew."""
LONGEST_WAIT_S: Final = 80.0
"""Most that a viewer has to show a good network before it goes up."""

_NEVER: Final = float("inf")

Viewer = TypeVar("Viewer")
"""Whatever tells viewers apart."""


@dataclass(slots=True)
class _Network:
    """What is known of a viewer."""

    estimate: int = 0
    """Bits per second; 0: not known."""
    rung: int = MAIN
    unfit_since: dict[float, float] = field(default_factory=dict)
    """Since when each reason to change has held, by the time for which it must."""
    went_up_at: float = float("-inf")
    wait_s: float = GOOD_FOR_S


class Rungs(Generic[Viewer]):
    """The viewers of one output. `now` is in seconds on any monotonic clock."""

    def __init__(self) -> None:
        """Begins without viewers."""
        self.review_at = _NEVER
        """When `review` has something to decide, if nothing is estimated before."""
        self._networks: dict[Viewer, _Network] = {}

    def join(self, viewer: Viewer) -> None:
        """A viewer has come; it begins on `MAIN`."""
        self._networks[viewer] = _Network()

    def leave(self, viewer: Viewer) -> None:
        """A viewer has gone."""
        self._networks.pop(viewer, None)

    def bitrate(self, rung: int) -> int:
        """Returns the rate of a rung in bits per second; 0 while nothing is known.

        `MAIN` follows the least of its own viewers that carry at least `POOR_SHARE` of what
        the best of all does, `LOW` the best of its own.
        """
        known = [each for each in self._networks.values() if each.estimate]
        own = [each.estimate for each in known if each.rung == rung]
        if not (known if rung == MAIN else own):
            return 0
        least, most = BITRATES[rung]
        if rung == LOW:
            return min(most, max(least, *own))
        best = max(each.estimate for each in known)
        if len(known) < len(self._networks):
            best = max(best, NOMINAL_BITRATE)
        carried = (estimate for estimate in own if estimate >= POOR_SHARE * best)
        return min(most, max(least, min(carried, default=best)))

    def estimate(self, viewer: Viewer, bits_per_second: int, now: float) -> dict[Viewer, int]:
        """Takes in what a viewer's network carries; returns what `review` returns."""
        network = self._networks.get(viewer)
        if network is None:
            return {}
        network.estimate = bits_per_second
        return self.review(now)

    def review(self, now: float) -> dict[Viewer, int]:
        """Decides what is due.

        Returns:
            The viewers that are to change, each with its new rung.
        """
        main = self.bitrate(MAIN)
        self.review_at = _NEVER
        changed: dict[Viewer, int] = {}
        for viewer, network in self._networks.items():
            decide_at = _decide_at(network, main, now)
            if decide_at <= now:
                _change(network, now)
                changed[viewer] = network.rung
            else:
                self.review_at = min(self.review_at, decide_at)
        return changed


def _decide_at(network: _Network, main: int, now: float) -> float:
    """Notes since when a viewer is unfit for its rung; returns when it is to change."""
    network.unfit_since = {
        after_s: network.unfit_since.get(after_s, now)
        for after_s, unfit in _unfit(network, main)
        if unfit
    }
    return min((since + after_s for after_s, since in network.unfit_since.items()), default=_NEVER)


def _unfit(network: _Network, main: int) -> list[tuple[float, bool]]:
    """Returns the reasons to change, each with the time for which it must hold."""
    estimate, least = network.estimate, BITRATES[MAIN][0]
    if not estimate:
        return []
    if network.rung == LOW:
        enough = min(max(GOOD_SHARE * main, LEAST_GOOD_BITRATE), GOOD_BITRATE)
        return [(network.wait_s, estimate >= enough)]
    return [
        (POOR_FOR_S, estimate < POOR_SHARE * main),
        (TIGHT_FOR_S, estimate < least),
        (HOPELESS_FOR_S, estimate < max(HOPELESS_SHARE * main, POOR_SHARE * least)),
    ]


def _change(network: _Network, now: float) -> None:
    network.unfit_since = {}
    if network.rung == LOW:
        network.rung = MAIN
        network.went_up_at = now
        return
    network.rung = LOW
    failed = now - network.went_up_at < TRIAL_S
    network.wait_s = min(2 * network.wait_s, LONGEST_WAIT_S) if failed else GOOD_FOR_S
