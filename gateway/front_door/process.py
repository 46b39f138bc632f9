"""The front door: its plugins, its servers, its media workers."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Final

import structlog
from prometheus_client.registry import REGISTRY, Collector

from gateway import chosen
from gateway.audit import AuditLog
from gateway.auth import Refreshing
from gateway.doors import Doors
from gateway.front_door.grpc_server import FrontDoorGrpc
from gateway.front_door.http_server import FrontDoorHttp
from gateway.front_door.metrics import MediaWorkerCollector
from gateway.front_door.workers import MediaWorkers
from gateway.loop_lag import watch_lag
from gateway.open_files import allow_many_files
from gateway.settings import GatewaySettings, exposed
from gateway.web.pages import Pages
from scheduler.core.errors import ConfigurationError
from scheduler.metrics import tell_process
from scheduler.process.logging import set_level
from scheduler.process.tls import Wires

DRAIN_S: Final = 1.0
"""How long calls may take to end after their workers have."""
LONGEST_PATH: Final = 70
"""Most characters of the folder for temporary files: a socket's path has at most 107."""

_log = structlog.get_logger(__name__)


class FrontDoor:
    """Terminates clients for its media workers until it is stopped."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Finds the plugins.

        Raises:
            PluginError: One is missing or broken.
            ConfigurationError: The options of a plugin do not fit it, or the folder of the
                workers' certificate cannot be used.
        """
        authenticator = self._authenticator = chosen.authenticator(settings)
        # The workers' own affair, but one sentence from here is better than one from each.
        chosen.storage(settings)
        chosen.turn_logins(settings)
        chosen.moderation(settings)
        Wires(settings.tls)
        self._audit = AuditLog(settings.audit_log, role="front_door")
        doors = self._doors = Doors(settings.door_files())
        addresses = settings.ingress_settings()
        self._changed = asyncio.Event()
        self._workers = MediaWorkers(settings, self._changed.set)
        rates = self._rates = settings.call_rates()
        self._http = FrontDoorHttp(
            addresses.http_address,
            authenticator,
            self._workers,
            doors,
            origins=addresses.origins,
            rates=rates,
            pages=Pages(public_url=addresses.public_url),
        )
        self._exposed = exposed(settings)
        self._grpc: FrontDoorGrpc | None = None
        if "grpc" in settings.ingress:
            self._grpc = FrontDoorGrpc(
                addresses.grpc_address,
                authenticator,
                self._workers.choose,
                doors,
                max_streams=addresses.max_streams,
                rates=rates,
                audit=self._audit,
            )
        self._serving = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._folder: Path | None = None
        self._collectors: tuple[Collector, ...] = ()

    @property
    def http_url(self) -> str:
        """Where HTTP listens."""
        return self._http.url

    @property
    def grpc_address(self) -> str:
        """Where gRPC listens; empty without that wire."""
        return self._grpc.address if self._grpc is not None else ""

    async def start(self, placement_address: str = "") -> None:
        """Serves; what was started has ended again when this fails.

        Args:
            placement_address: Address of the scheduler, where the settings do not know it.

        Raises:
            ConfigurationError: An address cannot be listened on.
            ChildError: A media worker did not come up.
        """
        allow_many_files()
        self._folder = _private_folder()
        self._collectors = (MediaWorkerCollector(self._workers.all),)
        tell_process("front_door")
        for collector in self._collectors:
            REGISTRY.register(collector)
        try:
            # Ports first: one that is taken is known before anything has to end again.
            if self._grpc is not None:
                await self._grpc.start()
            await self._http.start()
            self._doors.warn(*self._exposed)
            self._tasks = [
                asyncio.create_task(self._follow(), name="follow"),
                asyncio.create_task(watch_lag(), name="loop lag"),
            ]
            if isinstance(self._authenticator, Refreshing):
                self._tasks.append(asyncio.create_task(self._authenticator.run(), name="auth"))
            await self._workers.start(self._folder, placement_address)
        except BaseException:
            await self.stop()
            raise
        _log.info("gateway.serving", http=self.http_url, grpc=self.grpc_address)

    def take_up(self, settings: GatewaySettings) -> None:
        """Goes on with settings that were reloaded, and tells the workers; see
        `gateway.reloading`.
        """
        set_level(settings.log_level)
        self._http.let_in(settings.ingress_settings().origins)
        if self._rates is not None:
            self._rates.change(settings.rates)
        self._workers.take_up(settings)

    async def wait_serving(self) -> None:
        """Returns once all workers run and there is a model to ask for."""
        await self._serving.wait()

    async def run(self) -> None:
        """Returns never, unless something breaks; then raises what broke."""
        await asyncio.gather(self._workers.run(), *self._tasks)

    async def stop(self) -> None:
        """Drains and ends everything it started: the workers tell their clients first."""
        if self._grpc is not None:
            await self._grpc.begin_stop()
        await self._workers.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._grpc is not None:
            await self._grpc.stop(DRAIN_S)
        await self._http.stop()
        collectors, self._collectors = self._collectors, ()
        for collector in collectors:
            REGISTRY.unregister(collector)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._audit.close()
        _log.info("gateway.stopped")

    async def _follow(self) -> None:
        """Tells the world how the workers are."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._workers.are_serving:
                self._serving.set()
            else:
                self._serving.clear()
            if self._grpc is not None:
                workers = self._workers
                ready, started = workers.are_serving, workers.started
                healthy = bool(workers.running)
                await self._grpc.tell(healthy=healthy, ready=ready, started=started)


def _private_folder() -> Path:
    """Makes a folder that only this user can look into."""
    if len(tempfile.gettempdir()) > LONGEST_PATH:
        raise ConfigurationError("the folder for temporary files is too deep for sockets")
    return Path(tempfile.mkdtemp(prefix="sana-workers-"))
