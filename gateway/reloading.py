"""Settings that change while a gateway runs: read again on SIGHUP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final, Protocol

import structlog

from gateway.audit import FAILED, AuditLog
from gateway.settings import GatewaySettings
from scheduler.core.errors import ConfigurationError
from scheduler.process.config import describe

RELOADED: Final = ("log_level", "cors_origins", "ice_servers", "rates", "limits", "recording")
"""Settings, and sections of them, that are taken up without a restart; but for the next."""
NEEDING_RESTART: Final = ("rates.enabled", "recording.enabled", "recording.folder")

_log = structlog.get_logger(__name__)


class Reloadable(Protocol):
    """A gateway, in one process or in many."""

    def take_up(self, settings: GatewaySettings) -> None:
        """Goes on with settings that differ from those before in what is reloaded alone."""


@dataclass(frozen=True, slots=True)
class Change:
    """What became of settings that were read again."""

    settings: GatewaySettings
    """Those that the gateway goes on with."""
    taken_up: tuple[str, ...]
    """Settings that differ from before, by their keys."""
    left: tuple[str, ...]
    """Settings that were told anew and need a restart."""


def changed(before: GatewaySettings, told: GatewaySettings) -> Change:
    """Returns what is taken up of settings that were told anew.

    Args:
        before: What the gateway runs with.
        told: What its file, its environment and its command line say now.
    """
    differing = [
        each.key
        for each in describe(GatewaySettings)
        if _value(before, each.key) != _value(told, each.key)
    ]
    taken_up = tuple(key for key in differing if _is_reloaded(key))
    left = tuple(key for key in differing if not _is_reloaded(key))
    settings = reduce(
        lambda made, key: _with(made, key.split("."), _value(told, key)), taken_up, before
    )
    return Change(settings, taken_up, left)


def _is_reloaded(key: str) -> bool:
    return key.partition(".")[0] in RELOADED and key not in NEEDING_RESTART


def _value(settings: GatewaySettings, key: str) -> Any:  # noqa: ANN401 - of any setting
    return reduce(getattr, key.split("."), settings)


def _with(settings: Any, path: Sequence[str], value: Any) -> Any:  # noqa: ANN401 - or a section
    name, *rest = path
    inner = _with(getattr(settings, name), rest, value) if rest else value
    return settings.model_copy(update={name: inner})


class Reloading:
    """Reads the settings again, and has the gateway take them up.

    Args:
        settings: What the gateway was started with.
        read: Reads them again; raises `ConfigurationError`.
        gateway: Who takes them up.
        audit: Remembers what was reloaded.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        read: Callable[[], GatewaySettings],
        gateway: Reloadable,
        audit: AuditLog | None = None,
    ) -> None:
        self._audit = audit or AuditLog()
        self._settings = settings
        self._read = read
        self._gateway = gateway
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Has the settings read again soon."""
        self._asked.set()

    async def run(self) -> None:
        """Reads them again whenever that is asked for. Ends by being cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self.reload()

    async def reload(self) -> None:
        """Reads and takes up. Settings that became wrong change nothing but the log."""
        try:
            # A disk that is slow must not hold up what streams.
            told = await asyncio.to_thread(self._read)
        except ConfigurationError as error:
            _log.warning("settings.kept", error=str(error))
            self._audit.record(None, "config.reload", outcome=FAILED)
            return
        change = changed(self._settings, told)
        if change.taken_up:
            self._gateway.take_up(change.settings)
            self._settings = change.settings
        _log.info("settings.reloaded", settings=list(change.taken_up))
        self._audit.record(None, "config.reload", settings=",".join(change.taken_up))
        if change.left:
            _log.warning("settings.need_restart", settings=list(change.left))
