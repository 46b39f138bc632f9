"""The Ray backend: a Ray node with the scheduler on it, and the way to end both.

Importing this imports no Ray (`scheduler.backends.ray_actors` does): Ray reads the
cluster's token from the environment when it is imported, so the token must be there
first; and while the node starts there is time for the import.
"""

from __future__ import annotations

import importlib
import os
import secrets
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from scheduler.backends.launcher import DEFAULT_SHELL, ActorSpec
from scheduler.backends.ray_node import NodeSettings, RayNode, RayNodeError
from scheduler.core.errors import ConfigurationError, SanaGatewayError
from scheduler.options import split_address
from scheduler.runtime import SchedulerSettings

_PROBE_S = 0.2
_MODE = "RAY_AUTH_MODE"
_TOKEN = "RAY_AUTH_TOKEN"  # noqa: S105 - a name


class HeadError(SanaGatewayError):
    """The scheduler did not start."""


@dataclass(frozen=True, slots=True)
class HeadSettings:
    """Settings of a head."""

    scheduler: SchedulerSettings
    actors: tuple[ActorSpec, ...]
    """What the actors of each model are told, the default first; none: none are launched."""
    node: NodeSettings = field(default_factory=NodeSettings)
    """The Ray node to start."""
    ray_address: str = ""
    """`host:port` of a head that runs on this host; empty: start `node`."""
    shell: str = DEFAULT_SHELL
    """Dotted path of the model actors' shell."""
    gpus_per_actor: float = 0.0
    otlp_endpoint: str | None = None
    """Collector of the scheduler's traces."""
    trace_ratio: float = 1.0
    """Share of the traces begun there that is recorded."""
    log: Mapping[str, Any] = field(default_factory=dict)
    """Log of the scheduler: `level`, `json`, and `path` of a file to append to."""


class Head:
    """A running head, and the way to end all that it made. Made by `start_head`."""

    def __init__(self, address: str, link: Any, node: RayNode | None) -> None:  # noqa: ANN401
        self.address = address
        """Address of the Placement service."""
        self.node = node
        """The Ray node, if it is ours."""
        self._link = link

    def is_running(self) -> bool:
        """Tells whether the Ray node below runs; always true of one that is not ours."""
        return self.node is None or self.node.is_running()

    def stop(self) -> None:
        """Ends the model actors, the scheduler and the Ray node. Stopping again does nothing."""
        link, self._link = self._link, None
        try:
            if link is not None:
                link.stop()
        finally:
            if self.node is not None:
                self.node.stop()


def start_head(settings: HeadSettings) -> Head:
    """Starts a Ray node, unless one is named, and the scheduler on it. Blocks.

    Raises:
        RayNodeError: The Ray node did not start.
        HeadError: The scheduler did not start.
        ConfigurationError: Ray was imported in this process before it could have the token.
    """
    token = settle_token(settings.node.auth_token)
    node = None
    if not settings.ray_address:
        node = RayNode(replace(settings.node, auth_token=token))
        node.launch()
    try:
        backend: Any = importlib.import_module("scheduler.backends.ray_actors")
        if node is not None:
            node.wait_up()
        link = backend.SchedulerLink(node.address if node else settings.ray_address, settings)
    except BaseException:
        if node is not None:
            node.stop()
        raise
    return Head(link.address, link, node)


def start_worker(settings: NodeSettings) -> RayNode:
    """Starts a Ray node that joins a head and has room for model actors. Blocks.

    Raises:
        RayNodeError: It did not start.
    """
    node = RayNode(settings)
    try:
        node.launch()
        node.wait_up()
    except BaseException:
        node.stop()
        raise
    return node


def await_head(address: str, timeout: float) -> None:
    """Returns once something listens at the address of a head. Blocks.

    Ray itself tries for much longer, and silently.

    Args:
        address: `host:port`.
        timeout: Seconds to try for.

    Raises:
        ConfigurationError: The address has another form.
        RayNodeError: Nothing listened in time.
    """
    host, port = split_address(address)
    deadline = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection(
                (host, port), timeout=max(deadline - time.monotonic(), _PROBE_S)
            ).close()
        except OSError as error:
            if time.monotonic() >= deadline:
                raise RayNodeError(
                    f"no Ray head answers at {address}: {error.strerror or error}"
                ) from error
            time.sleep(_PROBE_S)
        else:
            return


def settle_token(token: str = "") -> str:
    """Puts the cluster's token where Ray looks for it: into the environment of this process.

    Args:
        token: The token; empty: the one that is there, or a new one.

    Returns:
        The token.

    Raises:
        ConfigurationError: Ray was imported with another one.
    """
    token = token or os.environ.get(_TOKEN, "") or secrets.token_hex(32)
    wanted = {_MODE: "token", _TOKEN: token}
    if "ray" in sys.modules and any(os.environ.get(key) != wanted[key] for key in wanted):
        raise ConfigurationError("Ray was imported in this process before it could have the token")
    os.environ.update(wanted)
    return token
