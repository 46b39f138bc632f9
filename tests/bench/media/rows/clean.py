"""How many sessions this machine carries cleanly, encoders, decoders and clients included."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tests.bench.media.bench import WARM_UP_S, Bench
from tests.bench.media.clients.driver import ClientError, NullClients, null_clients
from tests.bench.media.quoted import quote
from tests.bench.media.results import OURS, Figure, Target
from tests.bench.media.systems.service import Service
from tests.bench.media.watching import Watched, watch

ROW: Final = "clean"
TARGETS: Final = {"vp8": Target(5, at_least=True), "h264": Target(10, at_least=True)}
MOST: Final = 24
WINDOWS: Final = 5
"""Windows at a number of sessions whose first was not clean."""
NOTE = (
    "Clean: every session at 24 fps within 1 %, nothing lost, no gap over 200 ms. One session "
    "after another is added; where a window is not clean four more are taken, and most decide. "
    "A count has no spread. The incumbent paces the packets of the jump cut at the pinned rate, "
    "which alone takes about 200 ms whatever the load: so the same without the gap stands beside. "
    "Ours decodes a source for each session as well, the others decode none."
)
CLEAN, STEADY = "clean sessions on this machine", "sessions at full rate without loss"
Test = Callable[[Watched], bool]
TESTS: Final[dict[str, Test]] = {
    CLEAN: lambda watched: watched.clean,
    STEADY: lambda watched: watched.steady,
}
"""What a window of sessions has to be; who passes the first passes the second."""


async def measure(bench: Bench) -> list[Figure]:
    """Searches upwards for each system."""
    figures = []
    for codec in ("vp8", "h264"):
        with bench.ours() as service:
            async with null_clients() as clients:
                figures += await _search(bench, service, clients, codec)
    async with bench.naive() as server, null_clients() as clients:
        figures += await _search(bench, server, clients, "vp8")
    if not bench.has_incumbent:
        return figures + quote(bench, ROW)
    async with bench.incumbent() as runtime, null_clients() as clients:
        figures += await _search(bench, runtime, clients, "vp8")
    return figures


async def _search(bench: Bench, service: Service, clients: NullClients, codec: str) -> list[Figure]:
    looks: dict[int, list[Watched]] = {}
    for count in range(1, (1 if bench.quick else MOST) + 1):
        bench.say(f"{ROW}: {service.name}, {codec}, {count} session(s)")
        try:
            await service.join(clients, codec)
        except ClientError:
            if not looks:
                raise
            # It waits for a place: the service does not take on what it could not carry.
            break
        await clients.start()
        await asyncio.sleep(WARM_UP_S)
        looks[count] = await _looks(bench, service, clients)
        if not mostly(looks[count], TESTS[STEADY]):
            break
    await service.leave(clients)
    detail = {"by sessions": {str(count): _told(each) for count, each in looks.items()}}
    ours = service.name == OURS
    return [
        Figure(
            ROW,
            f"{codec.upper()}: {name}",
            service.name,
            "",
            (float(held(looks, test)),),
            TARGETS[codec] if ours and name == CLEAN else None,
            note=NOTE,
            detail=detail,
        )
        for name, test in TESTS.items()
    ]


async def _looks(bench: Bench, service: Service, clients: NullClients) -> list[Watched]:
    """Takes a window, and more where the first is not clean."""
    looks = [await watch(service, clients, bench.window_s)]
    while not looks[0].clean and len(looks) < min(bench.runs, WINDOWS):
        looks.append(await watch(service, clients, bench.window_s))
    return looks


def mostly(looks: Sequence[Watched], test: Test) -> bool:
    """Tells whether more than half of the windows pass."""
    return sum(map(test, looks)) * 2 > len(looks)


def held(looks: Mapping[int, Sequence[Watched]], test: Test) -> int:
    """Returns how many sessions passed, with all smaller numbers."""
    most = 0
    for count, windows in sorted(looks.items()):
        if not mostly(windows, test):
            break
        most = count
    return most


def _told(windows: Sequence[Watched]) -> list[dict[str, float]]:
    return [
        {
            "fps worst": round(each.worst_rate, 2),
            "longest gap ms": round(each.longest_gap_ms),
            "lost packets": each.lost,
            "machine cores": round(each.spent.machine, 2),
            "client cores": round(each.client_cores, 3),
        }
        for each in windows
    ]
