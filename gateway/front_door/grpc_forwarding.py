"""gRPC at the front door: each call is passed on in bytes to the worker that owns it.

Messages, metadata, deadlines, statuses with their details, the end of either side and
cancellation cross as they are. One message at most is held here for each direction of a
call: the next is read when this one has been taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Final

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from prometheus_client import Counter

from gateway.front_door.backend import Backend
from gateway.front_door.headers import passed_metadata
from gateway.front_door.routing import METHODS, Method, Route
from gateway.front_door.workers import WorkerDownError
from gateway.grpc_api.streams import first

RETRY_S: Final = 1
"""When to try again a call whose worker is down."""
DETAILS: Final = "grpc-status-details-bin"
"""Trailing metadata that a status of a worker's own making carries."""

_CALLS = Counter(
    "sana_gateway_front_door_calls", "gRPC calls forwarded, by how they ended.", ("method", "code")
)

EOF: Final[object] = grpc.aio.EOF  # type: ignore[attr-defined]
"""What `read` returns at the end."""

Choose = Callable[[Route], Backend]


class Forwarding(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Handles every method of the public contract by passing it on."""

    def __init__(self, choose: Choose) -> None:
        """Prepares the handlers.

        Args:
            choose: Returns the worker for a route; raises WorkerDownError without one.
        """
        self._handlers = {path: _handler(method, choose) for path, method in METHODS.items()}

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Returns the handler of a method; None for one that is not in the contract."""
        return self._handlers.get(handler_call_details.method)


def _handler(method: Method, choose: Choose) -> Any:  # noqa: ANN401 - the stubs know no more
    if method.streaming:

        async def stream(requests: AsyncIterator[bytes], context: Any) -> None:  # noqa: ANN401
            opening = await first(requests)
            route = method.route(opening)
            try:
                backend = choose(route)
            except WorkerDownError as error:
                _unavailable(method, context, str(error))
            else:
                await _forward_stream(method, backend, opening, requests, context)

        return grpc.stream_stream_rpc_method_handler(stream, request_deserializer=_as_it_is)

    async def unary(request: bytes, context: Any) -> bytes:  # noqa: ANN401
        route = method.route(request)
        try:
            backend = choose(route)
        except WorkerDownError as error:
            return _unavailable(method, context, str(error))
        return await _forward_unary(method, backend, request, context)

    return grpc.unary_unary_rpc_method_handler(unary, request_deserializer=_as_it_is)


async def _forward_unary(method: Method, backend: Backend, request: bytes, context: Any) -> bytes:  # noqa: ANN401
    call = backend.unary(method.path)(
        request,
        timeout=context.time_remaining(),
        metadata=passed_metadata(context.invocation_metadata()),
    )
    answer = b""
    with suppress(grpc.aio.AioRpcError):
        # What it failed with is in the call itself, as after a success.
        answer = await call
    await _pass_initial_metadata(call, context)
    await _pass_status(method, call, context)
    return answer


async def _forward_stream(
    method: Method,
    backend: Backend,
    opening: bytes,
    requests: AsyncIterator[bytes],
    context: Any,  # noqa: ANN401
) -> None:
    call = backend.stream(method.path)(
        timeout=context.time_remaining(),
        metadata=passed_metadata(context.invocation_metadata()),
    )
    sending = asyncio.create_task(_send(opening, requests, call))
    try:
        with suppress(grpc.aio.AioRpcError):
            await _pass_initial_metadata(call, context)
            while (message := await call.read()) is not EOF:
                await context.write(message)
        await _pass_status(method, call, context)
    finally:
        # The client has left, or the worker has said its last word.
        sending.cancel()
        call.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _send(opening: bytes, requests: AsyncIterator[bytes], call: Any) -> None:  # noqa: ANN401
    # A call that has ended says why to its reader.
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        await call.write(opening)
        async for request in requests:
            await call.write(request)
        await call.done_writing()


async def _pass_initial_metadata(call: Any, context: Any) -> None:  # noqa: ANN401
    metadata = passed_metadata(await call.initial_metadata())
    if metadata:
        await context.send_initial_metadata(metadata)


async def _pass_status(method: Method, call: Any, context: Any) -> None:  # noqa: ANN401
    code, trailing = await call.code(), tuple(await call.trailing_metadata() or ())
    if code is grpc.StatusCode.UNAVAILABLE and DETAILS not in dict(trailing):
        # Not the worker's word but gRPC's, which tells of sockets and paths.
        _unavailable(method, context, "this part of the gateway has ended; try again")
        return
    _CALLS.labels(method.name, code.name).inc()
    context.set_trailing_metadata(trailing)
    context.set_code(code)
    context.set_details(await call.details() or "")


def _unavailable(method: Method, context: Any, why: str) -> bytes:  # noqa: ANN401
    """Answers that a call may be repeated in a moment."""
    wait = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=RETRY_S))
    packed = any_pb2.Any()
    packed.Pack(wait)
    code = grpc.StatusCode.UNAVAILABLE
    status = rpc_status.to_status(
        status_pb2.Status(code=code.value[0], message=why, details=[packed])
    )
    _CALLS.labels(method.name, code.name).inc()
    context.set_trailing_metadata(status.trailing_metadata)
    context.set_code(code)
    context.set_details(why)
    return b""


def _as_it_is(data: bytes) -> bytes:
    return data
