"""Head, actor and gateways as processes of their own, joined by address, token and TLS."""

from __future__ import annotations

import contextlib
import datetime as dt
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from scheduler.process.certificates import make
from sdk_adapters.harness.ports import free_port
from tests.stack import Stack, role


@dataclass(frozen=True)
class Roles:
    """A pool of one actor, and a gateway before it."""

    head: Stack
    actor: Stack
    gateway: Stack
    python: Path
    """Of an environment without Ray and models, for gateways."""
    storage: Path
    tls: Path
    """Folder of the certificate that all of them have."""

    def another_gateway(self) -> contextlib.AbstractContextManager[Stack]:
        """Starts one more gateway before the same pool."""
        return _gateway(self.python, self.storage, self.tls, self.head)


@contextlib.contextmanager
def running_roles(python: Path, folder: Path) -> Iterator[Roles]:
    """Starts all roles; ends them with SIGTERM, all at the same time.

    Args:
        python: Whose environment to run gateways in.
        folder: Where uploads and certificates go.

    Raises:
        RuntimeError: One of them did not start, or did not end cleanly.
    """
    token = {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    storage, tls = folder / "storage", folder / "tls"
    make(tls, days=1, now=dt.datetime.now(dt.UTC))
    with contextlib.ExitStack() as running, ThreadPoolExecutor() as threads:
        head = running.enter_context(
            role(
                *("serve", "head", "--placement-port", str(free_port()), "--actors", "0"),
                *("--model", "simulated", "--model-option", "chunk_ms=50"),
                *("--storage-root", str(storage), "--tls", str(tls)),
                env=token,
            )
        )
        actor, gateway = threads.map(
            running.enter_context,
            (
                role(*("serve", "actor", "--join", head.told["ray"], "--tls", str(tls)), env=token),
                _gateway(python, storage, tls, head),
            ),
        )
        yield Roles(head, actor, gateway, python, storage, tls)
        for _ in threads.map(Stack.stop, (gateway, actor, head)):
            """Raises what ending one of them raised."""


def _gateway(
    python: Path, storage: Path, tls: Path, head: Stack
) -> contextlib.AbstractContextManager[Stack]:
    return role(
        *("serve", "gateway", "--placement-address", head.told["placement"], "--tls", str(tls)),
        *("--http-port", "0", "--grpc-port", "0", "--storage-root", str(storage)),
        python=python,
    )
