"""Stands in for the backends' port and for the model actors that they run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc.aio

from sana_gateway_internal.v1 import placement_pb2, placement_pb2_grpc
from scheduler.backends.launcher import Found, Room
from scheduler.core.ids import ActorId


@dataclass(eq=False)
class FakeActor:
    """An actor without a process."""

    actor: ActorId
    model: str = "model"
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    killed: bool = False
    grace: float | None = None
    """What it was given when it was killed."""


class FakeLauncher:
    """Remembers what it was asked; actors end when a test says so."""

    def __init__(
        self,
        room: int = 1,
        running: Sequence[FakeActor] = (),
        *,
        surge: int = 0,
        models: Sequence[str] = ("model",),
    ) -> None:
        self.actors = room
        self.surge = surge
        self.models = models
        self.running = list(running)
        self.going: dict[ActorId, float | None] = {}
        """Actors whose host is to go."""
        self.wishes: list[int] = []
        self.failures = 0
        """Launches that fail before one succeeds."""
        self.launched: asyncio.Queue[FakeActor] = asyncio.Queue()
        self.kills: asyncio.Queue[FakeActor] = asyncio.Queue()
        self._surveys = asyncio.Semaphore(0)

    async def room(self) -> Room:
        self._surveys.release()
        return Room(self.actors, self.surge)

    async def leaving(self) -> Mapping[ActorId, float | None]:
        return dict(self.going)

    async def wish(self, actors: int) -> None:
        self.wishes.append(actors)

    async def surveyed(self, times: int) -> None:
        """Returns after it was asked so many times more for its room."""
        while not self._surveys.locked():
            await self._surveys.acquire()
        for _ in range(times):
            await self._surveys.acquire()

    async def adopt(self) -> Sequence[Found[FakeActor]]:
        return [Found(actor.actor, actor.model, actor) for actor in self.running]

    async def launch(self, actor: ActorId, model: str) -> FakeActor:
        if self.failures:
            self.failures -= 1
            raise OSError("no room")
        made = FakeActor(actor, model)
        self.launched.put_nowait(made)
        return made

    async def ended(self, handle: FakeActor) -> str:
        await handle.ended.wait()
        return "ended by the test"

    async def kill(self, handle: FakeActor, *, grace: float = 0.0) -> None:
        handle.killed, handle.grace = True, grace
        self.kills.put_nowait(handle)


class EnrollingShell:
    """A shell without a model: enrols, beats, admits every session, and goes on with one that
    existed before as if a gateway had given it its snapshot.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._held: dict[str, placement_pb2.HeldSession] = {}
        self._answers: asyncio.Queue[placement_pb2.EnrollRequest] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._ends_in_us = 0

    async def start(self) -> str:
        registered = asyncio.Event()
        self._tasks = [
            asyncio.create_task(self._enroll(registered)),
            asyncio.create_task(self._beat()),
        ]
        await registered.wait()
        return str(self._spec["listen"])

    async def drain(self, grace_s: float) -> None:
        self._ends_in_us = round(grace_s * 1e6)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            heartbeat = placement_pb2.Heartbeat(ends_in_us=self._ends_in_us)
            beat = placement_pb2.EnrollRequest(heartbeat=heartbeat)
            self._answers.put_nowait(beat)
            await asyncio.sleep(0.2)

    async def _requests(self) -> AsyncIterator[placement_pb2.EnrollRequest]:
        options = self._spec["model_options"]
        yield placement_pb2.EnrollRequest(
            register=placement_pb2.Register(
                actor_id=self._spec["actor_id"],
                models=[self._spec["model"]],
                address=self._spec["listen"],
                resident_slots=int(options.get("slots", "2")),
                chunk_ms=100,
                period_ms=1000,
                host=self._spec["host"],
                sessions=self._held.values(),
            )
        )
        while True:
            yield await self._answers.get()

    async def _enroll(self, registered: asyncio.Event) -> None:
        async with grpc.aio.insecure_channel(self._spec["placement_address"]) as channel:
            stub = placement_pb2_grpc.PlacementStub(channel)
            while True:
                with suppress(grpc.aio.AioRpcError):
                    call = stub.Enroll(self._requests(), wait_for_ready=True)
                    await call.initial_metadata()
                    registered.set()
                    async for response in call:
                        self._obey(response)
                await asyncio.sleep(0.1)

    def _obey(self, response: placement_pb2.EnrollResponse) -> None:
        if response.HasField("evict"):
            self._held.pop(response.evict.session_id, None)
        elif response.HasField("park"):
            self._park(response.park)
        elif response.HasField("admit"):
            self._admit(response.admit)

    def _park(self, park: placement_pb2.Park) -> None:
        self._held.pop(park.session_id, None)
        parked = placement_pb2.Parked(session_id=park.session_id, epoch=park.epoch)
        if not park.store:
            parked.host = self._spec["host"]
        self._answers.put_nowait(placement_pb2.EnrollRequest(parked=parked))

    def _admit(self, admit: placement_pb2.Admit) -> None:
        self._held[admit.session_id] = placement_pb2.HeldSession(
            session_id=admit.session_id,
            epoch=admit.epoch,
            principal=admit.principal,
            model=admit.model,
        )
        admitted = placement_pb2.Admitted(session_id=admit.session_id, epoch=admit.epoch)
        self._answers.put_nowait(placement_pb2.EnrollRequest(admitted=admitted))
        if admit.restore:
            restored = placement_pb2.Restored(session_id=admit.session_id, epoch=admit.epoch)
            self._answers.put_nowait(placement_pb2.EnrollRequest(restored=restored))


class BrokenShell:
    """A shell whose start fails."""

    starts = threading.Semaphore(0)
    """Released at every attempt."""

    def __init__(self, spec: dict[str, Any]) -> None:
        del spec

    def start(self) -> str:
        self.starts.release()
        raise RuntimeError("cannot load the model")

    def stop(self) -> None:
        return
