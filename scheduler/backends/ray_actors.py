"""What runs inside Ray: the scheduler and the model actors, and how they come there.

The only module of this package that imports Ray. The scheduler is a named, detached actor
on the head node; Ray restarts it, and it finds its model actors again by the prefix of
their names. Model actors are never restarted by Ray, which notices a death late and a
hang not at all: the scheduler supervises them.

Nothing goes through Ray but starting and ending: gateways and actors reach the scheduler
by gRPC.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray._private.state import state as _gcs
from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayError
from ray.util import get_node_ip_address, list_named_actors

from scheduler.backends.kept_states import folder_of_node
from scheduler.backends.launcher import ActorSpec, Found, Room, ShellHost
from scheduler.backends.loop_thread import LoopThread
from scheduler.backends.ray import HeadError, HeadSettings
from scheduler.backends.ray_node import ACTOR_RESOURCE, SURGE_RESOURCE
from scheduler.core.errors import SanaGatewayError
from scheduler.core.ids import ActorId
from scheduler.process import tls
from scheduler.process.logging import configure_logging
from scheduler.process.priority import go_before
from scheduler.process.telemetry import configure_tracing
from scheduler.runtime import SchedulerRuntime

NAMESPACE = "sana-gateway"
SCHEDULER_NAME = "sana-scheduler"
ACTOR_PREFIX = "sana-actor-"
TERM_GRACE_S = 60.0
"""How long the sessions of a model actor get to go elsewhere after SIGTERM."""
HEAD_RESOURCE = "node:__internal_head__"
"""Ray resource that the head node alone has."""
SWITCH_INTERVAL_S = 0.0005
"""How long a thread of a model actor may keep the interpreter while others want it."""

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 15.0


@dataclass(slots=True, eq=False)
class _RayActor:
    """A model actor in Ray."""

    handle: Any
    started: Any = None
    """Reference to the result of `start`; None for an actor that was found running."""


class RayShellHost(ShellHost):
    """A shell in a Ray worker process of its own."""

    def __init__(self, shell: str, spec: dict[str, Any]) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        go_before()
        _configure_process(
            "sana-gateway-actor",
            spec["actor_id"],
            spec["log"],
            spec["otlp_endpoint"],
            spec["trace_ratio"],
        )
        host = _node_ip()
        here = {
            "host": host,
            "listen": spec["listen"].replace("{node_ip}", host),
            "snapshot_root": folder_of_node() or spec["snapshot_root"],
            "tls": tls.folder_of_node() or spec["tls"],
        }
        super().__init__(shell, {**spec, **here})
        _on_sigterm(self._leave)

    def _leave(self, told: Callable[[float], bool]) -> None:
        """Its process was told to end: its sessions go elsewhere, then the scheduler ends it.

        Args:
            told: Waits so many seconds for being told again; returns whether it was.
        """
        self.drain(TERM_GRACE_S)
        told(TERM_GRACE_S)
        self.stop()
        os._exit(0)


class RayLauncher:
    """Runs model actors in Ray. Used inside the cluster.

    Args:
        specs: What the actors of each model are told, the default first.
        shell: Dotted path of the shell's class, resolved where the actor runs.
        num_gpus: GPUs of each actor.
    """

    def __init__(self, specs: Sequence[ActorSpec], *, shell: str, num_gpus: float = 0.0) -> None:
        self._specs = {spec.model: spec for spec in specs}
        self._shell = shell
        self._num_gpus = num_gpus

    @property
    def models(self) -> Sequence[str]:
        """Models that it can launch."""
        return tuple(self._specs)

    async def room(self) -> Room:
        """Returns how many actors the nodes have room for; those that drain have none."""
        return await asyncio.to_thread(_room)

    async def leaving(self) -> Mapping[ActorId, float | None]:
        """Returns the actors on nodes that Ray drains: told to end, or about to be reclaimed."""
        return await asyncio.to_thread(_leaving)

    async def wish(self, actors: int) -> None:
        """Asks the cluster's autoscaler for nodes with room for so many actors in all."""
        gpus = {"GPU": self._num_gpus} if self._num_gpus else {}
        bundles = [{ACTOR_RESOURCE: 1, **gpus} for _ in range(actors)]
        await asyncio.to_thread(request_resources, bundles=bundles)

    async def adopt(self) -> Sequence[Found[_RayActor]]:
        """Finds the model actors that run, by their names."""
        return await asyncio.to_thread(_running)

    async def launch(self, actor: ActorId, model: str) -> _RayActor:
        """Creates a model actor and has it start."""
        return await asyncio.to_thread(self._create, actor, model)

    async def ended(self, handle: _RayActor) -> str:
        """Returns why, once a model actor has ended or could not start.

        A call that never returns tells of a dead process within about 20 ms.
        """
        try:
            if handle.started is not None:
                await _result(handle.started)
            await _result(handle.handle.join.remote())
        except RayError as error:
            return _why(error)
        return "stopped"

    async def kill(self, handle: _RayActor, *, grace: float = 0.0) -> None:
        """Ends a model actor; with a grace it is asked to stop first, for so many seconds."""
        if grace > 0:
            with suppress(RayError, TimeoutError):
                async with asyncio.timeout(grace):
                    await _result(handle.handle.stop.remote())
        await asyncio.to_thread(ray.kill, handle.handle)

    def _create(self, actor: ActorId, model: str) -> _RayActor:
        handle: Any = (
            ray.remote(RayShellHost)
            .options(
                name=f"{ACTOR_PREFIX}{actor}-{model}",
                namespace=NAMESPACE,
                # A child of a dead actor would die with it.
                lifetime="detached",
                max_restarts=0,
                num_cpus=0,
                num_gpus=self._num_gpus,
                resources={ACTOR_RESOURCE: 1},
                # `join` keeps one thread, `start` another while the model loads.
                max_concurrency=4,
            )
            .remote(self._shell, self._specs[model].for_actor(actor))
        )
        return _RayActor(handle, handle.start.remote())


