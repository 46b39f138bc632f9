"""The public HTTP server: each request is passed on to the worker that owns its session.

Uploads and answers stream. Other bodies are small and are passed on once they are whole, so
that a slow client, or half a request, is no worker's affair. Health and metrics are its own;
every OPTIONS request is answered here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp
import structlog
from aiohttp import StreamReader, web
from prometheus_client import Counter
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import REGISTRY
from yarl import URL

from gateway import auth, http, screening
from gateway.doors import Doors
from gateway.front_door.backend import Backend
from gateway.front_door.headers import end_to_end, forwarded
from gateway.front_door.metrics import OWN
from gateway.front_door.routing import Route, http_route
from gateway.front_door.workers import MediaWorkers, NoWorkerError, WorkerDownError
from gateway.ingress import Authenticator
from gateway.limits.calls import CallRates
from gateway.limits.settings import http_deed
from gateway.origins import EVERYWHERE, Origins
from scheduler.core import errors
from scheduler.process.exposition import Merged, merged, open_metrics

MAX_CONNECTIONS: Final = 4096
"""Connections at once; further ones are closed unheard."""
MAX_REQUESTS: Final = 2048
"""Requests under way at once; further ones are told to come back."""
REQUEST_S: Final = 960.0
"""Longest life of a request; an upload may take 900 s."""
BLOCK_BYTES: Final = 64 * 1024
"""What is read of an answer at a time."""
METRICS_S: Final = 2.0
"""How long a worker may take to tell its metrics."""

_log = structlog.get_logger(__name__)

_REQUESTS = Counter(
    "sana_gateway_front_door_requests",
    "HTTP requests at the front door, by what became of them.",
    ("outcome",),
)
_REFUSED = Counter(
    "sana_gateway_front_door_refused_connections", "HTTP connections closed unheard: too many."
)


class FrontDoorHttp:
    """Listens on the public HTTP port."""

    def __init__(
        self,
        address: str,
        authenticator: Authenticator,
        workers: MediaWorkers,
        doors: Doors,
        *,
        origins: Origins = EVERYWHERE,
        rates: CallRates | None = None,
    ) -> None:
        """Prepares the server.

        Args:
            address: Where to listen, `host:port`; port 0 takes a free one.
            authenticator: Who calls: nothing is forwarded of a caller that it refuses.
            workers: Where to forward to.
            doors: What it shows to clients.
            origins: Web pages that may call.
            rates: How often who may call; None: any number of times.
        """
        self._address = address
        self._origins = origins
        self._rates = rates
        self._doors = doors
        self._auth = authenticator
        self._workers = workers
        self._under_way = 0
        self._runner: web.ServerRunner | None = None
        self._own: dict[str, Callable[[web.BaseRequest], Awaitable[web.Response]]] = {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/startupz": self._startupz,
            "/metrics": self._metrics,
        }
        self.url = ""
        """Where it listens, without a trailing slash; known once started."""

    def let_in(self, origins: Origins) -> None:
        """Changes which web pages may call."""
        self._origins = origins

    async def start(self) -> None:
        """Begins to listen.

        Raises:
            ConfigurationError: The address cannot be listened on.
        """
        server = _BoundedServer(
            self._answer,
            handler_cancellation=True,
            access_log=None,
            logger=http.QUIET,
            keepalive_timeout=http.IDLE_S,
            auto_decompress=False,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=http.SHUTDOWN_TIMEOUT_S)
        self.url = await http.listen(self._runner, self._address, self._doors)

    async def stop(self) -> None:
        """Stops listening; requests under way get two seconds. Repeating it is no error."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        outcome = "own"
        response: web.StreamResponse
        try:
            if request.method == "OPTIONS":
                response = screening.preflight(self._origins, request)
            elif own := self._own.get(request.path):
                response = await own(request)
            else:
                outcome = "forwarded"
                return await self._forward(request)
        except errors.RequestError as error:
            outcome, response = "refused", http.refusal(error)
        except web.HTTPException as error:
            outcome = "refused"
            response = web.json_response({"detail": error.reason}, status=error.status)
        except (WorkerDownError, aiohttp.ClientConnectionError, TimeoutError):
            outcome, response = "unavailable", _unavailable()
        except Exception as error:
            _log.error("front_door.failed", error=type(error).__name__)
            outcome = "failed"
            response = web.json_response({"detail": "internal error"}, status=500)
        finally:
            _REQUESTS.labels(outcome).inc()
        response.headers.update(screening.cors(self._origins, request))
        return response

    # -- its own ----------------------------------------------------------------------------

    async def _livez(self, _: web.BaseRequest) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.BaseRequest) -> web.Response:
        workers = self._workers
        if workers.draining:
            return http.verdict("this gateway is being drained")
        if workers.are_serving:
            return http.verdict("")
        down = [str(each.index) for each in workers.all if each.backend is None]
        why = f"media workers {', '.join(down)} do not run" if down else "no model is served yet"
        return http.verdict(why)

    async def _startupz(self, _: web.BaseRequest) -> web.Response:
        return http.verdict("" if self._workers.started else "the media workers start")

    async def _metrics(self, request: web.BaseRequest) -> web.Response:
        answers = await asyncio.gather(*(_metrics_of(each) for each in self._workers.running))
        texts = {worker: text for worker, text in answers if text}
        # A few thousand lines to parse: not on the loop.
        families = await asyncio.to_thread(lambda: merged({OWN: open_metrics(REGISTRY), **texts}))
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        body = await asyncio.to_thread(encode, Merged(families))
        return web.Response(body=body, headers={"Content-Type": content_type})

    # -- forwarding -------------------------------------------------------------------------

    async def _forward(self, request: web.BaseRequest) -> web.StreamResponse:
        screening.check_origin(self._origins, request)
        address = "" if self._rates is None else self._admit(request, self._rates)
        route = http_route(request.method, request.rel_url.raw_path)
        if route.authenticated:
            await self._check_caller(request, address)
        if self._under_way >= MAX_REQUESTS:
            raise errors.NoCapacityError("too many requests are under way", retry_after_s=1.0)
        try:
            backend = self._workers.choose(route)
        except NoWorkerError:
            raise errors.UnknownUploadError("no such path") from None
        self._under_way += 1
        try:
            async with asyncio.timeout(REQUEST_S):
                body = request.content if route.aim == "worker" else await _body(request)
                answer = await _pass_on(request, route, backend, body)
        finally:
            self._under_way -= 1
        if self._rates is not None and answer.status == web.HTTPUnauthorized.status_code:
            self._rates.failed(address)
        return answer

    def _admit(self, request: web.BaseRequest, rates: CallRates) -> str:
        """Returns the address of a request that may be looked at."""
        address = screening.address_of(request, rates)
        rates.admit(address)
        if http_deed(request.method, request.path) == "exchange":
            rates.count_address("exchange", address)
        return address

    async def _check_caller(self, request: web.BaseRequest, address: str) -> None:
        token = auth.bearer_token(request.headers.get("Authorization"))
        await auth.prepare(self._auth, token)
        try:
            principal = self._auth.authenticate(token)
        except errors.UnauthenticatedError:
            if self._rates is not None:
                self._rates.failed(address)
            raise
        auth.require(principal, auth.SESSION)
        if self._rates is not None:
            self._rates.count(http_deed(request.method, request.path), principal)


