"""A pool behind gateways of its own, which can be killed and come back where they were."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.stack import Stack, role


@dataclass
class Gateway:
    """A gateway that always listens at the same address."""

    head: Stack
    storage: Path
    grpc_port: int
    _running: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _stack: Stack | None = None

    @property
    def address(self) -> str:
        """Where its gRPC listens."""
        return f"127.0.0.1:{self.grpc_port}"

    def start(self) -> None:
        """Starts it.

        Raises:
            RuntimeError: It did not start.
        """
        self._stack = self._running.enter_context(
            role(
                *("serve", "gateway", "--placement-address", self.head.told["placement"]),
                *("--http-port", "0", "--grpc-port", str(self.grpc_port)),
                *("--storage-root", str(self.storage)),
            )
        )

    def kill(self) -> None:
        """Ends it as `kill -9` does."""
        assert self._stack is not None
        self._stack.kill()
        # Its context complains that it did not end in order.
        with contextlib.suppress(RuntimeError):
            self._running.close()

    def stop(self) -> None:
        """Ends it in order."""
        self._running.close()

    async def revive(self) -> None:
        """Kills it and starts another one at its address."""
        await asyncio.to_thread(self.kill)
        await asyncio.to_thread(self.start)


@contextlib.contextmanager
def behind_gateways(options: Sequence[str], count: int) -> Iterator[tuple[Stack, list[Gateway]]]:
    """Starts a head with actors, and gateways before it; ends them.

    Args:
        options: Of the head: models, actors.
        count: How many gateways.
    """
    with (
        tempfile.TemporaryDirectory(prefix="sana-test-") as name,
        contextlib.ExitStack() as running,
    ):
        storage = Path(name)
        head = running.enter_context(
            role(
                *("serve", "head", "--placement-port", "0", *options),
                *("--storage-root", str(storage)),
            )
        )
        gateways = [Gateway(head, storage, _free_port()) for _ in range(count)]
        for gateway in gateways:
            gateway.start()
            running.callback(gateway.stop)
        yield head, gateways


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