def _why(error: RayError) -> str:
    """Names an error; one of ours says in its own words what is wrong."""
    cause = getattr(error, "cause", None)
    return str(cause) if isinstance(cause, SanaGatewayError) else type(error).__name__


def _running() -> list[Found[_RayActor]]:
    """Finds the model actors by their names: prefix, id, model."""
    found = []
    for entry in list_named_actors(all_namespaces=True):
        name = entry["name"] or ""
        if entry["namespace"] == NAMESPACE and name.startswith(ACTOR_PREFIX):
            actor, _, model = name.removeprefix(ACTOR_PREFIX).partition("-")
            # It may have ended since it was listed.
            with suppress(ValueError):
                handle = ray.get_actor(name, namespace=NAMESPACE)
                found.append(Found(ActorId(actor), model, _RayActor(handle)))
    return found


def _room() -> Room:
    draining = _gcs.get_draining_nodes()
    nodes = [n for n in _nodes() if n["Alive"] and n["NodeID"] not in draining]
    total, surge = (
        int(sum(node["Resources"].get(name, 0) for node in nodes))
        for name in (ACTOR_RESOURCE, SURGE_RESOURCE)
    )
    return Room(total - surge, surge)


def _nodes() -> list[dict[str, Any]]:
    return list(ray.nodes())  # type: ignore[no-untyped-call]


def _leaving() -> dict[ActorId, float | None]:
    draining = _gcs.get_draining_nodes()
    if not draining:
        return {}
    left: dict[ActorId, float | None] = {}
    for found in _running():
        # Where an actor is, no public call tells without Ray's dashboard.
        actor_id = found.handle.handle._actor_id.hex()  # noqa: SLF001
        table = _gcs.actor_table(actor_id, None, None)
        deadline = draining.get(table.get("Address", {}).get("NodeID", ""))
        if deadline is not None:
            left[found.actor] = max(0.0, deadline / 1000 - time.time()) if deadline else None
    return left


