"""One scheduler, put together: pool, driver, server and supervision.

A backend runs it where it likes; `LocalScheduler` in this process, the Ray backend in an
actor of its own.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from scheduler.backends.launcher import ActorLauncher
from scheduler.core.placement import PlacementPolicy
from scheduler.core.pool import Pool
from scheduler.core.pool_events import PoolRules
from scheduler.placement_server import PlacementServer
from scheduler.process import plugins
from scheduler.process.tokens import LeaseTokens
from scheduler.service import SchedulerService
from scheduler.supervision import SupervisionRules, Supervisor


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """Settings of a scheduler."""

    address: str
    """Where the Placement service listens: `unix:/path` or `host:port`."""
    lease_secret: str = field(repr=False)
    """Signs lease tokens; 32 bytes or more."""
    policy: str = "pack"
    """Placement policy, by its name among the plugins."""
    rules: PoolRules = field(default_factory=PoolRules)
    supervision: SupervisionRules = field(default_factory=SupervisionRules)


class SchedulerRuntime:
    """Runs a scheduler on the event loop that it is started on.

    Args:
        settings: Settings.
        launcher: Makes actors; without one they come by themselves.
    """

    def __init__(
        self, settings: SchedulerSettings, launcher: ActorLauncher[Any] | None = None
    ) -> None:
        self._settings = settings
        self._launcher = launcher
        self._service: SchedulerService | None = None
        self._server: PlacementServer | None = None
        self._supervisor: Supervisor[Any] | None = None
        self._supervision: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Starts everything and returns the address of the Placement service.

        Raises:
            PluginError: There is no such placement policy.
            ConfigurationError: The address cannot be listened on, or the secret is too short.
        """
        settings = self._settings
        policy = plugins.load("sana_gateway.placement", settings.policy, PlacementPolicy)()
        self._service = SchedulerService(
            Pool(settings.rules, policy), LeaseTokens(settings.lease_secret)
        )
        self._server = PlacementServer(self._service, settings.address)
        address = await self._server.start()
        if self._launcher is not None:
            self._supervisor = Supervisor(
                self._launcher, self._service.actor_died, settings.supervision
            )
            self._service.supervise(self._supervisor)
            self._supervision = asyncio.create_task(self._supervisor.run())
        return address

    async def stop(self, *, end_actors: bool) -> None:
        """Stops. Actors are ended too, or left for the next scheduler to find."""
        if self._supervision is not None:
            self._supervision.cancel()
            await asyncio.gather(self._supervision, return_exceptions=True)
        if self._service is not None:
            self._service.close()
        if self._server is not None:
            await self._server.stop()
        if end_actors and self._supervisor is not None:
            await self._supervisor.stop_actors()
