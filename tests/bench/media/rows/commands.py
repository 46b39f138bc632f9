"""Command round trips while sessions stream, and while the model computes."""

from __future__ import annotations

import asyncio
import math
from typing import Final

from tests.bench.media import packets
from tests.bench.media.bench import WARM_UP_S, Bench
from tests.bench.media.clients.driver import NullClients, null_clients
from tests.bench.media.quoted import quote
from tests.bench.media.results import OURS, Figure, Target
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
    "due. A command without an answer at the end of a window counts as the window."
)


async def measure(bench: Bench) -> list[Figure]:
    """Asks four sessions of each system, with a model that waits and one that computes."""
    figures = []
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
    return [
        Figure(
            ROW,
            f"{called}: {rank}",
            service.name,
            "ms",
            tuple(packets.percentile(_times(look), share) for look in looks),
            LIMITS[rank] if service.name == OURS else None,
            note=NOTE,
            detail={
                "commands": [len(look.acks_ms) for look in looks],
                "fps worst": [round(look.worst_rate, 2) for look in looks],
                "machine cores": [round(look.spent.machine, 2) for look in looks],
            },
        )
        for rank, share in SHARES.items()
    ]


def _times(look: Watched) -> list[float]:
    waiting = sum(each.unanswered for each in look.sessions)
    times = look.acks_ms + [look.spent.wall_s * 1e3] * waiting
    return times or [math.nan]
