"""When in a second which session has its turn on a compute thread.

Sessions take a window each once in a *period*. The *phase* of a session is when, modulo
the period, its windows are ready to run. Two whose phases are closer than one window takes
collide in every period, and one waits for the other for as long as both run. The phase of
a live session is that of its first window, so delaying that one spreads them.
"""

from __future__ import annotations

from collections.abc import Sequence

_ALIKE_S = 1e-4
"""Waits that differ by less count as equal."""


def phase_delay(phases: Sequence[float], own: float, cost_s: float, period_s: float) -> float:
    """Returns by how long a session's first window is to be delayed.

    Of all delays up to the time of one window, it is the one after which the session that
    waits longest in a period waits least; of several, the shortest. Nothing helps where there
    are more windows than fit into a period.

    Args:
        phases: When the windows of those that run are ready: moments, modulo the period.
        own: When the first window could begin.
        cost_s: Time that a window takes.
        period_s: Seconds between the windows of a session.

    Returns:
        Seconds from 0 to `cost_s`.
    """
    if not phases or (len(phases) + 1) * cost_s > period_s:
        return 0.0
    others = sorted(phase % period_s for phase in phases)
    best, least = 0.0, worst_wait([*others, own], cost_s, period_s)
    for delay in _worth_trying(others, own, cost_s, period_s):
        if least <= _ALIKE_S:
            break
        wait = worst_wait([*others, own + delay], cost_s, period_s)
        if wait < least - _ALIKE_S:
            best, least = delay, wait
    return best


def worst_wait(phases: Sequence[float], cost_s: float, period_s: float) -> float:
    """Returns how long the session waits that waits longest, once turns repeat.

    Windows run in the order in which they are ready. Where they need more time than a
    period has, waits grow for ever: then it is the longest of the second period.

    Args:
        phases: When the windows are ready: moments, modulo the period.
        cost_s: Time that a window takes.
        period_s: Seconds between the windows of a session.
    """
    return max((begin - ready for ready, begin in _turns(phases, cost_s, period_s)), default=0.0)


def staggered(count: int, period_s: float) -> tuple[float, ...]:
    """Returns the phases of sessions that are spread evenly."""
    return tuple(number * period_s / count for number in range(count))


def _turns(phases: Sequence[float], cost_s: float, period_s: float) -> list[tuple[float, float]]:
    """Returns when each window of a period is ready and when it begins.

    The second of two periods, the first of which begins with a thread that is free: after
    it, turns repeat (it carries over all that one period can leave to the next).
    """
    order = sorted(phase % period_s for phase in phases)
    free_at = -period_s
    turns: list[tuple[float, float]] = []
    for lap in (-period_s, 0.0):
        turns = []
        for phase in order:
            begin = max(free_at, phase + lap)
            free_at = begin + cost_s
            turns.append((phase + lap, begin))
    return turns


def _worth_trying(
    others: Sequence[float], own: float, cost_s: float, period_s: float
) -> list[float]:
    """Returns the delays among which the best one is, shortest first.

    As long as those before it are not done, a window that is ready later waits less, and the
    next one no longer for it. From then on it only runs into the next one. So the best moment
    is the end of some window, or the end of the range.
    """
    ends = [begin + cost_s for _, begin in _turns(others, cost_s, period_s)]
    delays = {(end - own) % period_s for end in ends}
    return [*sorted(delay for delay in delays if delay < cost_s), cost_s]
