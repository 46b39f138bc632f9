"""Where a model can go back to, and the prompts that it is then to be given again.

Made again from the same state, with the same prompts, windows of a clip are the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from scheduler.core.prompts import Blend
from scheduler.core.snapshot import REMADE_WINDOWS, KeptModel


class Retrace:
    """The kept model states of one run, by the windows finished before them.

    Only as much is remembered as can still be needed: no state before the newest of which
    all windows were shown, no prompt before the oldest state, and `REMADE_WINDOWS` prompts.
    """

    def __init__(self, kept: KeptModel | None, dispatched: int) -> None:
        """Begins with what is kept.

        Args:
            kept: A state, and the prompts since; None: no state is known.
            dispatched: Windows dispatched, where `kept` does not tell it.
        """
        known = KeptModel(dispatched, ()) if kept is None else kept
        self._states = deque(() if kept is None else (kept.windows,))
        self._prompts = deque(known.prompts, maxlen=REMADE_WINDOWS)
        self._end = known.windows + len(known.prompts)
        """Windows whose prompts are known, or were."""

    @property
    def kept(self) -> KeptModel | None:
        """The oldest state; None when none is of use."""
        if not self._states:
            return None
        oldest = self._states[0]
        return KeptModel(oldest, tuple(self._prompts)[oldest - self._begin :])

    @property
    def reach(self) -> range:
        """States, kept or not, from which on all prompts are known."""
        return range(self._states[0], self._end + 1) if self._states else range(0)

    def prompt(self, window: int) -> Blend | None:
        """Returns what a window was made with; None if it is new."""
        return self._prompts[window - self._begin] if self._begin <= window < self._end else None

    def latch(self, window: int, prompt: Blend) -> None:
        """A window is made; one that is made again tells nothing new."""
        if window < self._end:
            return
        self._prompts.append(prompt)
        self._end += 1
        while self._states and self._states[0] < self._begin:
            self._states.popleft()

    def amend(self, prompt: Blend) -> None:
        """The window latched last is made with something else after all."""
        self._prompts[-1] = prompt

    def keep(self, windows: int) -> None:
        """A state is kept now. One that came too late to be of use is ignored."""
        newest = self._states[-1] if self._states else -1
        if windows > newest and windows >= self._begin:
            self._states.append(windows)

    def forget(self, shown: Callable[[int], bool]) -> None:
        """Drops what is not needed any more.

        Args:
            shown: Tells of a state whether all before it was shown.
        """
        while len(self._states) > 1 and shown(self._states[1]):
            self._states.popleft()
        while self._states and self._begin < self._states[0]:
            self._prompts.popleft()

    def since(self, windows: int) -> Retrace:
        """Returns what is left when the model goes back to a state that is reached."""
        prompts = tuple(self._prompts)[windows - self._begin :]
        return Retrace(KeptModel(windows, prompts), windows)

    @property
    def _begin(self) -> int:
        return self._end - len(self._prompts)
