"""A pool with a thousand sessions, on a machine that could not compute one of them.

Scheduler and gateway are the real ones. Actors, and the gateway that the sessions' clients would
be connected to, are made up: they speak the internal contract, beat, tell of chunks and of spans,
take sessions in, hand them over when they are drained, and give them up when they are ended. For
tests of what operators see.

    python -m tests.fakes.busy_pool --http-port 8090 --sessions 1000

prints one JSON line with its addresses once everything stands, and ends with SIGTERM, SIGINT or
the end of standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import grpc.aio

from gateway.process import GatewayProcess
from gateway.settings import GatewaySettings
from sana_gateway.v1 import event_pb2, session_pb2
from sana_gateway_internal.v1 import placement_pb2 as pb
from sana_gateway_internal.v1 import placement_pb2_grpc
from scheduler.backends.inprocess import LocalScheduler
from scheduler.core.pool_events import PoolRules
from scheduler.core.tenants import TenantRules
from scheduler.process.logging import configure_logging
from scheduler.runtime import SchedulerSettings

MODEL: Final = "sana-streaming"
HOSTS: Final = {"gpu-host-1": 3, "gpu-host-2": 3, "gpu-host-3": 2}
"""GPUs of each host."""
TENANTS: Final = {"acme": 2, "globex": 0, "initech": 0, "umbrella": 1}
"""Their priorities."""
PARKED_SHARE: Final = 0.04
QUEUED_SHARE: Final = 0.024
RESERVE: Final = 0.1
BEAT_S: Final = 0.5
CHUNK_S: Final = 1.0
"""Play-out time of a chunk."""
PARK_AFTER_S: Final = 2.0
LATE_SHARE: Final = 0.01
_GATEWAY: Final = "g-busy"


@dataclass
class Shown:
    """A session on an actor."""

    epoch: int
    tenant: str
    computing: bool = True
    run: int = 1
    chunk: int = 0
    next_at: float = 0.0
    """When its next chunk is finished, in seconds since 1970."""


@dataclass
class Sizes:
    """How many there are of what."""

    sessions: int = 1000
    changes: float = 2.0
    """Sessions that end, and new ones that ask for a place, in a second."""

    @property
    def parked(self) -> int:
        """Sessions that are on no actor."""
        return round(self.sessions * PARKED_SHARE)

    @property
    def queued(self) -> int:
        """Sessions that wait for a place."""
        return round(self.sessions * QUEUED_SHARE)

    @property
    def placed(self) -> int:
        """Sessions that compute."""
        return self.sessions - self.parked - self.queued


@dataclass
class Actor:
    """A made-up actor."""

    name: str
    host: str
    gpu: int
    slots: int
    draw: random.Random
    sessions: dict[str, Shown] = field(default_factory=dict)
    said: asyncio.Queue[pb.EnrollRequest] = field(default_factory=asyncio.Queue)
    watched: bool = False
    followed: tuple[str, ...] = ()

    def register(self) -> pb.Register:
        """Returns what it says of itself."""
        return pb.Register(
            actor_id=self.name,
            models=[MODEL],
            address=f"{self.host}:50211",
            host=self.host,
            gpus=str(self.gpu),
            capabilities=session_pb2.Capabilities(frame_rate=8.0, width=832, height=480),
            resident_slots=self.slots,
            resident_bytes=self.slots << 28,
            session_bytes=1 << 28,
            chunk_ms=800.0 / self.slots,
            period_ms=CHUNK_S * 1e3,
            encode_capacity_ms=16_000.0,
            encode_ms=20.0,
            sessions=[
                pb.HeldSession(
                    session_id=session,
                    epoch=each.epoch,
                    computing=each.computing,
                    principal=pb.Principal(tenant=each.tenant, scopes=["session"]),
                    model=MODEL,
                )
                for session, each in self.sessions.items()
            ],
        )

    def beat(self) -> pb.Heartbeat:
        """Returns what it tells every half second."""
        now = time.time()
        beat = pb.Heartbeat(chunk_ms=800.0 / self.slots)
        for session, each in self.sessions.items():
            while each.computing and each.next_at <= now:
                beat.chunks += 1
                self._made(beat, session, each)
        beat.windows, beat.batches = beat.chunks, (beat.chunks + 3) // 4
        if beat.chunk_events:
            beat.time.FromMicroseconds(round(now * 1e6))
        return beat

    def _made(self, beat: pb.Heartbeat, session: str, each: Shown) -> None:
        finish, each.next_at = each.next_at or time.time(), (each.next_at or time.time()) + CHUNK_S
        each.chunk += 1
        is_late = self.draw.random() < LATE_SHARE
        beat.late_chunks += is_late
        took_s = 0.05 + 0.05 * self.draw.random()
        if self.watched and len(beat.chunk_events) < 128:
            slack_s = -0.02 - 0.1 * self.draw.random() if is_late else 0.2 * self.draw.random()
            told = beat.chunk_events.add(
                session_id=session,
                run=each.run,
                chunk=each.chunk,
                slack_us=round(slack_s * 1e6),
                late=is_late,
                compute_us=round(took_s / 4 * 1e6),
                wait_us=self.draw.randrange(20_000),
                batch=4,
            )
            told.finish_time.FromMicroseconds(round(finish * 1e6))
            told.begin_time.FromMicroseconds(round((finish - took_s) * 1e6))
        if session in self.followed:
            beat.spans.sessions.append(self._spans(session, each, finish - took_s, took_s))

    def _spans(self, session: str, each: Shown, at: float, took_s: float) -> event_pb2.TraceSpans:
        """Returns the spans of a chunk, of which every fifth answers a command."""
        told = event_pb2.TraceSpans(session_id=session)
        trace, chunk = secrets.token_hex(16), secrets.token_hex(8)
        process, parent = f"actor {self.name}", ""

        def span(name: str, begin: float, lasted: float, **words: Any) -> str:
            made = told.spans.add(trace_id=trace, name=name, process=process, **words)
            made.span_id = made.span_id or secrets.token_hex(8)
            made.begin_time.FromMicroseconds(round(begin * 1e6))
            made.duration_us = round(lasted * 1e6)
            return made.span_id

        if each.chunk % 5 == 0:
            named = {"command.name": "set_prompt"}
            call = span("gateway.execute", at - 0.06, 0.055)
            command = span("gateway.command", at - 0.059, 0.001, parent_id=call, attributes=named)
            parent = span("actor.command", at - 0.05, 0.002, parent_id=command, attributes=named)
        about = {
            "chunk.run": f"{each.run}",
            "chunk.index": f"{each.chunk}",
            "chunk.outcome": "shown",
        }
        span(
            "actor.chunk",
            at - 0.01,
            took_s + 1.1,
            span_id=chunk,
            parent_id=parent,
            attributes=about,
        )
        span("actor.queue", at - 0.01, 0.01, parent_id=chunk)
        for number, stage in enumerate(("encode", "denoise", "decode")):
            span(f"actor.stage.{stage}", at + number * took_s / 3, took_s / 3, parent_id=chunk)
        span(
            "actor.encode", at + took_s, 0.9, parent_id=chunk, attributes={"encode.busy_ms": "21.5"}
        )
        span("actor.send", at + took_s + 0.01, 0.95, parent_id=chunk)
        if parent:
            span("gateway.first_packet", at + took_s + 0.02, 0.0002, parent_id=chunk)
        for each_span in told.spans:
            if each_span.name.startswith("gateway"):
                each_span.process = f"gateway {_GATEWAY}"
        return told

    def say(self, **words: Any) -> None:
        """Tells the scheduler something."""
        self.said.put_nowait(pb.EnrollRequest(**words))

    def hear(self, order: pb.EnrollResponse) -> str:
        """Does what the scheduler says; returns the session that is to ask for compute."""
        match order.WhichOneof("response"):
            case "admit":
                admit = order.admit
                self.sessions[admit.session_id] = Shown(
                    admit.epoch, admit.principal.tenant, admit.computing, next_at=time.time()
                )
                self.say(admitted=pb.Admitted(session_id=admit.session_id, epoch=admit.epoch))
                return "" if admit.computing else admit.session_id
            case "evict":
                self.sessions.pop(order.evict.session_id, None)
            case "park":
                park = order.park
                self.sessions.pop(park.session_id, None)
                kept = pb.Parked(session_id=park.session_id, epoch=park.epoch, host=self.host)
                self.say(parked=kept)
            case "watch_chunks":
                self.watched = order.watch_chunks.watched
            case "follow_traces":
                self.followed = tuple(order.follow_traces.session_ids)
        return ""


class BusyPool:
    """The actors, and the gateway of their sessions' clients.

    Args:
        stub: Of the scheduler.
        sizes: How many there are of what.
        seed: Of what is drawn.
    """

    def __init__(self, stub: Any, sizes: Sizes, seed: int = 1) -> None:
        self._stub = stub
        self._sizes = sizes
        self._draw = random.Random(seed)
        self._counts: dict[str, int] = {}
        self._changed = asyncio.Event()
        gpus = [(host, gpu) for host, count in HOSTS.items() for gpu in range(count)]
        held = -(-sizes.placed // len(gpus))
        # As many as there are, the parked ones among them, and then those that wait stay waiting.
        self.actors = {
            name: Actor(name, host, gpu, int(held / (1 - RESERVE)), random.Random(seed + number))
            for number, (host, gpu) in enumerate(gpus)
            for name in [f"{host[-1]}{gpu}{self._draw.getrandbits(24):06x}"]
        }
        for number in range(sizes.placed + sizes.parked):
            actor = list(self.actors.values())[number % len(gpus)]
            computing = number < sizes.placed
            next_at = time.time() + self._draw.random() * CHUNK_S
            session = self._new()
            actor.sessions[session] = Shown(1 + number, self._tenant(), computing, next_at=next_at)
            self._counts[session] = 1

    def _new(self) -> str:
        return f"s{self._draw.getrandbits(128):032x}"

    def _tenant(self) -> str:
        return self._draw.choice(list(TENANTS))

    async def run(self) -> None:
        """Goes on until cancelled."""
        async with asyncio.TaskGroup() as group:
            for actor in self.actors.values():
                group.create_task(self._enrolled(actor, group))
            group.create_task(self._presence())
            for _ in range(self._sizes.queued):
                group.create_task(self._ask())
            group.create_task(self._change(group))

    async def _enrolled(self, actor: Actor, group: asyncio.TaskGroup) -> None:
        call = self._stub.Enroll(self._reports(actor))
        async for order in call:
            if order.HasField("retire"):
                call.cancel()
                return
            if (session := actor.hear(order)) and session in actor.sessions:
                group.create_task(self._book(actor, session))

    async def _reports(self, actor: Actor) -> AsyncIterator[pb.EnrollRequest]:
        yield pb.EnrollRequest(register=actor.register())
        loop = asyncio.get_running_loop()
        beat_at = loop.time() + self._draw.random() * BEAT_S
        while True:
            said = None
            with suppress(TimeoutError):
                async with asyncio.timeout_at(beat_at):
                    said = await actor.said.get()
            if said is not None:
                yield said
            if loop.time() >= beat_at:
                beat_at += BEAT_S
                yield pb.EnrollRequest(heartbeat=actor.beat())

    async def _book(self, actor: Actor, session: str) -> None:
        shown = actor.sessions[session]
        with suppress(grpc.aio.AioRpcError):
            asked = pb.BookRequest(session_id=session, epoch=shown.epoch)
            shown.computing = (await self._stub.Book(asked)).booked

    async def _presence(self) -> None:
        async for news in self._stub.Presence(self._connections()):
            if news.HasField("moves"):
                self._move(news.moves.lease)
            elif news.HasField("ended"):
                self._counts.pop(news.ended.session_id, None)

    async def _connections(self) -> AsyncIterator[pb.PresenceRequest]:
        while True:
            counts = [pb.Connections(session_id=k, count=n) for k, n in self._counts.items()]
            yield pb.PresenceRequest(gateway_id=_GATEWAY, connections=counts)
            await self._changed.wait()
            self._changed.clear()

    def _move(self, lease: pb.Lease) -> None:
        """A session goes from one actor to another."""
        session, to = lease.session_id, self.actors[lease.actor_id]
        for actor in self.actors.values():
            if actor is not to and (left := actor.sessions.pop(session, None)) is not None:
                to.sessions[session] = Shown(
                    lease.epoch, left.tenant, left.computing, left.run, left.chunk, left.next_at
                )
                to.say(restored=pb.Restored(session_id=session, epoch=lease.epoch))
                actor.say(departed=pb.Departed(session_id=session, epoch=left.epoch))

    async def _ask(self) -> None:
        """A session asks for a place, and waits for it."""
        session = self._new()
        asked = pb.PlaceRequest(
            session_id=session,
            model=MODEL,
            principal=pb.Principal(tenant=self._tenant(), scopes=["session"]),
            gateway_id=_GATEWAY,
        )
        with suppress(grpc.aio.AioRpcError):
            async for _ in self._stub.Place(asked):
                pass
            self._counts[session] = 1
            self._changed.set()

    async def _change(self, group: asyncio.TaskGroup) -> None:
        """Sessions end, and others ask for their places."""
        if not self._sizes.changes:
            return
        while True:
            await asyncio.sleep(1.0 / self._sizes.changes)
            actor = self._draw.choice(list(self.actors.values()))
            if actor.sessions:
                session = self._draw.choice(list(actor.sessions))
                self._counts.pop(session, None)
                released = pb.ReleaseRequest(session_id=session, reason="closed by its client")
                with suppress(grpc.aio.AioRpcError):
                    await self._stub.Release(released)
                group.create_task(self._ask())


@asynccontextmanager
async def busy_pool(
    folder: str, sizes: Sizes | None = None, **settings: Any
) -> AsyncIterator[GatewayProcess]:
    """Runs a busy pool; yields the gateway that operators ask.

    Args:
        folder: For sockets and files.
        sizes: How many there are of what.
        settings: Of the gateway.
    """
    sizes = sizes or Sizes()
    rules = PoolRules(
        queue_limit=4 * sizes.queued + 64,
        resume_reserve=RESERVE,
        park_after=PARK_AFTER_S,
        start_grace=PARK_AFTER_S,
        reconnect_window=3600.0,
        tenants={name: TenantRules(priority=at) for name, at in TENANTS.items()},
    )
    scheduler = LocalScheduler(
        SchedulerSettings(
            address=f"unix:{folder}/scheduler",
            lease_secret=secrets.token_hex(32),
            rules=rules,
            settle_time=0.0,
        )
    )
    async with AsyncExitStack() as opened:
        await asyncio.to_thread(scheduler.start)
        opened.push_async_callback(asyncio.to_thread, scheduler.stop)
        channel = await opened.enter_async_context(grpc.aio.insecure_channel(scheduler.address))
        pool = BusyPool(placement_pb2_grpc.PlacementStub(channel), sizes)
        running = asyncio.create_task(pool.run())
        opened.push_async_callback(_ended, running)
        gateway = GatewayProcess(
            GatewaySettings(
                **{
                    "http_port": 0,
                    "grpc_port": 0,
                    "placement_address": scheduler.address,
                    "storage_options": {"root": f"{folder}/storage"},
                    **settings,
                }
            )
        )
        await gateway.start()
        opened.push_async_callback(gateway.stop)
        await gateway.wait_serving()
        yield gateway


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _main() -> None:
    parser = argparse.ArgumentParser(description="Run a pool with many made-up sessions.")
    parser.add_argument("--http-port", type=int, default=0)
    parser.add_argument("--grpc-port", type=int, default=0)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--changes", type=float, default=2.0, help="sessions that come in a second")
    parser.add_argument("--api-keys", default="", help="file of keys; without, nobody is asked")
    told = parser.parse_args()
    auth = {"auth": "api-key", "api_keys": told.api_keys} if told.api_keys else {}
    configure_logging("warning", service="busy-pool")
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)

    def read() -> None:
        sys.stdin.read()
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(stopping.set)

    threading.Thread(target=read, daemon=True).start()
    sizes = Sizes(told.sessions, told.changes)
    ports = {"http_port": told.http_port, "grpc_port": told.grpc_port}
    with tempfile.TemporaryDirectory() as folder:
        async with busy_pool(folder, sizes, **ports, **auth) as gateway:
            addresses = {"url": gateway.http_url, "grpc": gateway.grpc_address}
            print(json.dumps(addresses), flush=True)
            await stopping.wait()


if __name__ == "__main__":
    asyncio.run(_main())
