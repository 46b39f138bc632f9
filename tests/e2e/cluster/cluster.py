"""A service over several hosts: a head with a gateway, and hosts with an actor each."""

from __future__ import annotations

import contextlib
import datetime as dt
import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sana_gateway import Client, Session
from scheduler.process.certificates import make
from tests.e2e.cluster.hosts import Host, hosts
from tests.e2e.driving import Screen, Told, stage
from tests.stack import Stack, role

FRAMES = 33 + 12 * 24
"""Of the clip: fourteen seconds."""
PATIENCE_S = 90.0
RAY_PORT = 6379
PLACEMENT_PORT = 50061


@dataclass
class Cluster:
    """The service."""

    hosts: list[Host]
    gateway: Stack
    actors: dict[str, Stack]
    """By the address of their host."""

    @property
    def address(self) -> str:
        """Where clients reach the gateway."""
        return self.gateway.grpc_address


def identity(folder: Path) -> dict[str, str]:
    """Returns what all roles of a service are told: the token of its Ray cluster, and where the
    certificates lie with which they speak to each other.
    """
    make(folder / "tls", days=1, now=dt.datetime.now(dt.UTC))
    return {"RAY_AUTH_TOKEN": secrets.token_hex(32), "SANA_GATEWAY_TLS": str(folder / "tls")}


def head_on(
    host: Host, env: Mapping[str, str], storage: Path
) -> contextlib.AbstractContextManager[Stack]:
    """Starts the head on a host; always in the same way."""
    return role(
        *("serve", "head", "--actors", "0", "--ray-port", str(RAY_PORT)),
        *("--placement-host", host.address, "--placement-port", str(PLACEMENT_PORT)),
        *("--node-ip", host.address, "--storage-root", str(storage)),
        *("--model", "simulated", "--model-option", "chunk_ms=100"),
        env=env,
        prefix=host.prefix,
    )


@contextlib.contextmanager
def running_cluster(storage: Path) -> Iterator[Cluster]:
    """Runs the service on three hosts; ends what has not ended.

    Raises:
        RuntimeError: A role did not start, or did not end cleanly.
    """
    env = identity(storage.parent)
    with (
        hosts(3) as made,
        head_on(made[0], env, storage) as head,
        cluster_of(head, made, env, storage) as cluster,
    ):
        yield cluster


@contextlib.contextmanager
def cluster_of(
    head: Stack, made: list[Host], env: Mapping[str, str], storage: Path
) -> Iterator[Cluster]:
    """Runs all the rest of the service.

    Args:
        head: Runs on the first host.
        made: The hosts.
        env: What all roles are told.
        storage: Folder of uploads.
    """
    first, *others = made
    with contextlib.ExitStack() as running, ThreadPoolExecutor() as threads:
        gateway = role(
            *("serve", "gateway", "--placement-address", head.told["placement"]),
            *("--host", first.address, "--http-port", "0", "--grpc-port", "0"),
            *("--storage-root", str(storage)),
            env=env,
            prefix=first.prefix,
        )
        join = ("serve", "actor", "--join", head.told["ray"])
        actors = [
            role(
                *(*join, "--node-ip", host.address),
                env=env,
                prefix=host.prefix,
            )
            for host in others
        ]
        # A gateway serves when there is an actor.
        front, *started = threads.map(running.enter_context, [gateway, *actors])
        by_host = dict(zip([host.address for host in others], started, strict=True))
        yield Cluster(made, front, by_host)
        for _ in threads.map(Stack.stop, (front, *started)):
            """Raises what ending one of them raised."""


async def staged(client: Client, clip: Path) -> tuple[Session, Told]:
    """Returns a new session with a clip and a prompt, and what it says."""
    session = await client.create_session("simulated", timeout=PATIENCE_S)
    told = Told(session)
    await stage(session, clip)
    return session, told


async def seen_to_the_end(screen: Screen, told: Told) -> list[int]:
    """Returns the numbers of all frames, once the clip is over."""
    await told.until_told("generation_complete")
    await screen.until(lambda: FRAMES - 1 in screen.numbers())
    return screen.numbers()
