"""What a window is made with: a prompt, or a mixture on the way from one prompt to the next.

A client may have a prompt reached in a *transition* of n windows. It goes in even steps from
what the last window was made with to the new prompt: of the k-th window, k / (n + 1) is the new
prompt, and the window after them is all of it. A transition that is begun while another is under
way begins at the mixture of that moment, so the picture never jumps; n = 0 ends it at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from scheduler.core.commands import MAX_TRANSITION_CHUNKS

MOST_EARLIER = 3
"""Prompts in a mixture beside the newest. Where transitions are begun within transitions, the
prompt with the least share gives way, and what is left is scaled to the whole."""


@dataclass(frozen=True, slots=True)
class Share:
    """A prompt in a mixture."""

    prompt: str
    share: float
    """Above 0 and below 1."""


@dataclass(frozen=True, slots=True)
class Blend:
    """What a window is made with."""

    prompt: str
    """The prompt that it shows, or is on the way to; what `earlier` leaves of 1 is its share."""
    earlier: tuple[Share, ...] = ()
    """What is still seen of prompts before it, oldest first."""

    @property
    def shares(self) -> tuple[Share, ...]:
        """All prompts, this one last."""
        rest = 1.0 - sum(each.share for each in self.earlier)
        return (*self.earlier, Share(self.prompt, rest))

    def towards(self, prompt: str, share: float) -> Blend:
        """Returns the mixture of this one and so much of a prompt."""
        earlier: dict[str, float] = {}
        for each in self.shares:
            if each.prompt != prompt:
                earlier[each.prompt] = earlier.get(each.prompt, 0.0) + each.share * (1 - share)
        least_first = sorted(earlier, key=lambda name: earlier[name])
        whole = sum(earlier.values())
        for name in least_first[: max(0, len(earlier) - MOST_EARLIER)]:
            del earlier[name]
        scale = whole / sum(earlier.values()) if earlier else 1.0
        return Blend(prompt, tuple(Share(name, part * scale) for name, part in earlier.items()))


@dataclass(frozen=True, slots=True)
class Course:
    """Where a run's prompt stands between two windows."""

    blend: Blend | None = None
    """What the last window was made with; None before the first."""
    origin: Blend | None = None
    """Where the transition under way began; None while there is none."""
    windows: int = 0
    """Windows that it has."""
    made: int = 0
    """Those that were made."""

    def aim(self, windows: int) -> Course:
        """Returns the course once a prompt was set that is to be reached in so many windows."""
        if self.blend is None or not windows:
            return Course(self.blend)
        return Course(self.blend, self.blend, min(windows, MAX_TRANSITION_CHUNKS))

    def next(self, prompt: str) -> Blend:
        """Returns what the next window is made with, on the way to a prompt."""
        if self.origin is None:
            return Blend(prompt)
        return self.origin.towards(prompt, (self.made + 1) / (self.windows + 1))

    def after(self, blend: Blend) -> Course:
        """Returns the course after a window."""
        if self.origin is None or self.made + 1 >= self.windows:
            return Course(blend)
        return replace(self, blend=blend, made=self.made + 1)
