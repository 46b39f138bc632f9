"""Media workers as a front door knows them, played by servers of the test."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from aiohttp import web

from gateway.front_door.backend import Backend
from gateway.front_door.routing import Route, worker_of
from gateway.front_door.workers import NoWorkerError, WorkerDownError

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class FakeWorker:
    """One worker, up or down."""

    index: int
    backend: Backend | None


@dataclass
class FakeWorkers:
    """All of them; a route goes to whom it belongs."""

    all: Sequence[FakeWorker]
    are_serving: bool = True
    started: bool = True
    draining: bool = False
    routes: list[Route] = field(default_factory=list)

    @property
    def running(self) -> list[Backend]:
        return [each.backend for each in self.all if each.backend is not None]

    def choose(self, route: Route) -> Backend:
        self.routes.append(route)
        index = {
            "session": worker_of(route.key, len(self.all)),
            "worker": int(route.key) if route.aim == "worker" else 0,
        }.get(route.aim, 0)
        if index >= len(self.all):
            raise NoWorkerError("no such worker")
        backend = self.all[index].backend
        if backend is None:
            raise WorkerDownError("this part of the gateway starts again; try again")
        return backend


class Methods(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Handles gRPC methods, by their last name, with functions of the test: in bytes."""

    def __init__(self, **handlers: Any) -> None:
        self._handlers = {
            name: grpc.stream_stream_rpc_method_handler(handler)
            for name, handler in handlers.items()
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(handler_call_details.method.rpartition("/")[2])


@contextlib.asynccontextmanager
async def grpc_worker(folder: Path, index: int, methods: Methods) -> AsyncIterator[grpc.aio.Server]:
    """A worker's gRPC server at `address(folder, index, "grpc")`."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((methods,))
    server.add_insecure_port(address(folder, index, "grpc"))
    await server.start()
    try:
        yield server
    finally:
        await server.stop(None)


@contextlib.asynccontextmanager
async def http_worker(folder: Path, index: int, handle: Handle) -> AsyncIterator[web.AppRunner]:
    """A worker's HTTP server at `address(folder, index, "http")`."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, address(folder, index, "http").removeprefix("unix:")).start()
    try:
        yield runner
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def backends(folder: Path, count: int) -> AsyncIterator[FakeWorkers]:
    """Workers that are all up, wherever their servers are."""
    made = [
        Backend(index, address(folder, index, "http"), address(folder, index, "grpc"))
        for index in range(count)
    ]
    yield FakeWorkers([FakeWorker(each.index, each) for each in made])
    for each in made:
        await each.close()


def address(folder: Path, index: int, wire: str) -> str:
    return f"unix:{folder}/{index}.{wire}"
