"""Whether a prompt may be set: asked of a plugin before the command goes on to the session.

A moderator is a plugin of the group `sana_gateway.moderation`; without one every prompt goes on
at once. `Moderation` asks it within a time and knows what follows when it does not answer;
`Turnstile` keeps the order of a connection's commands meanwhile. A refused prompt is a
`command_error` of `set_prompt` like any other, on every wire. Prompts are in no log, span or
label, and neither are the reasons, which may repeat them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

NOT_ALLOWED: Final = "the prompt is not allowed here"
"""Reason of a refusal that gives none."""


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt that somebody wants to set."""

    prompt: str = field(repr=False)
    """What it says; at most 64 KiB, not yet held against the model's own limit."""
    tenant: str
    """Whose session it is for."""
    session_id: str
    """The session."""
    model: str
    """The session's model."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a moderator says."""

    allowed: bool
    reason: str = field(default=NOT_ALLOWED, repr=False)
    """Why not, for the client; the first 200 characters of it, on one line."""


ALLOWED: Final = Verdict(allowed=True)


class Moderator(Protocol):
    """Judges prompts. Plugin group `sana_gateway.moderation`: a class that takes its options as
    keyword arguments, all of them text.
    """

    async def check(self, question: Question) -> Verdict:
        """Judges one prompt. Whatever it raises counts as no answer; it is cancelled when the
        time is up, or nobody waits any more.
        """


@runtime_checkable
class Running(Protocol):
    """A moderator that has something to do as long as the gateway runs."""

    async def run(self) -> None:
        """Does it until cancelled."""
