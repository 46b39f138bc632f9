"""One gateway process: its plugins, its hub, its servers."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from contextlib import suppress
from typing import Any

import structlog
from prometheus_client.registry import REGISTRY

from gateway import chosen
from gateway.audit import AuditLog
from gateway.auth import Access, Audited, Refreshing
from gateway.doors import Doors
from gateway.events_http import EventRoutes
from gateway.front_door.routing import WHOLE, Share
from gateway.http import HttpServer
from gateway.hub import GatewayHub
from gateway.ingress import IngressServices, IngressSettings
from gateway.journals.reading import SessionJournals
from gateway.links import ActorLinks
from gateway.loop_lag import watch_lag
from gateway.metrics import SessionCollector
from gateway.operations import Operations
from gateway.operator_http import OperatorRoutes
from gateway.placement import PlacementClient, SchedulerAwayError
from gateway.readiness import Readiness
from gateway.recording.recordings import Bounds, Recordings
from gateway.settings import GatewaySettings, exposed
from gateway.upload_retention import UploadRetention
from gateway.uploads import StoredUploads
from gateway.usage.metrics import UsageCollector
from gateway.webrtc.ice import IceServer
from gateway.webrtc.peer import AiortcPeers, PeerSettings
from gateway.webrtc.statistics import PeerCollector
from scheduler.metrics import PoolCollector, tell_process
from scheduler.process import plugins
from scheduler.process.logging import set_level
from scheduler.process.tls import Wires

log = structlog.get_logger(__name__)

DRAIN_S = 2.0
"""How long calls under way may take to end when the gateway stops."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sockets:
    """Where a media worker listens."""

    http: str
    """`unix:/path`."""
    grpc: str
    """`unix:/path`."""


