"""One gateway process: its plugins, its hub, its servers."""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import secrets
from typing import Any

import structlog

from gateway.http import HttpServer
from gateway.hub import GatewayHub
from gateway.ingress import IngressServices
from gateway.links import ActorLinks
from gateway.placement import PlacementClient
from gateway.settings import GatewaySettings
from gateway.uploads import StoredUploads
from gateway.webrtc.peer import AiortcPeers, IceServer, PeerSettings
from scheduler.core.errors import ConfigurationError
from scheduler.process import plugins
from scheduler.process.storage import Storage

log = structlog.get_logger(__name__)

DRAIN_S = 2.0
"""How long calls under way may take to end when the gateway stops."""


class GatewayProcess:
    """Terminates clients until it is stopped."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Finds the plugins.

        Raises:
            PluginError: One is missing or broken.
            ConfigurationError: The options of the storage do not fit it.
        """
        self._settings = settings
        self._gateway_id = f"g{secrets.token_hex(6)}"
        self._storage = _storage(settings)
        self._authenticator = plugins.load("sana_gateway.auth", settings.auth)()
        self._wires = {
            name: plugins.load("sana_gateway.ingress", name) for name in settings.ingress
        }
        self._hub_task: asyncio.Task[None] | None = None
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

    async def start(self, placement_address: str = "") -> None:
        """Serves; what was started has ended again when this fails.

        Args:
            placement_address: Address of the scheduler, where the settings do not know it.

        Raises:
            ConfigurationError: An address cannot be listened on.
        """
        settings = self._settings
        ingress_settings = settings.ingress_settings()
        self._placement = PlacementClient(
            placement_address or settings.placement_address, self._gateway_id
        )
        self._links = ActorLinks(self._gateway_id)
        self._uploads = StoredUploads(
            self._storage,
            max_upload_bytes=settings.limits.max_upload_bytes,
            upload_session_bytes=settings.limits.upload_session_bytes,
        )
        self._hub = GatewayHub(
            self._placement,
            self._links,
            max_connections=settings.limits.max_connections,
            on_ended=self._uploads.forget,
        )
        self._peers = AiortcPeers(
            PeerSettings(
                ice_servers=tuple(IceServer((url,)) for url in settings.ice_servers),
                max_peers=settings.limits.max_peers,
            )
        )
        services = IngressServices(
            hub=self._hub,
            uploads=self._uploads,
            auth=self._authenticator,
            peers=self._peers,
            pool=self._placement.describe_pool,
            settings=ingress_settings,
        )
        self._http = HttpServer(services)
        for name, wire in self._wires.items():
            ingress = self._ingresses[name] = wire(services)
            if hasattr(ingress, "routes"):
                self._http.add_routes(ingress.routes())
        self._hub_task = asyncio.create_task(self._hub.run(), name="hub")
        try:
            await self._listen(ingress_settings.http_address)
        except BaseException:
            await self.stop()
            raise
        log.info("gateway.serving", http=self.http_url, grpc=self.grpc_address)

    async def _listen(self, http_address: str) -> None:
        for ingress in self._ingresses.values():
            await ingress.start()
        try:
            await self._http.start()
        except OSError as error:
            # asyncio words it with the address once more; a resolver has numbers of its own.
            known = error.errno in errno.errorcode
            reason = os.strerror(error.errno or 0) if known else error.strerror
            raise ConfigurationError(f"HTTP cannot listen on {http_address}: {reason}") from error

    async def wait_serving(self) -> None:
        """Returns once there is a model to ask for."""
        await self._placement.serving.wait()

    async def run(self) -> None:
        """Returns never, unless the hub breaks; then raises what broke it."""
        assert self._hub_task is not None  # noqa: S101 - started before
        await self._hub_task

    async def stop(self) -> None:
        """Drains and ends everything it started."""
        await self._hub.stop("the gateway is shutting down")
        for ingress in self._ingresses.values():
            await ingress.stop(DRAIN_S)
        await self._http.stop()
        await self._peers.close()
        if self._hub_task is not None:
            self._hub_task.cancel()
            await asyncio.gather(self._hub_task, return_exceptions=True)
        await self._uploads.close()
        await self._links.close()
        await self._placement.close()
        await self._storage.close()
        log.info("gateway.stopped")


def _storage(settings: GatewaySettings) -> Storage:
    plugin = plugins.load("sana_gateway.storage", settings.storage)
    try:
        inspect.signature(plugin).bind(**settings.storage_options)
    except TypeError as error:
        raise ConfigurationError(
            f"storage_options do not fit the storage {settings.storage!r}: {error}; the folder "
            "for uploads, shared with the model actors, is --storage-root"
        ) from None
    storage: Storage = plugin(**settings.storage_options)
    return storage
