"""The shell that launchers start (`scheduler.backends.launcher` states its contract).

It imports no Ray: the backend wraps it, in a Ray actor or in this very process.
"""

from __future__ import annotations

from typing import Any

from model_actor.host import ModelHost
from model_actor.settings import ActorSettings


class ModelActorShell:
    """One model actor, on the event loop that the backend gives it."""

    def __init__(self, spec: dict[str, Any]) -> None:
        """Reads the settings; `start` does the work."""
        self._settings = ActorSettings.from_spec(spec)
        self._host: ModelHost | None = None

    async def start(self) -> str:
        """Loads the model and serves.

        Returns:
            The address of the data plane.

        Raises:
            PluginError: The model or the storage is missing or broken.
        """
        self._host = ModelHost(self._settings)
        return await self._host.start()

    async def drain(self, grace_s: float) -> None:
        """Its process is to end in so many seconds: its sessions go elsewhere meanwhile."""
        if self._host is not None:
            self._host.begin_drain(grace_s)

    async def stop(self) -> None:
        """Ends its sessions and releases everything. Repeating it is no error."""
        host, self._host = self._host, None
        if host is not None:
            await host.stop()
