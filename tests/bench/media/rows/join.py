"""Connecting with the real SDK, with a STUN server that does not answer, and being killed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp
import psutil

from tests.bench.media.bench import WARM_UP_S, Bench, sdk
from tests.bench.media.clients.driver import null_clients
from tests.bench.media.quoted import quote
from tests.bench.media.results import INCUMBENT, OURS, Figure, Target
from tests.bench.media.systems.ours import GATEWAY, Ours
from tests.bench.media.systems.service import Service
from tests.bench.media.systems.stun import silent

ROW: Final = "join"
CONNECT = Target(250.0)
NOTICED = Target(2.0)
LOOK_S: Final = 0.02
NOTICE_LIMIT_S: Final = 30.0
NOTE = (
    "Connect: `connect()` to ready in reactor-sdk 1.13. The STUN server takes requests and answers "
    "none, as a lost route does. Killed: SIGKILL to the client's process, until the server gives "
    "up the peer (ours: its UDP sockets are closed; the incumbent: its session is orphaned)."
)


async def measure(bench: Bench) -> list[Figure]:
    """Connects, connects past a silent STUN server, and kills a client."""
    figures = await _sdk_figures(bench) if bench.has_sdk else []
    if not bench.has_sdk:
        bench.note("Connecting with reactor-sdk: .venvs/reactor-native is missing, run make setup.")
    with bench.ours() as service:
        figures.append(await _killed(bench, service, _ours_holds(service), NOTICED))
    if not bench.has_incumbent:
        return figures + quote(bench, ROW)
    async with bench.incumbent() as runtime:
        figures.append(await _killed(bench, runtime, lambda: _streams(runtime.urls[0]), None))
    return figures


async def _sdk_figures(bench: Bench) -> list[Figure]:
    plain, lost = "reactor-sdk, connect to ready", "reactor-sdk, STUN server that does not answer"
    figures = []
    for system in (OURS, INCUMBENT) if bench.has_incumbent else (OURS,):
        for name in (plain, lost):
            bench.say(f"{ROW}: {system}, {name}")
            with silent() as url:
                times = await _CONNECT[system](bench, url if name == lost else "")
            # The first of a process pays for its imports and its caches.
            kept = times[1:] or times
            target = CONNECT if system == OURS else None
            figures.append(Figure(ROW, name, system, "ms", tuple(kept), target, note=NOTE))
    return figures


async def _ours_connects(bench: Bench, stun_server: str) -> list[float]:
    settings = f'ice_servers = ["{stun_server}"]' if stun_server else ""
    with bench.ours(settings=settings) as service:
        said = await sdk("connect", service.url, times=bench.runs + 1)
    return list(said["connect_ms"])


async def _incumbent_connects(bench: Bench, stun_server: str) -> list[float]:
    async with bench.incumbent(stun_server=stun_server) as runtime:
        await runtime.provide(1)
        times = (1 if bench.quick else 2) + 1 if stun_server else bench.runs + 1
        said = await sdk("connect", runtime.urls[0], local=True, times=times, pause=1.0)
    return list(said["connect_ms"])


_CONNECT: dict[str, Callable[[Bench, str], Awaitable[list[float]]]] = {
    OURS: _ours_connects,
    INCUMBENT: _incumbent_connects,
}


async def _killed(
    bench: Bench,
    service: Service,
    holds: Callable[[], Awaitable[bool]],
    target: Target | None,
) -> Figure:
    """Kills clients; returns how long the server held on to each."""
    times = []
    runs = 1 if bench.quick or service.name == INCUMBENT else bench.runs
    for run in range(runs):
        bench.say(f"{ROW}: {service.name}, a killed client, run {run + 1}")
        async with null_clients() as clients:
            await service.join(clients, "vp8")
            await clients.start()
            await asyncio.sleep(WARM_UP_S)
            assert await holds()
            clients.kill()
            began = time.monotonic()
            while await holds() and time.monotonic() - began < NOTICE_LIMIT_S:  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)  # nothing in another process to wait for
            times.append(time.monotonic() - began)
    return Figure(
        ROW, "killed client noticed after", service.name, "s", tuple(times), target, note=NOTE
    )


def _ours_holds(service: Ours) -> Callable[[], Awaitable[bool]]:
    """Tells whether the gateway has sockets of a peer, beyond those that it had without one."""
    without = _udp_sockets(service)

    async def holds() -> bool:
        return _udp_sockets(service) > without

    return holds


def _udp_sockets(service: Ours) -> int:
    count = 0
    for process in service.roles[GATEWAY]:
        with contextlib.suppress(psutil.Error):
            count += len(process.net_connections("udp"))
    return count


async def _streams(url: str) -> bool:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/session") as response:
        said: dict[str, Any] = await response.json()
    return str(said.get("state", "")).lower() in ("active", "streaming")
