"""Everything in one process: for development, tests and `serve --backend in-process`.

The scheduler has a thread of its own, every actor the threads that its shell makes. There
is no isolation: an actor that blocks the interpreter blocks all.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from scheduler.backends.launcher import DEFAULT_SHELL, ActorSpec, Found, Room, ShellHost
from scheduler.backends.loop_thread import LoopThread
from scheduler.core.ids import ActorId
from scheduler.runtime import SchedulerRuntime, SchedulerSettings

STOP_TIMEOUT_S = 15.0
"""How long stopping may take in all."""


@dataclass(slots=True, eq=False)
class _Running:
    """An actor in this process."""

    host: ShellHost
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    reason: str = "stopped"


class InProcessLauncher:
    """Runs shells in this process.

    Args:
        specs: What the actors of each model are told, the default first.
        shell: Dotted path of the shell's class.
        actors: How many actors to run.
    """

    def __init__(
        self, specs: Sequence[ActorSpec], *, shell: str = DEFAULT_SHELL, actors: int = 1
    ) -> None:
        self._specs = {spec.model: spec for spec in specs}
        self._shell = shell
        self._actors = actors
        self._starting: set[asyncio.Task[None]] = set()

    @property
    def models(self) -> Sequence[str]:
        """Models that it can launch."""
        return tuple(self._specs)

    async def room(self) -> Room:
        """Returns how many actors to run; one more costs but memory, for a while."""
        return Room(self._actors, surge=1 if self._actors else 0)

    async def leaving(self) -> Mapping[ActorId, float | None]:
        """Returns none: the process ends at once."""
        return {}

    async def wish(self, actors: int) -> None:
        """Does nothing: there is this process and no other."""

    async def adopt(self) -> Sequence[Found[_Running]]:
        """Finds none: actors end with the process."""
        return ()

    async def launch(self, actor: ActorId, model: str) -> _Running:
        """Begins to start an actor on a thread of its own."""
        spec = {**self._specs[model].for_actor(actor), "host": socket.gethostname()}
        host = await asyncio.to_thread(ShellHost, self._shell, spec)
        running = _Running(host)
        task = asyncio.create_task(self._start(running, actor))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return running

    async def _start(self, running: _Running, actor: ActorId) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[str | None] = loop.create_future()

        def settle(reason: str | None) -> None:
            if not done.done():
                done.set_result(reason)

        def start() -> None:
            # A daemon: a start that hangs must not keep the process from ending.
            try:
                running.host.start()
            except Exception as error:
                reason: str | None = type(error).__name__
            else:
                reason = None
            # The scheduler may have stopped meanwhile, and its loop with it.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, reason)

        threading.Thread(target=start, name=f"sana-actor-{actor}", daemon=True).start()
        reason = await done
        if reason is not None:
            running.reason = reason
            running.ended.set()

    async def ended(self, handle: _Running) -> str:
        """Returns why, once an actor was stopped or could not start."""
        await handle.ended.wait()
        return handle.reason

    async def kill(self, handle: _Running, *, grace: float = 0.0) -> None:
        """Stops an actor. Threads cannot be ended from outside, so the grace has no end."""
        del grace
        handle.ended.set()
        await asyncio.to_thread(handle.host.stop)


class LocalScheduler:
    """A scheduler in this process, with its actors. Used like the head of a Ray cluster.

    Args:
        settings: Settings of the scheduler.
        specs: What the actors of each model are told; none: actors come by themselves.
        shell: Dotted path of the actors' shell.
        actors: How many actors to run.
    """

    def __init__(
        self,
        settings: SchedulerSettings,
        specs: Sequence[ActorSpec] = (),
        *,
        shell: str = DEFAULT_SHELL,
        actors: int = 1,
    ) -> None:
        launcher = InProcessLauncher(specs, shell=shell, actors=actors) if specs else None
        self._runtime = SchedulerRuntime(settings, launcher)
        self._thread: LoopThread | None = None
        self._address = ""

    def start(self) -> str:
        """Starts the scheduler and returns the address of its Placement service.

        Raises:
            PluginError: There is no such placement policy.
            ConfigurationError: The address cannot be listened on.
        """
        self._thread = LoopThread("sana-scheduler")
        try:
            self._address = self._thread.run(self._runtime.start())
        except BaseException:
            self._thread.close()
            self._thread = None
            raise
        return self._address

    @property
    def address(self) -> str:
        """Address of the Placement service, once started."""
        return self._address

    def is_running(self) -> bool:
        """Tells whether it was started and not stopped."""
        return self._thread is not None

    def stop(self) -> None:
        """Ends the actors, then the scheduler. Stopping it again does nothing."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        try:
            thread.run(self._runtime.stop(end_actors=True), STOP_TIMEOUT_S)
        finally:
            thread.close()
