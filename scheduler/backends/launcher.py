"""How the scheduler makes and ends the processes of model actors, whatever runs them.

A *shell* is the class that a backend instantiates where the actor runs. It is named by a
dotted path, resolved there, so that the scheduler never imports a model. Its contract:

    shell = Shell(spec)          # cheap; `spec` is a JSON-able dict, see `ActorSpec`
    address = shell.start()      # or `await`; the data-plane address, once it serves
    shell.drain(grace_s)         # or `await`; its process is to end in so many seconds
    shell.stop()                 # or `await`; ends what `start` began
"""

from __future__ import annotations

import importlib
import inspect
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from scheduler.backends.loop_thread import LoopThread
from scheduler.core.errors import ConfigurationError
from scheduler.core.ids import ActorId

DEFAULT_SHELL = "model_actor.actor:ModelActorShell"
BITRATE = 2_500_000
"""Bits per second of an output to begin with, unless told otherwise."""
PREFLIGHT = "model_actor.settings:check"
"""Dotted path of what refuses a spec that the default shell could not start with."""

_HandleT = TypeVar("_HandleT")
_FoundT = TypeVar("_FoundT", covariant=True)


@dataclass(frozen=True, slots=True)
class ActorSpec:
    """What every actor of a service is told. JSON-able throughout."""

    model: str
    """Name of the model plugin."""
    placement_address: str
    """Where the scheduler's Placement service listens, as grpcio takes it."""
    lease_secret: str = field(repr=False)
    """Verifies lease tokens."""
    listen: str
    """Where the data plane listens, `unix:...` or `host:port`. `{actor_id}` is filled in, and
    by backends of several hosts `{node_ip}`, the address of the host that the actor is on."""
    model_options: Mapping[str, str] = field(default_factory=dict)
    storage: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the storage."""
    otlp_endpoint: str | None = None
    """Collector of traces."""
    trace_ratio: float = 1.0
    """Share of the traces begun there that is recorded."""
    log: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the log."""
    bitrate: int = BITRATE
    """Bits per second of an output to begin with."""
    encoder_threads: int = 0
    """Threads that encode; 0: one a core."""
    encoder: str = "auto"
    """What encodes: `auto`, `software` or `nvenc`."""
    spare_decoders: int = 1
    """Decode processes kept warm."""
    decode_limits: Mapping[str, str] = field(default_factory=dict)
    """Bounds on clips and cameras, by name."""
    snapshot_every: int = 4
    """Windows after which the model's part of a session's state is kept anew."""
    snapshot_root: str = ""
    """Folder in the memory of the host for kept states. Filled in where the actor runs."""
    snapshot_bytes: int = 0
    """Memory for kept states of one host; 0: as much as the folder takes."""
    store_after_s: float | None = 600.0
    """How long the state of a session that is on no actor stays on the host before it goes to
    the storage; None: it stays there."""
    kept_for_s: float = 24 * 3600.0
    """How long it is kept in either, unless somebody says that it is needed still."""
    journal: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the journals of sessions; empty: none are kept."""
    host: str = ""
    """Name of the host that the actor is on. Filled in there."""
    tls: str = ""
    """Folder with the certificate that it shows and asks for; empty: TCP stays in the clear. A
    host that has its own somewhere else fills it in."""

    def for_actor(self, actor: ActorId) -> dict[str, Any]:
        """Returns the dict that the shell of an actor is made with."""
        spec = asdict(self)
        spec["actor_id"] = actor
        spec["listen"] = self.listen.replace("{actor_id}", actor)
        return spec


@dataclass(frozen=True, slots=True)
class Room:
    """How many actors a backend can run."""

    actors: int
    """As a rule."""
    surge: int = 0
    """Beyond that, for as long as others are being drained."""


@dataclass(frozen=True, slots=True)
class Found(Generic[_FoundT]):
    """An actor that runs already."""

    actor: ActorId
    model: str
    handle: _FoundT


class ActorLauncher(Protocol[_HandleT]):
    """A backend's way to run actors. Handles are its own and opaque to all others."""

    @property
    def models(self) -> Sequence[str]:
        """Models that it can launch, the default first; at least one."""

    async def room(self) -> Room:
        """Returns how many actors there is room for in all."""

    async def leaving(self) -> Mapping[ActorId, float | None]:
        """Returns the actors whose host is to go, and in how many seconds if that is known."""

    async def wish(self, actors: int) -> None:
        """Says how many actors the demand needs, to whoever can make room for them."""

    async def adopt(self) -> Sequence[Found[_HandleT]]:
        """Finds the actors that run already."""

    async def launch(self, actor: ActorId, model: str) -> _HandleT:
        """Begins to start an actor of one of the models and returns at once."""

    async def ended(self, handle: _HandleT) -> str:
        """Returns why, once an actor has ended or could not start. May be cancelled."""

    async def kill(self, handle: _HandleT, *, grace: float = 0.0) -> None:
        """Ends an actor, whatever it does. Ending an ended one is no error.

        Args:
            handle: The actor.
            grace: Seconds it gets to stop by itself.
        """


class ShellHost:
    """Runs a shell where the backend wants it. Methods block; they may come from any thread.

    Args:
        shell: Dotted path of the shell's class.
        spec: What it is made with.

    Raises:
        ConfigurationError: There is no such class.
    """

    def __init__(self, shell: str, spec: dict[str, Any]) -> None:
        self._shell = resolve(shell)(spec)
        self._loop: LoopThread | None = None
        self._making = threading.Lock()
        self._ended = threading.Event()

    def start(self) -> str:
        """Starts the shell and returns the address of its data plane."""
        return str(self._call(self._shell.start))

    def join(self) -> None:
        """Returns once the shell was stopped."""
        self._ended.wait()

    def drain(self, grace: float) -> None:
        """Says that the process is to end in so many seconds; the scheduler empties it."""
        self._call(lambda: self._shell.drain(grace))

    def stop(self) -> None:
        """Stops the shell. Stopping it again does nothing."""
        if self._ended.is_set():
            return
        try:
            self._call(self._shell.stop)
        finally:
            if self._loop is not None:
                self._loop.close()
            self._ended.set()

    def _call(self, method: Any) -> Any:  # noqa: ANN401 - of a class that is not known here
        result = method()
        if not inspect.isawaitable(result):
            return result
        with self._making:
            if self._loop is None:
                self._loop = LoopThread("actor-shell")
        return self._loop.run(_awaited(result))


def resolve(path: str) -> Any:  # noqa: ANN401 - of a class that is not known here
    """Imports what a dotted path `package.module:Name` names.

    Raises:
        ConfigurationError: There is no such thing.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"there is no class {path!r}") from error


async def _awaited(result: Any) -> Any:  # noqa: ANN401 - of a class that is not known here
    return await result
