"""What surrounds every call: decoding, caller, server span, error mapping.

One interceptor wraps the handlers of our own services; health and reflection pass
untouched and need no token.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import grpc
import structlog
from google.protobuf.message import DecodeError
from opentelemetry import propagate, trace

from gateway.audit import AuditLog
from gateway.auth import (
    OPERATOR,
    SESSION,
    bearer_token,
    caller_of_metadata,
    prepare,
    require_any,
)
from gateway.grpc_api.errors import to_status
from gateway.ingress import Authenticator
from gateway.limits.addresses import client_address, peer_of_grpc
from gateway.limits.buckets import Rate
from gateway.limits.calls import CallRates
from gateway.limits.settings import grpc_deed
from gateway.limits.turns import Turns, turn
from gateway.metrics import GRPC_CALLS, GRPC_OPEN
from scheduler.core.errors import (
    BadArgumentError,
    ForbiddenError,
    UnauthenticatedError,
)
from scheduler.core.ids import Principal
from scheduler.process.instruments import exemplar

TRACER: Final = trace.get_tracer("sana_gateway.gateway")

_SCOPES: Final = {
    "sana_gateway.v1.SessionService": (SESSION,),
    "sana_gateway.v1.PoolService": (OPERATOR,),
    "sana_gateway.v1.EventService": (OPERATOR, SESSION),
    "sana_gateway.v1.UsageService": (OPERATOR, SESSION),
    "sana_gateway.v1.ReplayService": (OPERATOR, SESSION),
}
"""The scopes of each service: it needs one of them."""

SMALL_BYTES: Final = 16 * 1024
"""Longest request of operators' services: it holds ids and little else, and is passed on to the
scheduler."""
_LARGE: Final = frozenset({"sana_gateway.v1.SessionService"})
"""Services whose requests are as long as messages may be: they carry media and uploads."""

REFUSED: Final = Rate(500.0, 2)
"""Calls of nobody that are refused in a second; others wait for it."""

FORWARDED: Final = "x-forwarded-for"
"""Metadata in which proxies say who called them."""

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
    """Wraps every handler of our services.

    Args:
        auth: Who calls.
        measured: Whether calls are measured here; not where they are only passed on.
        rates: How often who may call; None: any number of times.
        audit: Remembers who tried what operators alone may do.
    """

    def __init__(
        self,
        auth: Authenticator,
        *,
        measured: bool = True,
        rates: CallRates | None = None,
        audit: AuditLog | None = None,
    ) -> None:
        self._door = _Door(auth, rates, audit or AuditLog())
        self._measured = measured

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:  # noqa: ANN401 - the stubs know no more
        """Returns the wrapped handler of a call."""
        handler = await continuation(handler_call_details)
        service, _, method = handler_call_details.method.lstrip("/").partition("/")
        scopes = _SCOPES.get(service)
        if handler is None or scopes is None:
            return handler
        wrap = _wrap_streaming if handler.response_streaming else _wrap_unary
        around = _Surroundings(self._door, scopes, method, measured=self._measured)
        return wrap(handler, around, None if service in _LARGE else SMALL_BYTES)


class _Door:
    """Who may call, and how often."""

    def __init__(self, auth: Authenticator, rates: CallRates | None, audit: AuditLog) -> None:
        self._audit = audit
        self._auth = auth
        self._rates = rates
        self._refusals = Turns(REFUSED)

    async def turn(self) -> None:
        """Returns when a call may be refused: later, while there are many of them."""
        await turn(self._refusals)

    async def caller(self, context: Any, metadata: dict[str, str]) -> Principal:  # noqa: ANN401
        """Returns who calls.

        Raises:
            UnauthenticatedError: Neither a good token nor a good key.
            LimitError: Calls of this address are not looked at for a while.
        """
        rates, address = self._rates, ""
        if rates is not None:
            said = [metadata[FORWARDED]] if FORWARDED in metadata else []
            address = client_address(peer_of_grpc(context.peer()), said, rates.proxies)
            rates.admit(address)
        await prepare(self._auth, bearer_token(metadata.get("authorization")))
        try:
            return caller_of_metadata(self._auth, metadata)
        except UnauthenticatedError:
            if rates is not None:
                rates.failed(address)
            raise

    def check(self, method: str, principal: Principal, scopes: tuple[str, ...]) -> None:
        """Passes when a caller has one of the scopes of a method.

        Raises:
            ForbiddenError: It has not.
        """
        try:
            require_any(principal, scopes)
        except ForbiddenError as error:
            if scopes == (OPERATOR,):
                self._audit.record(principal, "denied", method, f"refused:{error.reason}")
            raise

    def count(self, method: str, principal: Principal) -> None:
        """Passes when a caller may call a method once more.

        Raises:
            LimitError: Not for a while.
        """
        if self._rates is not None:
            self._rates.count(grpc_deed(method), principal)


class _Surroundings:
    """The surroundings of one call."""

    def __init__(
        self, door: _Door, scopes: tuple[str, ...], method: str, *, measured: bool
    ) -> None:
        self._door = door
        self._scopes = scopes
        self._method = method
        self._measured = measured

    @asynccontextmanager
    async def __call__(self, context: Any) -> AsyncIterator[None]:  # noqa: ANN401
        metadata = carrier(context.invocation_metadata())
        principal = await self._asked(context, metadata)
        with (
            TRACER.start_as_current_span(
                f"gateway.{_snake(self._method)}",
                context=propagate.extract(metadata),
                kind=trace.SpanKind.SERVER,
                record_exception=False,
                set_status_on_exception=False,
            ),
            _timed(self._method, measured=self._measured) as timed,
        ):
            try:
                self._door.check(self._method, principal, self._scopes)
                self._door.count(self._method, principal)
                _CALLER.set(principal)
                yield
            except Exception as error:
                await self._end(context, error, timed)

    async def _asked(self, context: Any, metadata: dict[str, str]) -> Principal:  # noqa: ANN401
        """Returns who calls.

        Nobody's calls are what floods are made of: they end here, in turn and without a span.
        """
        try:
            return await self._door.caller(context, metadata)
        except Exception as error:
            with _timed(self._method, measured=self._measured) as timed:
                await self._door.turn()
                await self._end(context, error, timed)
            raise

    async def _end(self, context: Any, error: Exception, timed: _Timed) -> None:  # noqa: ANN401
        """Ends a call that has failed; never returns."""
        status, span = to_status(error), trace.get_current_span()
        timed.code = grpc.StatusCode.INTERNAL if status is None else status.code
        if status is None:
            _LOG.error("call failed", method=self._method, exc_info=error)
            span.set_status(trace.StatusCode.ERROR)
            await context.abort(grpc.StatusCode.INTERNAL, "internal error")
        else:
            span.set_attribute("rpc.grpc.status_code", status.code.value[0])
            await context.abort(status.code, status.details, status.trailing_metadata)


@dataclass(slots=True)
class _Timed:
    """A call that is being measured."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    """How it ends, as far as is known."""


@contextmanager
def _timed(method: str, *, measured: bool) -> Iterator[_Timed]:
    """Measures a call."""
    timed, began = _Timed(), time.perf_counter()
    if not measured:
        yield timed
        return
    try:
        with GRPC_OPEN.labels(method).track_inprogress():
            yield timed
    except asyncio.CancelledError:
        timed.code = grpc.StatusCode.CANCELLED
        raise
    finally:
        took_s = time.perf_counter() - began
        GRPC_CALLS.labels(method, timed.code.name).observe(took_s, exemplar())


def _wrap_unary(handler: Any, around: _Surroundings, most: int | None) -> Any:  # noqa: ANN401
    decode, streaming = handler.request_deserializer, handler.request_streaming
    behaviour = handler.stream_unary if streaming else handler.unary_unary

    async def call(request: Any, context: Any) -> Any:  # noqa: ANN401
        async with around(context):
            return await behaviour(_decoded(decode, request, most, streaming=streaming), context)

    make = (
        grpc.stream_unary_rpc_method_handler if streaming else grpc.unary_unary_rpc_method_handler
    )
    return make(call, response_serializer=handler.response_serializer)


def _wrap_streaming(handler: Any, around: _Surroundings, most: int | None) -> Any:  # noqa: ANN401
    decode, streaming = handler.request_deserializer, handler.request_streaming
    behaviour = handler.stream_stream if streaming else handler.unary_stream

    async def call(request: Any, context: Any) -> None:  # noqa: ANN401
        async with around(context):
            await behaviour(_decoded(decode, request, most, streaming=streaming), context)

    make = (
        grpc.stream_stream_rpc_method_handler if streaming else grpc.unary_stream_rpc_method_handler
    )
    return make(call, response_serializer=handler.response_serializer)


def _decoded(
    decode: Callable[[bytes], Any],
    request: Any,  # noqa: ANN401
    most: int | None,
    *,
    streaming: bool,
) -> Any:  # noqa: ANN401
    """Decodes here instead of in gRPC, so that garbage is the caller's mistake, not ours.

    Args:
        decode: Decodes one message.
        request: A message, or the stream of them.
        most: Longest message; None: as gRPC lets pass.
        streaming: Whether it is a stream.
    """

    def one(data: bytes) -> Any:  # noqa: ANN401
        if most is not None and len(data) > most:
            raise BadArgumentError(f"the request has more than {most:,} bytes")
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
