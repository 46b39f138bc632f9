"""A pool behind gateways of its own, which can be killed and come back where they were."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sdk_adapters.harness.ports import free_port
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
        gateways = [Gateway(head, storage, free_port()) for _ in range(count)]
        with ThreadPoolExecutor() as threads:
            for gateway in gateways:
                running.callback(gateway.stop)
            for _ in threads.map(Gateway.start, gateways):
                """Raises what starting one of them raised."""
            yield head, gateways
            for _ in threads.map(Gateway.stop, gateways):
                """Raises what ending one of them raised."""
