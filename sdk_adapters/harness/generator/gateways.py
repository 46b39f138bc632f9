"""The connections of one process to the gateways of a target."""

from __future__ import annotations

from typing import Final

from sana_gateway import Client, RetryPolicy
from sdk_adapters.harness.generator.target import Target

GIVE_UP_S: Final = 0.5
"""How long a client tries one gateway; after that its session looks for another."""
COMMAND_S: Final = 30.0
"""How long a command may take."""


class Gateways:
    """One connection to each gateway, shared by all sessions of the process.

    Make it inside a running event loop, and `close` it.
    """

    def __init__(self, target: Target) -> None:
        self.clients = [
            target.client(
                number,
                policy=RetryPolicy(window=GIVE_UP_S, longest=0.1),
                command_timeout=COMMAND_S,
            )
            for number in range(len(target.grpc))
        ]
        """In the order of the target's addresses."""

    def client(self, turn: int) -> Client:
        """Returns the client of a turn: they follow one another."""
        return self.clients[turn % len(self.clients)]

    async def close(self) -> None:
        """Closes all."""
        for client in self.clients:
            await client.close()
