"""Ways that media reach a session's user: gRPC, WebRTC, and a browser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sana_gateway import Client, Session
from sdk_adapters.harness.generator.source import Camera
from sdk_adapters.harness.generator.watching import Watching
from sdk_adapters.harness.networks.turn import TurnServer

Told = tuple[int, int]
"""Run of a frame, and its index in the run."""


class Pictures(Protocol):
    """Takes encoded frames, to decode them."""

    def frame(self, data: bytes, at: float, told: Told | None, *, keyframe: bool) -> None:
        """Takes a frame, at once; decodes it elsewhere.

        Args:
            data: The frame.
            at: When it came.
            told: Which frame it is, by what came with it; None: that is not known.
            keyframe: Whether it can be decoded alone.
        """


class Way(Protocol):
    """What lies between a user and the service: WebRTC has to be led through it."""

    async def turn(self) -> TurnServer | None:
        """Returns the TURN server that has to be used; None: the direct way is free."""

    async def offered(self, offer: str) -> str:
        """Returns an offer in which the service finds the user behind its network."""

    async def answered(self, answer: str) -> str:
        """Returns an answer in which the user finds the service behind its network."""


@dataclass(frozen=True, slots=True)
class Seat:
    """One user's place before the screen: what comes goes here."""

    client: Client
    session: Session
    codec: str
    watching: Watching
    camera: Camera | None
    """What to publish; None in file mode."""
    pictures: Pictures | None
    """Decodes; None where nobody looks."""
    clock: Callable[[], float]
    add: Callable[[str, float, float], None]
    """Takes a metric, a value and its moment."""
    way: Way | None = None
    """None: nothing lies between."""
    shared_clock: bool = False
    """Whether somebody else's camera stamps its frames by `clock`."""


class Line(Protocol):
    """A connection over which frames come."""

    async def lost(self) -> None:
        """Waits until it is broken or has ended; what it raises is a fault of ours."""

    async def close(self) -> None:
        """Ends it. Repeating it is no error."""


class Door(Protocol):
    """Makes such connections."""

    async def prepare(self) -> None:
        """Begins what its connections share, before the run; what fails shows in `connect`."""

    async def connect(self, seat: Seat) -> Line:
        """Connects; frames come from now on.

        Raises:
            GatewayError: The gateway refused, or cannot be reached.
            TimeoutError: It did not come about in time.
        """

    async def close(self) -> None:
        """Ends what its connections share, after they have ended."""
