"""The media workers: started, watched, started again, and chosen among."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog
from prometheus_client import Counter

from gateway.child_process import STOP_S, ChildError, ChildProcess, SilentChildError
from gateway.front_door.backend import Backend
from gateway.front_door.routing import Route, worker_of
from gateway.settings import GatewaySettings
from scheduler.core.errors import SanaGatewayError

START_S: Final = 60.0
"""How long a worker may take until it listens."""
FIRST_PAUSE_S: Final = 0.2
"""Pause before a worker that ended is started again; it doubles up to the next."""
MOST_PAUSE_S: Final = 5.0
SILENT_S: Final = 3.0
"""A worker that says nothing for this long, twice, hangs: it is killed and started again."""
EXPECTED_S: Final = 3.0
"""A creation that a worker was sent and has not counted after this long came to nothing."""
STEADY_S: Final = 10.0
"""A worker that lived this long begins anew at the first pause."""
REQUEST_IDS_KEPT: Final = 4096
"""Creations whose repeat goes to the same worker; the oldest are forgotten first."""
MODULE: Final = "gateway.front_door.worker"

_log = structlog.get_logger(__name__)

_RESTARTS = Counter(
    "sana_gateway_media_worker_restarts", "Media workers that ended by themselves.", ("index",)
)


class WorkerDownError(SanaGatewayError):
    """The worker that a call is for does not run just now."""


class NoWorkerError(SanaGatewayError):
    """There is no worker of this index."""


class MediaWorker:
    """One of the workers, through all its lives."""

    def __init__(self, index: int) -> None:
        """Begins without a process."""
        self.index = index
        self.backend: Backend | None = None
        """Its connections while it runs."""
        self.is_serving = False
        """Whether it runs and there is a model to ask for."""
        self.child: ChildProcess | None = None
        self.lives = 0
        self.began = 0.0
        self._sessions = 0
        self._expected: list[float] = []

    @property
    def load(self) -> int:
        """Sessions it has, as last heard, and those sent there since."""
        return self._sessions + len(self._expected)

    def expect_session(self) -> None:
        """A session is about to be created there."""
        self._expected.append(time.monotonic())

    def heard(self, report: dict[str, Any]) -> None:
        """It told how it is; where its sessions are as many as before, those that were just
        sent there are still on their way.
        """
        self.is_serving = bool(report["serving"])
        before, self._sessions = self._sessions, int(report["sessions"])
        since = time.monotonic() - EXPECTED_S if before == self._sessions else float("inf")
        self._expected = [at for at in self._expected if at > since]

    def ended(self) -> None:
        """Its process has ended."""
        self.backend, self.is_serving = None, False
        self._sessions, self._expected = 0, []


class MediaWorkers:
    """All workers of a front door."""

    def __init__(self, settings: GatewaySettings, on_change: Callable[[], None]) -> None:
        """Prepares; `start` starts them.

        Args:
            settings: What each is started with.
            on_change: Called when one of them comes, goes, or begins or ceases to serve.
        """
        self._settings = settings
        self._folder = Path()
        self._on_change = on_change
        self._placement_address = settings.placement_address
        self._tasks: list[asyncio.Task[None]] = []
        self._creators: OrderedDict[str, int] = OrderedDict()
        self._stopping = False
        self.started = False
        """Whether all of them have run at some time."""
        self.all = tuple(MediaWorker(index) for index in range(settings.media_workers))

    @property
    def are_serving(self) -> bool:
        """Whether all of them run and there is a model to ask for."""
        return all(worker.is_serving for worker in self.all)

    @property
    def draining(self) -> bool:
        """Whether they were told to end."""
        return self._stopping

    @property
    def running(self) -> list[Backend]:
        """Those that run."""
        return [worker.backend for worker in self.all if worker.backend is not None]

    async def start(self, folder: Path, placement_address: str = "") -> None:
        """Starts all of them; returns once they listen.

        Args:
            folder: Private folder for their sockets.
            placement_address: Address of the scheduler, where the settings do not know it.

        Raises:
            ChildError: One did not come up; its own words are on standard error.
        """
        self._folder = folder
        self._placement_address = placement_address or self._placement_address
        starting = [asyncio.create_task(self._launch(worker)) for worker in self.all]
        try:
            await asyncio.gather(*starting)
        finally:
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
        self.started = True
        self._tasks = [
            asyncio.create_task(self._keep(worker), name=f"media worker {worker.index}")
            for worker in self.all
        ]

    async def run(self) -> None:
        """Returns never, unless watching over them breaks; then raises what broke it."""
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        """Ends all of them; each tells its clients first. Repeating it is no error."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._end(worker) for worker in self.all))

    def take_up(self, settings: GatewaySettings) -> None:
        """Tells all workers, those that are started later too, the settings to go on with."""
        self._settings = settings
        for worker in self.all:
            if worker.child is not None:
                worker.child.tell(json.dumps(self._told()).encode() + b"\n")

    def _told(self) -> dict[str, Any]:
        """Returns the settings of the workers."""
        own = {"placement_address": self._placement_address}
        return self._settings.model_dump(mode="json") | own

    def choose(self, route: Route) -> Backend:
        """Returns the worker that a call is for.

        Raises:
            WorkerDownError: It does not run just now.
            NoWorkerError: There is none of this index.
        """
        if self._stopping:
            raise WorkerDownError("this gateway is stopping")
        worker = self._aimed_at(route)
        if worker.backend is None:
            raise WorkerDownError("this part of the gateway starts again; try again")
        if route.aim == "create":
            worker.expect_session()
        return worker.backend

    def _aimed_at(self, route: Route) -> MediaWorker:
        match route.aim:
            case "session":
                return self.all[worker_of(route.key, len(self.all))]
            case "create":
                return self._creator(route.key)
            case "worker":
                if len(route.key) > 3 or int(route.key) >= len(self.all):
                    raise NoWorkerError("no such worker")
                return self.all[int(route.key)]
            case "any":
                return self.all[0]

    def _creator(self, request_id: str) -> MediaWorker:
        """Returns the worker with the fewest sessions, or where the request went before.

        What a worker remembers of requests is lost with it, and this with all of them: no
        memory outlives the other.
        """
        index = self._creators.get(request_id)
        if index is not None:
            return self.all[index]
        running = [worker for worker in self.all if worker.backend is not None]
        # Of those with the same load none is preferred.
        chosen = min(running or self.all, key=lambda each: (each.load, random.random()))  # noqa: S311
        if request_id and running:
            self._creators[request_id] = chosen.index
            if len(self._creators) > REQUEST_IDS_KEPT:
                self._creators.popitem(last=False)
        return chosen

    async def _keep(self, worker: MediaWorker) -> None:
        pause = FIRST_PAUSE_S
        while True:
            patience_s = STOP_S
            try:
                if worker.child is None:
                    await self._launch(worker)
                await self._follow(worker)
            except SilentChildError as error:
                reason, patience_s = str(error), 0.0
            except ChildError as error:
                reason = str(error)
            except OSError as error:
                # No descriptor or no process is to be had just now: the others serve on.
                reason = f"no process could be started ({type(error).__name__})"
            await self._end(worker, patience_s)
            if time.monotonic() - worker.began > STEADY_S:
                pause = FIRST_PAUSE_S
            _RESTARTS.labels(str(worker.index)).inc()
            _log.warning("media_worker.ended", worker=worker.index, reason=reason, again_in_s=pause)
            await asyncio.sleep(pause)
            pause = min(MOST_PAUSE_S, pause * 2)

    async def _launch(self, worker: MediaWorker) -> None:
        """Starts a worker's process; returns once it listens."""
        worker.lives += 1
        worker.began = time.monotonic()
        # Sockets of its own for each life: nothing is left to trip over.
        stem = self._folder / f"{worker.index}.{worker.lives}"
        sockets = {"http": f"unix:{stem}.http", "grpc": f"unix:{stem}.grpc"}
        told = {
            "index": worker.index,
            "sockets": sockets,
            "settings": self._told(),
        }
        # Through the pipe: among the arguments everybody could read the secrets of settings.
        worker.child = await ChildProcess.start(
            f"media worker {worker.index}", ("-m", MODULE), json.dumps(told).encode() + b"\n"
        )
        try:
            async with asyncio.timeout(START_S):
                report = await worker.child.announced()
        except TimeoutError:
            raise ChildError(f"media worker {worker.index} did not start in time") from None
        worker.heard(report)
        worker.backend = Backend(worker.index, sockets["http"], sockets["grpc"])
        _log.info("media_worker.listening", worker=worker.index, pid=worker.child.pid)
        self._on_change()

    async def _follow(self, worker: MediaWorker) -> None:
        """Reads a worker's reports.

        Raises:
            ChildError: It has ended, or hangs.
        """
        assert worker.child is not None  # noqa: S101 - launched before
        while True:
            report = await worker.child.heard(SILENT_S)
            changed = worker.is_serving is not bool(report["serving"])
            worker.heard(report)
            if changed:
                self._on_change()

    async def _end(self, worker: MediaWorker, patience_s: float = STOP_S) -> None:
        backend, child = worker.backend, worker.child
        if child is not None:
            # Calls under way hear its last words first.
            await child.stop(patience_s)
        worker.child = None
        worker.ended()
        self._on_change()
        if backend is not None:
            await backend.close()
        for socket in self._folder.glob(f"{worker.index}.{worker.lives}.*"):
            with suppress(OSError):
                socket.unlink()
