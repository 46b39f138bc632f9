"""Command round trips while sessions stream, and while the model computes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Final

from tests.bench.media import packets
from tests.bench.media.bench import WARM_UP_S, Bench
from tests.bench.media.clients.driver import NullClients, null_clients
from tests.bench.media.quoted import quote
from tests.bench.media.results import FLOOR, OURS, Figure, Target
from tests.bench.media.systems.echo import Echo, echo
from tests.bench.media.systems.service import Service
from tests.bench.media.watching import Watched, watch

ROW: Final = "commands"
SESSIONS: Final = 4
COMMANDS_HZ: Final = 5.0
BLOCK_MS: Final = 200
"""Of each window: with four sessions the model computes four fifths of the time."""
LIMITS: Final = {"p50": Target(2.0), "p90": Target(5.0)}
SHARES: Final = {"p50": 0.50, "p90": 0.90}
NOTE = (
    "`set_prompt` to the state that shows it, on the data channel, five a second in each of four "
    "sessions, at random times; VP8. Model computing: ours holds its compute thread for 200 ms a "
    "window, four sessions in turn; the incumbent's default loop holds its own until a chunk is "
    "due. A command without an answer at the end of a window counts as the window. The floor: "
    "messages of the same lengths, as often, through a data channel of stock aiortc and a stream "
    "of grpc.aio to a third process that answers at once, with nothing of ours on the way; alone "
    "on the machine, and while our four sessions stream beside it."
)


async def measure(bench: Bench) -> list[Figure]:
    """Asks four sessions of each system, with a model that waits and one that computes."""
    figures = await _floor(bench)
    for computing in (False, True):
        with bench.ours(pace=str(BLOCK_MS) if computing else "early") as service:
            async with null_clients() as clients:
                figures += await _asked(bench, service, clients, computing=computing)
    if not bench.has_incumbent:
        return figures + quote(bench, ROW)
    for computing in (False, True):
        async with bench.incumbent(blocking=computing) as runtime, null_clients() as clients:
            figures += await _asked(bench, runtime, clients, computing=computing)
    return figures


async def _floor(bench: Bench) -> list[Figure]:
    """Asks the bare chain, alone and beside our sessions."""
    bench.say(f"{ROW}: {FLOOR}")
    async with echo(bench.folder) as chain:
        alone = await _echoed(bench, chain)
        with bench.ours() as service:
            async with null_clients() as clients:
                await service.join(clients, "vp8", SESSIONS)
                await clients.start()
                await asyncio.sleep(WARM_UP_S)
                beside = await _echoed(bench, chain)
                await service.leave(clients)
    return [
        *_figures(f"{SESSIONS} channels, nothing else running", FLOOR, alone),
        *_figures(f"{SESSIONS} sessions", FLOOR, beside),
    ]


async def _echoed(bench: Bench, chain: Echo) -> list[list[float]]:
    return [
        await chain.round_trips_ms(SESSIONS, COMMANDS_HZ, bench.window_s) for _ in range(bench.runs)
    ]


async def _asked(
    bench: Bench, service: Service, clients: NullClients, *, computing: bool
) -> list[Figure]:
    bench.say(f"{ROW}: {service.name}, computing: {computing}")
    await service.join(clients, "vp8", SESSIONS)
    await clients.start()
    await asyncio.sleep(WARM_UP_S)
    looks = [
        await watch(service, clients, bench.window_s, commands_hz=COMMANDS_HZ)
        for _ in range(bench.runs)
    ]
    await service.leave(clients)
    called = f"{SESSIONS} sessions{', model computing' if computing else ''}"
    detail = {
        "commands": [len(look.acks_ms) for look in looks],
        "fps worst": [round(look.worst_rate, 2) for look in looks],
        "machine cores": [round(look.spent.machine, 2) for look in looks],
    }
    return _figures(called, service.name, [_times(look) for look in looks], detail)


def _figures(
    called: str, system: str, runs: Sequence[Sequence[float]], detail: dict[str, Any] | None = None
) -> list[Figure]:
    """Makes the figures of round trips: a list of them for each run."""
    return [
        Figure(
            ROW,
            f"{called}: {rank}",
            system,
            "ms",
            tuple(packets.percentile(times, share) for times in runs),
            LIMITS[rank] if system == OURS else None,
            note=NOTE,
            detail=detail or {"commands": [len(times) for times in runs]},
        )
        for rank, share in SHARES.items()
    ]


def _times(look: Watched) -> list[float]:
    waiting = sum(each.unanswered for each in look.sessions)
    times = look.acks_ms + [look.spent.wall_s * 1e3] * waiting
    return times or [math.nan]