async def _pass_on(
    request: web.BaseRequest, route: Route, backend: Backend, body: bytes | StreamReader
) -> web.StreamResponse:
    """Forwards a request and its answer.

    Raises:
        aiohttp.ClientConnectionError: The worker has ended before it answered.
    """
    asked = request.rel_url
    path = route.path or asked.raw_path
    query = f"?{asked.raw_query_string}" if asked.raw_query_string else ""
    async with backend.http.request(
        request.method,
        URL(f"http://worker{path}{query}", encoded=True),
        headers=forwarded(request.headers, request.scheme, request.remote or "unknown"),
        data=body if request.body_exists else None,
        allow_redirects=False,
    ) as answer:
        response = web.StreamResponse(
            status=answer.status, reason=answer.reason, headers=end_to_end(answer.headers)
        )
        await response.prepare(request)
        try:
            async for block in answer.content.iter_chunked(BLOCK_BYTES):
                await response.write(block)
        except aiohttp.ClientError:
            # Begun already: the client learns from the broken connection that it is not whole.
            if request.transport is not None:
                request.transport.abort()
            return response
        await response.write_eof()
        return response


async def _body(request: web.BaseRequest) -> bytes:
    """Reads a small body.

    Raises:
        HTTPRequestEntityTooLarge: It is none.
        HTTPRequestTimeout: It does not come to its end.
        HTTPBadRequest: It is not what its headers say.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(http.BODY_S):
            async for block in request.content.iter_any():
                body += block
                if len(body) > http.MAX_BODY_BYTES:
                    raise web.HTTPRequestEntityTooLarge(http.MAX_BODY_BYTES, len(body))
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except web.RequestPayloadError:
        raise web.HTTPBadRequest from None
    return bytes(body)


async def _metrics_of(backend: Backend) -> tuple[str, str]:
    headers = {"Host": "worker", "Accept": "application/openmetrics-text; version=1.0.0"}
    try:
        async with (
            asyncio.timeout(METRICS_S),
            backend.http.get("http://worker/metrics", headers=headers) as answer,
        ):
            return str(backend.index), await answer.text()
    except (aiohttp.ClientError, TimeoutError):
        return str(backend.index), ""


def _unavailable() -> web.Response:
    return web.json_response(
        {"detail": "this part of the gateway starts again; try again", "reason": "UNAVAILABLE"},
        status=503,
        headers={"Retry-After": "1"},
    )


class _BoundedServer(web.Server):
    """Closes connections over the limit before it reads of them."""

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:  # noqa: ANN401 - aiohttp's own type
        super().connection_made(handler, transport)
        if len(self.connections) > MAX_CONNECTIONS:
            _REFUSED.inc()
            transport.abort()
