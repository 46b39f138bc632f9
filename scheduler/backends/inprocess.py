"""Everything in one process: for development, tests and `serve --backend in-process`.

The scheduler has a thread of its own, every actor the threads that its shell makes. There
is no isolation: an actor that blocks the interpreter blocks all.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from scheduler.backends.launcher import DEFAULT_SHELL, ActorSpec, ShellHost
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
        spec: What every actor is told.
        shell: Dotted path of the shell's class.
        actors: How many actors to run.
    """

    def __init__(self, spec: ActorSpec, *, shell: str = DEFAULT_SHELL, actors: int = 1) -> None:
        self._spec = spec
        self._shell = shell
        self._actors = actors
        self._starting: set[asyncio.Task[None]] = set()

    async def capacity(self) -> int:
        """Returns how many actors to run."""
        return self._actors

    async def adopt(self) -> Sequence[tuple[ActorId, _Running]]:
        """Finds none: actors end with the process."""
        return ()

    async def launch(self, actor: ActorId) -> _Running:
        """Begins to start an actor on a thread of its own."""
        host = await asyncio.to_thread(ShellHost, self._shell, self._spec.for_actor(actor))
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
        spec: What every actor is told; None: actors come by themselves.
        shell: Dotted path of the actors' shell.
        actors: How many actors to run.
    """

    def __init__(
        self,
        settings: SchedulerSettings,
        spec: ActorSpec | None = None,
        *,
        shell: str = DEFAULT_SHELL,
        actors: int = 1,
    ) -> None:
        launcher = None if spec is None else InProcessLauncher(spec, shell=shell, actors=actors)
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

    def stop(self) -> None:
        """Ends the actors, then the scheduler. Stopping it again does nothing."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        try:
            thread.run(self._runtime.stop(end_actors=True), STOP_TIMEOUT_S)
        finally:
            thread.close()