class GatewayProcess:
    """Terminates clients until it is stopped."""

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        share: Share = WHOLE,
        sockets: Sockets | None = None,
    ) -> None:
        """Finds the plugins.

        Args:
            settings: What the gateway is started with.
            share: Which part of its sessions this process serves.
            sockets: Where to listen instead of the ports of the settings.

        Raises:
            PluginError: One is missing or broken.
            ConfigurationError: The options of a plugin do not fit it, or the folder of the
                certificate cannot be used.
        """
        self._settings = settings
        self._internal_wires = Wires(settings.tls)
        # A media worker listens on unix sockets alone.
        self._doors = Doors(settings.door_files() if sockets is None else None)
        self._audit = AuditLog(settings.audit_log)
        self._share = share
        self._sockets = sockets
        self._gateway_id = f"g{secrets.token_hex(6)}"
        self._storage = chosen.storage(settings)()
        self._recordings_storage = chosen.recordings_storage(settings, self._storage)
        self._authenticator = chosen.authenticator(settings)
        self._turn_logins = chosen.turn_logins(settings)
        if isinstance(self._authenticator, Audited) and share.index == 0:
            self._authenticator.audit = self._audit
        self._moderation = chosen.moderation(settings)
        self._wires = {
            name: plugins.load("sana_gateway.ingress", name) for name in settings.ingress
        }
        self._started = False
        # Where there is a front door, it counts.
        self._rates = settings.call_rates() if sockets is None else None
        self._tasks: list[asyncio.Task[None]] = []
        self._ingresses: dict[str, Any] = {}

    @property
    def http_url(self) -> str:
        """Where HTTP listens."""
        return self._http.url

    @property
    def grpc_address(self) -> str:
        """Where gRPC listens; empty without that wire."""
        grpc = self._ingresses.get("grpc")
        return "" if grpc is None else str(grpc.address)

    @property
    def session_count(self) -> int:
        """Sessions that this process takes part in."""
        return self._hub.session_count

    @property
    def is_serving(self) -> bool:
        """Whether there is a model to ask for."""
        return self._placement.serving.is_set()

    async def start(self, placement_address: str = "") -> None:
        """Serves; what was started has ended again when this fails.

        Args:
            placement_address: Address of the scheduler, where the settings do not know it.

        Raises:
            ConfigurationError: An address cannot be listened on, or WebRTC cannot be served so.
        """
        settings = self._settings
        ingress_settings = self._ingress_settings()
        self._peers = AiortcPeers(self._peer_settings())
        self._placement = PlacementClient(
            placement_address or settings.placement_address, self._gateway_id, self._internal_wires
        )
        self._links = ActorLinks(self._gateway_id, self._internal_wires)
        self._uploads = StoredUploads(
            self._storage,
            max_upload_bytes=settings.limits.max_upload_bytes,
            upload_session_bytes=settings.limits.upload_session_bytes,
            on_complete=lambda session_id: self._hub.upload_completed(session_id),
            on_reserve=self._count_upload,
        )
        self._recordings = self._make_recordings()
        self._hub = GatewayHub(
            self._placement,
            self._links,
            max_connections=settings.limits.max_connections,
            on_ended=self._uploads.forget,
            on_copied=self._uploads.copy,
            new_session_id=self._share.new_session_id,
            recordings=self._recordings,
            uploaded=self._uploads.uploaded,
            moderation=self._moderation,
        )
        access = Access(lambda: self._placement.pool)
        self._operations = Operations(self._placement, access, self._audit)
        self._readiness = Readiness(self._hub.served_models)
        services = IngressServices(
            hub=self._hub,
            uploads=self._uploads,
            auth=self._authenticator,
            peers=self._peers,
            pool=self._placement.describe_pool,
            drain=self._placement.drain,
            usage=self._placement.read_usage,
            journals=SessionJournals(self._storage, access, self._audit).read,
            operations=self._operations,
            settings=ingress_settings,
            readiness=self._readiness,
            doors=self._doors,
            rates=self._rates,
            audit=self._audit,
            recordings=None if self._recordings is None else self._recordings.library,
        )
        self._http = HttpServer(services)
        self._http.add_routes(EventRoutes(services).routes())
        self._http.add_routes(OperatorRoutes(services).routes())
        for name, wire in self._wires.items():
            ingress = self._ingresses[name] = wire(services)
            if hasattr(ingress, "routes"):
                self._http.add_routes(ingress.routes())
        placement = self._placement
        self._collectors = (
            PeerCollector(self._peers.statistics),
            PoolCollector(lambda: placement.pool),
            UsageCollector(lambda: placement.tenant_usage),
            SessionCollector(lambda: self._hub.sessions, _limits(ingress_settings, settings)),
        )
        for collector in self._collectors:
            REGISTRY.register(collector)
        tell_process("gateway" if self._sockets is None else "media_worker")
        self._tasks = [
            asyncio.create_task(self._hub.run(), name="hub"),
            asyncio.create_task(watch_lag(), name="loop lag"),
        ]
        self._retention = UploadRetention(
            self._storage, placement.find, settings.limits.uploads_kept_s
        )
        if self._share.index == 0:
            self._tasks.append(asyncio.create_task(self._retention.run(), name="upload retention"))
        if self._recordings is not None:
            self._tasks.append(asyncio.create_task(self._recordings.run(), name="recordings"))
        if self._moderation is not None:
            self._tasks.append(asyncio.create_task(self._moderation.run(), name="moderation"))
        if isinstance(self._authenticator, Refreshing):
            self._tasks.append(asyncio.create_task(self._authenticator.run(), name="auth"))
        try:
            for ingress in self._ingresses.values():
                await ingress.start()
            await self._http.start()
            self._readiness.started = True
            if self._sockets is None:
                self._doors.warn(*exposed(settings))
        except BaseException:
            await self.stop()
            raise
        self._started = True
        self.take_up(self._settings)
        log.info("gateway.serving", http=self.http_url, grpc=self.grpc_address)

    def take_up(self, settings: GatewaySettings) -> None:
        """Goes on with settings that were reloaded; see `gateway.reloading`."""
        self._settings = settings
        set_level(settings.log_level)
        if not self._started:
            return
        self._http.let_in(settings.ingress_settings().origins)
        if self._rates is not None:
            self._rates.change(settings.rates)
        limits = settings.limits
        self._hub.max_connections = limits.max_connections
        self._peers.bound(limits.max_peers)
        self._peers.use(_ice_servers(settings))
        self._retention.kept_s = limits.uploads_kept_s
        if self._recordings is not None:
            self._recordings.bound(_bounds(settings))
        self._uploads.bound(
            max_upload_bytes=limits.max_upload_bytes,
            upload_session_bytes=limits.upload_session_bytes,
        )

    async def wait_serving(self) -> None:
        """Returns once there is a model to ask for."""
        await self._placement.serving.wait()

    async def run(self) -> None:
        """Returns never, unless the hub breaks; then raises what broke it."""
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        """Drains and ends everything it started."""
        self._readiness.draining = True
        for collector in self._collectors:
            REGISTRY.unregister(collector)
        self._operations.stop()
        await self._hub.stop("the gateway is shutting down")
        for ingress in self._ingresses.values():
            await ingress.stop(DRAIN_S)
        await self._http.stop()
        await self._peers.close()
        await self._hub.tell_usage()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._recordings is not None:
            await self._recordings.close()
        await self._uploads.close()
        await self._links.close()
        await self._placement.close()
        if self._recordings_storage is not self._storage:
            await self._recordings_storage.close()
        await self._storage.close()
        self._audit.close()
        log.info("gateway.stopped")

    async def _count_upload(self, session_id: str, upload_id: str, size: int) -> None:
        # While the scheduler is away the bounds of each session still hold.
        with suppress(SchedulerAwayError):
            await self._placement.reserve_upload(session_id, upload_id, size)

    def _make_recordings(self) -> Recordings | None:
        if not self._settings.recording.enabled:
            return None
        bounds = _bounds(self._settings)
        storage, first = self._recordings_storage, self._share.index == 0
        access = Access(lambda: self._placement.pool)
        return Recordings(storage, self._gateway_id, bounds, access.may_use, sweeps=first)

    def _peer_settings(self) -> PeerSettings:
        settings = self._settings
        return PeerSettings(
            ice_servers=_ice_servers(settings),
            turn_logins=self._turn_logins,
            udp_ports=settings.udp_port_range(self._share),
            udp_address=settings.udp_address or None,
            max_peers=settings.limits.max_peers,
        )

    def _ingress_settings(self) -> IngressSettings:
        settings = self._settings.ingress_settings()
        settings = dataclasses.replace(settings, path_prefix=self._share.path_prefix)
        if self._sockets is None:
            return settings
        return dataclasses.replace(
            settings, http_address=self._sockets.http, grpc_address=self._sockets.grpc
        )


def _ice_servers(settings: GatewaySettings) -> tuple[IceServer, ...]:
    return tuple(IceServer((each.url,), each.username, each.credential) for each in settings.ice())


def _bounds(settings: GatewaySettings) -> Bounds:
    wanted = settings.recording
    return Bounds(wanted.session_bytes, wanted.total_bytes, wanted.kept_s)


def _limits(ingress: IngressSettings, settings: GatewaySettings) -> dict[str, int]:
    """Returns what this process takes at most, for who measures how much it has."""
    return {
        "webrtc_peers": settings.limits.max_peers,
        "grpc_calls": ingress.max_streams,
        "session_connections": settings.limits.max_connections,
    }
