"""Model actors in this process, on unix sockets, with kept states of their own."""

from __future__ import annotations

from pathlib import Path

from opentelemetry.context import Context

from model_actor.engine.live_session import LiveSession
from model_actor.engine.services import Placement
from model_actor.host import ModelHost
from model_actor.settings import ActorSettings
from scheduler.core.ids import Principal

SECRET = "s" * 32


class Hosts:
    """Model actors of one machine."""

    def __init__(
        self, folder: Path, placement_address: str = "", *, model: str = "simulated"
    ) -> None:
        self._folder = folder
        self._model = model
        self._placement_address = placement_address or f"unix:{folder}/nobody"
        self.hosts: list[ModelHost] = []

    async def start(self) -> tuple[ModelHost, str]:
        name = f"a{len(self.hosts)}"
        host = ModelHost(
            ActorSettings(
                actor_id=name,
                placement_address=self._placement_address,
                lease_secret=SECRET,
                model=self._model,
                model_options={"chunk_ms": "20"} if self._model == "simulated" else {},
                listen=f"unix:{self._folder}/{name}",
                storage={"plugin": "filesystem", "root": str(self._folder / "storage")},
                encoder_threads=1,
                spare_decoders=0,
                snapshot_every=2,
                snapshot_root=str(self._folder / "kept"),
                host="here",
            )
        )
        self.hosts.append(host)
        return host, await host.start()

    @staticmethod
    def vanish(host: ModelHost) -> None:
        """The host's sessions freeze where they are: nothing is said, kept or computed."""
        for session in host.all():
            if isinstance(session, LiveSession):
                session._closed = True
                session._gateways.clear()

    async def stop(self) -> None:
        for host in self.hosts:
            await host.stop()


def placement(epoch: int, session_id: str = "s1", **told: bool) -> Placement:
    principal = Principal("t", frozenset())
    return Placement(session_id, epoch, principal, "simulated", Context(), **told)
