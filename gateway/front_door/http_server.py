"""The public HTTP server: each request is passed on to the worker that owns its session.

Uploads and answers stream. Other bodies are small and are passed on once they are whole, so
that a slow client, or half a request, is no worker's affair. Health, metrics and the pages are
its own; every OPTIONS request is answered here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import aiohttp
import structlog
from aiohttp import web
from prometheus_client import Counter
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import REGISTRY

from gateway import auth, http, screening
from gateway.doors import Doors
from gateway.front_door.backend import Backend
from gateway.front_door.http_forwarding import pass_on, whole_body
from gateway.front_door.metrics import OWN
from gateway.front_door.routing import http_route
from gateway.front_door.workers import MediaWorkers, NoWorkerError, WorkerDownError
from gateway.ingress import Authenticator
from gateway.limits.buckets import Buckets, Rate
from gateway.limits.calls import CallRates
from gateway.limits.connections import Connections
from gateway.limits.settings import http_deed
from gateway.limits.turns import Turns, turn
from gateway.origins import EVERYWHERE, Origins
from gateway.web.pages import Pages
from scheduler.core import errors
from scheduler.process.exposition import Merged, merged, open_metrics

CONNECTED: Final = Rate(1000.0, 2)
"""Connections that are taken in a second; others wait. This loop passes on video over gRPC."""
ANSWERED: Final = Rate(1000.0, 2)
"""Requests that are answered here in a second, most of them refused; others wait."""
UNKNOWN_CALLERS: Final = Rate(50.0, 50)
"""Requests that reach a worker in a second though it is not known who makes them; others wait."""
PROBES: Final = Rate(10.0, 50)
"""Health that an address is told without waiting."""
API_KEY: Final = "Reactor-API-Key"
"""Header that carries an API key to `POST /tokens`."""
MAX_REQUESTS: Final = 2048
"""Requests under way at once; further ones are told to come back."""
REQUEST_S: Final = 960.0
"""Longest life of a request; an upload may take 900 s."""
METRICS_S: Final = 2.0
"""How long a worker may take to tell its metrics."""

_log = structlog.get_logger(__name__)

_REQUESTS = Counter(
    "sana_gateway_front_door_requests",
    "HTTP requests at the front door, by what became of them.",
    ("outcome",),
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
        pages: Pages | None = None,
    ) -> None:
        """Prepares the server.

        Args:
            address: Where to listen, `host:port`; port 0 takes a free one.
            authenticator: Who calls: nothing is forwarded of a caller that it refuses.
            workers: Where to forward to.
            doors: What it shows to clients.
            origins: Web pages that may call.
            rates: How often who may call; None: any number of times.
            pages: What it shows to people; by default what was built.
        """
        self._address = address
        self._origins = origins
        self._rates = rates
        self._doors = doors
        self._auth = authenticator
        self._workers = workers
        self._pages = pages or Pages()
        self._under_way = 0
        self._answers = Turns(ANSWERED)
        self._unknown = Turns(UNKNOWN_CALLERS)
        self._scrapes = Turns(http.SCRAPES)
        self._probes = Buckets(PROBES)
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
        server = web.Server(
            self._answer,
            handler_cancellation=True,
            access_log=None,
            logger=http.QUIET,
            keepalive_timeout=http.IDLE_S,
            auto_decompress=False,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=http.SHUTDOWN_TIMEOUT_S)
        connections = Connections(self._rates)
        self.url = await http.listen(
            self._runner, self._address, self._doors, connections, CONNECTED
        )

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
            elif page := self._pages.find(request):
                response = page
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
        if not await self._has_its_turn(request, outcome) and request.transport is not None:
            request.transport.abort()
        screening.tell(self._origins, request, response)
        return response

    async def _has_its_turn(self, request: web.BaseRequest, outcome: str) -> bool:
        """Returns when a request may be answered here; False: too many wait already.

        Whoever watches over the service is answered at once, unless it asks like an attacker.
        """
        is_probe = outcome == "own" and request.path in screening.UNCOUNTED
        if is_probe and not self._probes.take(request.remote or "", time.monotonic()):
            return True
        return await turn(self._answers)

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
        await http.scraped(self._scrapes)
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
        elif not (await self._is_known(request, address) or await turn(self._unknown)):
            raise errors.NoCapacityError("too many requests are waiting", retry_after_s=1.0)
        if self._under_way >= MAX_REQUESTS:
            raise errors.NoCapacityError("too many requests are under way", retry_after_s=1.0)
        try:
            backend = self._workers.choose(route)
        except NoWorkerError:
            raise errors.UnknownUploadError("no such path") from None
        self._under_way += 1
        try:
            async with asyncio.timeout(REQUEST_S):
                body = request.content if route.aim == "worker" else await whole_body(request)
                answer = await pass_on(request, route, backend, body)
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

    async def _is_known(self, request: web.BaseRequest, address: str) -> bool:
        """Tells whether it is known who makes a request that needs no token.

        Raises:
            UnauthenticatedError: It wants a token for a key that is none.
        """
        key, token = request.headers.get(API_KEY), _token(request)
        if (
            key is not None
            and http_deed(request.method, request.path) == "exchange"
            and isinstance(self._auth, auth.KeyAuthenticator)
        ):
            with self._counted(address):
                self._auth.authenticate_key(key)
            return True
        if token is not None:
            await auth.prepare(self._auth, token)
        try:
            self._auth.authenticate(token)
        except errors.UnauthenticatedError:
            # Who may do without one is the worker's to know.
            return False
        return True

    async def _check_caller(self, request: web.BaseRequest, address: str) -> None:
        token = _token(request)
        await auth.prepare(self._auth, token)
        with self._counted(address):
            principal = self._auth.authenticate(token)
        auth.require(principal, auth.SESSION)
        if self._rates is not None:
            self._rates.count(http_deed(request.method, request.path), principal)

    @contextmanager
    def _counted(self, address: str) -> Iterator[None]:
        """Counts wrong credentials."""
        try:
            yield
        except errors.UnauthenticatedError:
            if self._rates is not None:
                self._rates.failed(address)
            raise


def _token(request: web.BaseRequest) -> str | None:
    return auth.bearer_token(request.headers.get("Authorization"))


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
