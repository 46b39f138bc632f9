"""What surrounds every call: decoding, caller, server span, error mapping.

One interceptor wraps the handlers of our own services; health and reflection pass
untouched and need no token.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final

import grpc
import structlog
from google.protobuf.message import DecodeError
from opentelemetry import propagate, trace

from gateway.auth import OPERATOR, SESSION, caller_of_metadata, require
from gateway.grpc_api.errors import to_status
from gateway.ingress import Authenticator
from scheduler.core.errors import BadArgumentError
from scheduler.core.ids import Principal

TRACER: Final = trace.get_tracer("sana_gateway.gateway")

_SCOPES: Final = {
    "sana_gateway.v1.SessionService": SESSION,
    "sana_gateway.v1.PoolService": OPERATOR,
}
"""The scope that each service needs."""

_LOG: Final = structlog.get_logger("gateway.grpc_api")
_CALLER: ContextVar[Principal] = ContextVar("caller")


def caller() -> Principal:
    """Returns who made the call that the running task serves."""
    return _CALLER.get()


def carrier(metadata: object) -> dict[str, str]:
    """Returns the textual metadata of a call as a dictionary.

    Args:
        metadata: Pairs of key and value, as gRPC gives them; None for none.
    """
    pairs: Any = metadata or ()
    return {key: value for key, value in pairs if isinstance(value, str)}


class CallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Wraps every handler of our services."""

    def __init__(self, auth: Authenticator) -> None:
        self._auth = auth

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:  # noqa: ANN401 - the stubs know no more
        """Returns the wrapped handler of a call."""
        handler = await continuation(handler_call_details)
        service, _, method = handler_call_details.method.lstrip("/").partition("/")
        scope = _SCOPES.get(service)
        if handler is None or scope is None:
            return handler
        wrap = _wrap_streaming if handler.response_streaming else _wrap_unary
        return wrap(handler, _Surroundings(self._auth, scope, method))


class _Surroundings:
    """The surroundings of one call."""

    def __init__(self, auth: Authenticator, scope: str, method: str) -> None:
        self._auth = auth
        self._scope = scope
        self._method = method

    @asynccontextmanager
    async def __call__(self, context: Any) -> AsyncIterator[None]:  # noqa: ANN401
        metadata = carrier(context.invocation_metadata())
        with TRACER.start_as_current_span(
            f"gateway.{_snake(self._method)}",
            context=propagate.extract(metadata),
            kind=trace.SpanKind.SERVER,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                principal = caller_of_metadata(self._auth, metadata)
                require(principal, self._scope)
                _CALLER.set(principal)
                yield
            except Exception as error:
                status = to_status(error)
                if status is None:
                    _LOG.exception("call failed", method=self._method)
                    span.set_status(trace.StatusCode.ERROR)
                    await context.abort(grpc.StatusCode.INTERNAL, "internal error")
                else:
                    span.set_attribute("rpc.grpc.status_code", status.code.value[0])
                    await context.abort(status.code, status.details, status.trailing_metadata)


def _wrap_unary(handler: Any, around: _Surroundings) -> Any:  # noqa: ANN401
    decode, streaming = handler.request_deserializer, handler.request_streaming
    behaviour = handler.stream_unary if streaming else handler.unary_unary

    async def call(request: Any, context: Any) -> Any:  # noqa: ANN401
        async with around(context):
            return await behaviour(_decoded(decode, request, streaming=streaming), context)

    make = (
        grpc.stream_unary_rpc_method_handler if streaming else grpc.unary_unary_rpc_method_handler
    )
    return make(call, response_serializer=handler.response_serializer)


def _wrap_streaming(handler: Any, around: _Surroundings) -> Any:  # noqa: ANN401
    decode, streaming = handler.request_deserializer, handler.request_streaming
    behaviour = handler.stream_stream if streaming else handler.unary_stream

    async def call(request: Any, context: Any) -> None:  # noqa: ANN401
        async with around(context):
            await behaviour(_decoded(decode, request, streaming=streaming), context)

    make = (
        grpc.stream_stream_rpc_method_handler if streaming else grpc.unary_stream_rpc_method_handler
    )
    return make(call, response_serializer=handler.response_serializer)


def _decoded(decode: Callable[[bytes], Any], request: Any, *, streaming: bool) -> Any:  # noqa: ANN401
    """Decodes here instead of in gRPC, so that garbage is the caller's mistake, not ours."""

    def one(data: bytes) -> Any:  # noqa: ANN401
        try:
            return decode(data)
        except DecodeError:
            raise BadArgumentError("the request is not a message of this call") from None

    async def each() -> AsyncIterator[Any]:
        async for data in request:
            yield one(data)

    return each() if streaming else one(request)


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
