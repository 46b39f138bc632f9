"""How late an event loop is: what every timer on it, a frame's included, suffers."""

from __future__ import annotations

import asyncio
from typing import Final

from prometheus_client import Histogram

PERIOD_S: Final = 0.5
"""How often the lag is measured."""

_LAG = Histogram(
    "sana_gateway_loop_lag_seconds",
    "How late a timer of the event loop fired, measured twice a second.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0),
)


async def watch_lag() -> None:
    """Measures until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + PERIOD_S
        await asyncio.sleep(PERIOD_S)
        _LAG.observe(max(0.0, loop.time() - due))
