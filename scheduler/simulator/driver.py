"""Puts the scheduler's core on virtual time: events in, conclusions out, deadlines kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from scheduler.core import pool_events as ev
from scheduler.core.pool import Pool
from scheduler.simulator.timeline import Timeline

Handler = Callable[[Any], None]


class Driver:
    """Stands where the scheduler's process stands: between the pool and the rest.

    Args:
        pool: The real one.
        timeline: Virtual time.
    """

    def __init__(self, pool: Pool, timeline: Timeline) -> None:
        self.pool = pool
        self.events = 0
        """Events that the pool was told."""
        self._timeline = timeline
        self._handlers: Mapping[type[Any], Handler] = {}
        self._deciding = False
        self._again = False
        self._armed = float("inf")

    def listen(self, handlers: Mapping[type[Any], Handler]) -> None:
        """Names who carries out which kind of effect; the other kinds are for people."""
        self._handlers = handlers

    def tell(self, *events: ev.Event) -> None:
        """Tells the pool what happened, and carries out what it decides.

        Raises:
            RequestError: What `Pool.apply` refuses; the events after it are not told.
        """
        now = self._timeline.now
        try:
            for event in events:
                self.events += 1
                self.pool.apply(event, now)
        finally:
            self._settle()

    def _settle(self) -> None:
        if self._deciding:
            self._again = True
            return
        self._deciding = self._again = True
        now = self._timeline.now
        while self._again:
            self._again = False
            for effect in self.pool.decide(now):
                handler = self._handlers.get(type(effect))
                if handler is not None:
                    handler(effect)
        self._deciding = False
        self._arm()

    def _arm(self) -> None:
        """Sees to it that the pool is asked again at its next deadline."""
        deadline = self.pool.next_deadline()
        if deadline is not None and deadline < self._armed:
            self._armed = deadline
            self._timeline.at(deadline, self._wake, deadline)

    def _wake(self, deadline: float) -> None:
        if deadline != self._armed:
            return
        self._armed = float("inf")
        due = self.pool.next_deadline()
        # What was to be met then may be settled by now.
        if due is not None and due <= deadline:
            self._settle()
        else:
            self._arm()
