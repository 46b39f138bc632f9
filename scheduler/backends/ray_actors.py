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
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util import get_node_ip_address, list_named_actors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from scheduler.backends.launcher import ActorSpec, ShellHost
from scheduler.backends.loop_thread import LoopThread
from scheduler.backends.ray import HeadError, HeadSettings
from scheduler.backends.ray_node import ACTOR_RESOURCE
from scheduler.core.ids import ActorId
from scheduler.process.logging import configure_logging
from scheduler.process.telemetry import configure_tracing
from scheduler.runtime import SchedulerRuntime

NAMESPACE = "sana-gateway"
SCHEDULER_NAME = "sana-scheduler"
ACTOR_PREFIX = "sana-actor-"
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
        _configure_process(
            "sana-gateway-actor", spec["actor_id"], spec["log"], spec["otlp_endpoint"]
        )
        listen = spec["listen"].replace("{node_ip}", _node_ip())
        super().__init__(shell, {**spec, "listen": listen})


class RayLauncher:
    """Runs model actors in Ray. Used inside the cluster.

    Args:
        spec: What every actor is told.
        shell: Dotted path of the shell's class, resolved where the actor runs.
        num_gpus: GPUs of each actor.
    """

    def __init__(self, spec: ActorSpec, *, shell: str, num_gpus: float = 0.0) -> None:
        self._spec = spec
        self._shell = shell
        self._num_gpus = num_gpus

    async def capacity(self) -> int:
        """Returns how many actors the nodes have room for."""
        resources = await asyncio.to_thread(ray.cluster_resources)
        return int(resources.get(ACTOR_RESOURCE, 0))

    async def adopt(self) -> Sequence[tuple[ActorId, _RayActor]]:
        """Finds the model actors that run, by their names."""
        return await asyncio.to_thread(self._find)

    async def launch(self, actor: ActorId) -> _RayActor:
        """Creates a model actor and has it start."""
        return await asyncio.to_thread(self._create, actor)

    async def ended(self, handle: _RayActor) -> str:
        """Returns why, once a model actor has ended or could not start.

        A call that never returns tells of a dead process within about 20 ms.
        """
        try:
            if handle.started is not None:
                await _result(handle.started)
            await _result(handle.handle.join.remote())
        except RayError as error:
            return type(error).__name__
        return "stopped"

    async def kill(self, handle: _RayActor, *, grace: float = 0.0) -> None:
        """Ends a model actor; with a grace it is asked to stop first, for so many seconds."""
        if grace > 0:
            with suppress(RayError, TimeoutError):
                async with asyncio.timeout(grace):
                    await _result(handle.handle.stop.remote())
        await asyncio.to_thread(ray.kill, handle.handle)

    def _find(self) -> list[tuple[ActorId, _RayActor]]:
        found = []
        for entry in list_named_actors(all_namespaces=True):
            name = entry["name"] or ""
            if entry["namespace"] == NAMESPACE and name.startswith(ACTOR_PREFIX):
                # It may have ended since it was listed.
                with suppress(ValueError):
                    handle = ray.get_actor(name, namespace=NAMESPACE)
                    found.append((ActorId(name.removeprefix(ACTOR_PREFIX)), _RayActor(handle)))
        return found

    def _create(self, actor: ActorId) -> _RayActor:
        handle: Any = (
            ray.remote(RayShellHost)
            .options(
                name=f"{ACTOR_PREFIX}{actor}",
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
            .remote(self._shell, self._spec.for_actor(actor))
        )
        return _RayActor(handle, handle.start.remote())


class SchedulerShell:
    """The scheduler in Ray. Serves as soon as it exists, also after Ray restarted it.

    Args:
        settings: Settings of the head.
    """

    def __init__(self, settings: HeadSettings) -> None:
        _configure_process(
            "sana-gateway-scheduler", SCHEDULER_NAME, settings.log, settings.otlp_endpoint
        )
        launcher = None
        if settings.actor is not None:
            launcher = RayLauncher(
                settings.actor, shell=settings.shell, num_gpus=settings.gpus_per_actor
            )
        self._runtime = SchedulerRuntime(settings.scheduler, launcher)
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
    head = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return (
        ray.remote(SchedulerShell)
        .options(
            name=SCHEDULER_NAME,
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            max_restarts=-1,
            num_cpus=0,
            scheduling_strategy=head,
            max_concurrency=4,
        )
        .remote(settings)
    )


def _node_ip() -> str:
    """Returns the address under which other hosts reach this one."""
    return str(get_node_ip_address())  # type: ignore[no-untyped-call]


async def _result(reference: Any) -> Any:  # noqa: ANN401 - Ray types no references
    """Waits for the result of a call, on any event loop."""
    return await asyncio.wrap_future(reference.future())


def _configure_process(
    service: str, instance: str, log: Mapping[str, Any], otlp_endpoint: str | None
) -> None:
    """Sets up the log and the traces of a worker process. Ray keeps its standard error in a
    file of its own; a `path` names a better one.
    """
    options = dict(log)
    path = options.pop("path", None)
    # Line by line, for as long as the process lives.
    stream = Path(path).open("a", buffering=1, encoding="utf-8") if path else None  # noqa: SIM115
    configure_logging(**options, service=service, stream=stream)
    configure_tracing(service, otlp_endpoint, instance=instance)
