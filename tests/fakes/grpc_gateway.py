"""A real gRPC server over the fakes, and what tests of its streams need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from gateway.grpc_api.server import GrpcIngress
from gateway.ingress import IngressServices


@asynccontextmanager
async def grpc_gateway(services: IngressServices) -> AsyncIterator[str]:
    """Serves the public gRPC contract over the fakes; yields the address."""
    ingress = GrpcIngress(services)
    await ingress.start()
    try:
        yield ingress.address
    finally:
        await ingress.stop(0.0)


async def settled(before: set[asyncio.Task[Any]], timeout_s: float = 30.0) -> None:
    """Waits until no task runs that did not run before, but gRPC's own that accept calls."""

    def extra() -> list[asyncio.Task[Any]]:
        tasks = asyncio.all_tasks() - before
        return [task for task in tasks if "AioServer._request" not in repr(task)]

    async with asyncio.timeout(timeout_s):
        while tasks := extra():
            await asyncio.wait(tasks)


async def drained(stream: Any) -> list[Any]:
    """Reads a gRPC stream to its end; raises how it failed."""
    responses = []
    while (response := await stream.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
        responses.append(response)
    return responses


async def failure(stream: Any) -> grpc.aio.AioRpcError:
    """Reads a gRPC stream until it fails, and returns how."""
    try:
        await drained(stream)
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the stream ended well")
