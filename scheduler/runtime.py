"""One scheduler, put together: pool, driver, server and supervision.

A backend runs it where it likes; `LocalScheduler` in this process, the Ray backend in an
actor of its own.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from scheduler.backends.launcher import ActorLauncher
from scheduler.core.placement import PlacementPolicy
from scheduler.core.pool import Pool
from scheduler.core.pool_events import PoolRules
from scheduler.metering.hearing import Metering
from scheduler.metering.ledger import KEPT_S, UsageLedger
from scheduler.metrics import tell_process
from scheduler.placement_server import PlacementServer
from scheduler.process import plugins
from scheduler.process.tls import Wires
from scheduler.process.tokens import LeaseTokens
from scheduler.process.vital_signs import VitalSigns
from scheduler.quota_file import QuotaFile
from scheduler.service import SchedulerService
from scheduler.supervision import SupervisionRules, Supervisor

BROKEN_EXIT = 70
"""Exit status of a process whose scheduler is broken (`EX_SOFTWARE` of sysexits.h)."""

_EPOCHS_BEGIN = 1_767_225_600
"""The beginning of 2026."""
_EPOCHS_A_SECOND = 8
"""Placements a second, on average over the life of one scheduler, up to which the next one
certainly begins above it. One that gave more begins below only as long as no actor that holds
a session of its last minutes has registered; until then nothing is placed on that actor."""

_log = structlog.get_logger()


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
    settle_time: float = 10.0
    """Seconds after a start during which a session that no actor has told of counts as not
    known yet, instead of unknown: after a restart the actors come back one by one. New
    sessions do not wait for it."""
    quota_file: str = ""
    """File that keeps what quotas of days and months have counted; empty: counted from nothing."""
    ledger: str = ""
    """Folder of the ledger of usage; empty: in memory, and gone with the scheduler."""
    ledger_kept_s: float = KEPT_S
    """How long the ledger remembers."""
    tls: str = ""
    """Folder with the certificate that it shows and asks for; empty: TCP stays in the clear."""


class SchedulerRuntime:
    """Runs a scheduler on the event loop that it is started on.

    Args:
        settings: Settings.
        launcher: Makes actors; without one they come by themselves.
        die: Called when the scheduler is broken beyond repair. Ends the process, so that
            whoever watches that starts another one, which finds the actors again.
    """

    def __init__(
        self,
        settings: SchedulerSettings,
        launcher: ActorLauncher[Any] | None = None,
        *,
        die: Callable[[], object] = lambda: os._exit(BROKEN_EXIT),
    ) -> None:
        self._settings = settings
        self._launcher = launcher
        self._die = die
        self._service: SchedulerService | None = None
        self._server: PlacementServer | None = None
        self._signs = VitalSigns("scheduler", "scheduler")
        self._supervisor: Supervisor[Any] | None = None
        self._supervision: asyncio.Task[None] | None = None
        self._quotas: QuotaFile | None = None
        self._ledger: UsageLedger | None = None
        self._metering: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Starts everything and returns the address of the Placement service.

        Raises:
            PluginError: There is no such placement policy.
            ConfigurationError: The address cannot be listened on, the secret is too short, or the
                folder of the certificate or the file of quotas cannot be used.
        """
        settings = self._settings
        wires = Wires(settings.tls)
        policy = plugins.load("sana_gateway.placement", settings.policy, PlacementPolicy)()
        loop = asyncio.get_running_loop()
        pool = Pool(
            settings.rules,
            policy,
            first_epoch=first_epoch(time.time()),
            wall_offset=time.time() - loop.time(),
        )
        self._quotas = _quotas(settings.quota_file, pool, loop.time)
        self._service = SchedulerService(
            pool,
            LeaseTokens(settings.lease_secret),
            settle_time=settings.settle_time,
        )
        self._ledger = ledger = UsageLedger(
            Path(settings.ledger) if settings.ledger else None, kept_s=settings.ledger_kept_s
        )
        await ledger.open()
        self._service.parkings = ledger
        metering = Metering(ledger, settings.rules.tenants)
        self._server = PlacementServer(self._service, settings.address, wires, metering)
        address = await self._server.start()
        tell_process("scheduler")
        await self._signs.start()
        self._signs.why_not_ready = ""
        self._metering = asyncio.create_task(ledger.run())
        if self._quotas is not None:
            self._keeping = asyncio.create_task(self._quotas.run())
        if self._launcher is not None:
            self._supervisor = Supervisor(self._launcher, self._service, settings.supervision)
            self._service.supervise(self._supervisor)
            self._supervision = asyncio.create_task(self._supervisor.run())
            self._supervision.add_done_callback(self._supervision_ended)
        return address

    async def stop(self, *, end_actors: bool) -> None:
        """Stops. Actors are ended too, or left for the next scheduler to find."""
        await self._signs.close()
        if self._supervision is not None:
            self._supervision.remove_done_callback(self._supervision_ended)
            self._supervision.cancel()
            await asyncio.gather(self._supervision, return_exceptions=True)
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self._quotas is not None:
            await self._quotas.close()
        if self._service is not None:
            self._service.close()
        if self._server is not None:
            await self._server.stop()
        if self._metering is not None:
            self._metering.cancel()
            await asyncio.gather(self._metering, return_exceptions=True)
        if self._ledger is not None:
            await self._ledger.close()
        if end_actors and self._supervisor is not None:
            await self._supervisor.stop_actors()

    def _supervision_ended(self, task: asyncio.Task[None]) -> None:
        """Supervision never ends by itself: without it no lost actor would be replaced."""
        if not task.cancelled():
            _log.critical("supervision has ended", error=_kind(task.exception()))
            self._die()


def first_epoch(now: float) -> int:
    """Returns the epoch that a scheduler begins above: higher than all that those before it gave.

    Actors tell only of the sessions that they hold; what is parked or lost had an epoch too,
    and its snapshots would count as older ones. Fits 32 bits for seventeen years.

    Args:
        now: Seconds since 1970.
    """
    return max(0, int((now - _EPOCHS_BEGIN) * _EPOCHS_A_SECOND))


def _quotas(path: str, pool: Pool, clock: Callable[[], float]) -> QuotaFile | None:
    """Returns what keeps the counts of a pool, and gives the pool those that were kept.

    Raises:
        ConfigurationError: The file cannot be used.
    """
    if not path:
        return None
    file = QuotaFile(path, lambda: pool.rations.dump(clock()))
    kept = file.read()
    if kept is not None:
        try:
            pool.rations.usage.load(kept)
        except ValueError:
            raise file.unfit() from None
    return file


def _kind(error: BaseException | None) -> str:
    """Names an error, or those of a group, without their texts."""
    if isinstance(error, BaseExceptionGroup):
        return ", ".join(_kind(part) for part in error.exceptions)
    return type(error).__name__
