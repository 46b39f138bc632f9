"""Whether a gateway has started, lives, and is ready: three questions, asked apart.

*Startup* is over once its servers listen. It *lives* as long as it answers at all. It is *ready*
while there is a model to ask for, which is from the moment on that some model actor has computed a
warm-up window, and no more from the moment on that it is told to stop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


class Readiness:
    """How a process of a gateway is.

    Args:
        served: Returns the models that clients may ask for.
        started: Whether its servers listen already.
    """

    def __init__(self, served: Callable[[], Sequence[str]], *, started: bool = False) -> None:
        self._served = served
        self.started = started
        """Whether its servers listen."""
        self.draining = False
        """Whether it was told to stop."""

    @property
    def why_not_started(self) -> str:
        """Why its start is not over, for people; empty when it is."""
        return "" if self.started else "the servers do not listen yet"

    @property
    def why_not_ready(self) -> str:
        """Why clients should go elsewhere, for people; empty when they should not."""
        if self.draining:
            return "this gateway is being drained"
        if not self.started:
            return self.why_not_started
        return "" if self._served() else "no model is served yet"