class SchedulerShell:
    """The scheduler in Ray. Serves as soon as it exists, also after Ray restarted it.

    Args:
        settings: Settings of the head.
    """

    def __init__(self, settings: HeadSettings) -> None:
        _configure_process(
            "sana-gateway-scheduler",
            SCHEDULER_NAME,
            settings.log,
            settings.otlp_endpoint,
            settings.trace_ratio,
        )
        launcher = None
        if settings.actors:
            launcher = RayLauncher(
                settings.actors, shell=settings.shell, num_gpus=settings.gpus_per_actor
            )
        # A head that took over from another host may have it somewhere else.
        folder = tls.folder_of_node() or settings.scheduler.tls
        self._runtime = SchedulerRuntime(replace(settings.scheduler, tls=folder), launcher)
        self._loop = LoopThread(SCHEDULER_NAME)
        self._address = self._loop.run(self._runtime.start())

    def address(self) -> str:
        """Returns the address of the Placement service."""
        return self._address

    def pid(self) -> int:
        """Returns the id of its process."""
        return os.getpid()

    def stop(self) -> None:
        """Ends the model actors, then the scheduler."""
        self._loop.run(self._runtime.stop(end_actors=True))
        self._loop.close()


class SchedulerLink:
    """This process's way to the scheduler: connects to Ray, and makes or finds it. Blocks.

    Args:
        ray_address: `host:port` of the cluster's head, which runs on this host.
        settings: Settings of the head.

    Raises:
        HeadError: The scheduler did not start.
    """

    def __init__(self, ray_address: str, settings: HeadSettings) -> None:
        try:
            ray.init(
                address=ray_address,
                namespace=NAMESPACE,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
            self._scheduler = _scheduler(settings)
            self.address = str(ray.get(self._scheduler.address.remote(), timeout=_START_TIMEOUT_S))
            """Address of the Placement service."""
        except (RayError, ConnectionError, RuntimeError) as error:
            ray.shutdown()
            raise HeadError(f"the scheduler did not start: {error}") from error

    def stop(self) -> None:
        """Ends the model actors and the scheduler, then leaves Ray."""
        with suppress(RayError):
            ray.get(self._scheduler.stop.remote(), timeout=_STOP_TIMEOUT_S)
        with suppress(RayError):
            ray.kill(self._scheduler)
        ray.shutdown()


def _scheduler(settings: HeadSettings) -> Any:  # noqa: ANN401 - Ray types no handles
    return (
        ray.remote(SchedulerShell)
        .options(
            name=SCHEDULER_NAME,
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            max_restarts=-1,
            num_cpus=0,
            # Whichever node is the head: with its state in Redis another one may take over.
            resources={HEAD_RESOURCE: 0.001},
            max_concurrency=4,
        )
        .remote(settings)
    )


def _on_sigterm(end: Callable[[Callable[[float], bool]], None]) -> None:
    """Has SIGTERM run `end` on a thread of its own.

    Ray keeps the main thread in C++, where no handler written in Python runs; what the
    interpreter writes to a descriptor when a signal comes is read at once.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def told(patience: float) -> bool:
        ready, _, _ = select.select([reader], [], [], patience)
        return bool(ready)

    def wait() -> None:
        while os.read(reader, 1) != bytes([signal.SIGTERM]):
            pass
        end(told)

    threading.Thread(target=wait, name="sigterm", daemon=True).start()


def _node_ip() -> str:
    """Returns the address under which other hosts reach this one."""
    return str(get_node_ip_address())  # type: ignore[no-untyped-call]


async def _result(reference: Any) -> Any:  # noqa: ANN401 - Ray types no references
    """Waits for the result of a call, on any event loop."""
    return await asyncio.wrap_future(reference.future())


def _configure_process(
    service: str,
    instance: str,
    log: Mapping[str, Any],
    otlp_endpoint: str | None,
    trace_ratio: float,
) -> None:
    """Sets up the log and the traces of a worker process. Ray keeps its standard error in a
    file of its own; a `path` names a better one.
    """
    options = dict(log)
    path = options.pop("path", None)
    # Line by line, for as long as the process lives.
    stream = Path(path).open("a", buffering=1, encoding="utf-8") if path else None  # noqa: SIM115
    configure_logging(**options, service=service, stream=stream)
    configure_tracing(service, otlp_endpoint, instance=instance, sample_ratio=trace_ratio)
