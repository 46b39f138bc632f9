"""Asks the service under load how it is, while it is under load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import aiohttp

from sana_gateway import Client, GatewayError, RetryPolicy
from sdk_adapters.harness.exposed import Exposed, between, of_metrics, of_pool
from sdk_adapters.harness.generator.target import Target
from sdk_adapters.harness.metrics import METRICS, Side
from sdk_adapters.harness.records import Measured, Scrape

EVERY_S: Final = 2.0
"""Time between two questions."""
SCRAPES: Final = 2_000
"""About so many questions a run: a long one asks less often."""
_PATIENCE_S: Final = 5.0
"""How long a gateway may take to answer."""
_ONCE: Final = RetryPolicy(window=0.5, longest=0.1)
"""A service that is away is asked again with the next scrape."""


class Scraper:
    """Asks the gateways of a target; where none answers over HTTP, for the pool alone.

    Times of scrapes are those of the clock until `into` puts them into a run.
    """

    def __init__(self, target: Target, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Has asked nothing yet.

        Args:
            target: The service.
            clock: Tells the time.
        """
        self.scrapes: list[Scrape] = []
        """All so far; bounded by the pauses of `watch`."""
        self.version = ""
        """Of the service, once it has told."""
        self._target = target
        self._clock = clock
        self._http: aiohttp.ClientSession | None = None
        self._client: Client | None = None
        self._last: Exposed | None = None
        self._failure = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes its connections. Repeating it is no error."""
        http, self._http = self._http, None
        client, self._client = self._client, None
        if http is not None:
            await http.close()
        if client is not None:
            await client.close()

    async def watch(self, every_s: float = EVERY_S) -> None:
        """Scrapes until cancelled.

        Args:
            every_s: Time between two scrapes.
        """
        due = self._clock()
        while True:
            self.scrapes.append(await self.scrape())
            due = max(due + every_s, self._clock())
            await asyncio.sleep(due - self._clock())

    async def scrape(self) -> Scrape:
        """Asks once; a service that does not answer has told nothing.

        What is made of the time since the last scrape is missing from the first.
        """
        now = await self._ask()
        before, self._last = self._last, now
        self.version = self.version or now.version
        levels = dict(now.levels) if before is None else between(before, now)
        return Scrape(at_s=now.at_s, levels=levels, processes=now.processes)

    def into(self, measured: Measured) -> None:
        """Puts the scrapes into a run that has ended, and why others are missing."""
        measured.scrapes += [
            Scrape(each.at_s - measured.epoch, each.levels, each.processes) for each in self.scrapes
        ]
        told = {name for each in self.scrapes for name in each.levels}
        if any(each.processes for each in self.scrapes):
            told |= {"server_rss_slope", "server_fd_slope"}
        reason = self._failure or "the service did not tell"
        for name, metric in METRICS.items():
            if metric.side is Side.SERVER and name not in told:
                measured.not_measured.setdefault(name, reason)

    async def _ask(self) -> Exposed:
        at_s = self._clock()
        answers = await asyncio.gather(*(self._metrics_of(each) for each in self._target.http))
        texts = {
            address: text
            for address, text in zip(self._target.http, answers, strict=True)
            if text is not None
        }
        return of_metrics(texts, at_s) if texts else await self._describe(at_s)

    async def _metrics_of(self, address: str) -> str | None:
        if self._http is None:
            token = self._target.token
            self._http = aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {token}"} if token else None,
                timeout=aiohttp.ClientTimeout(total=_PATIENCE_S),
            )
        url = address if "://" in address else f"http://{address}"
        try:
            async with self._http.get(f"{url}/metrics") as answer:
                if answer.status == 200:
                    return await answer.text()
                self._failure = f"/metrics answered with status {answer.status}"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._failure = f"/metrics did not answer ({type(error).__name__})"
        return None

    async def _describe(self, at_s: float) -> Exposed:
        """Asks for the pool, which only operators may."""
        if self._client is None:
            self._client = self._target.client(policy=_ONCE)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return of_pool(await self._client.describe_pool(), at_s)
        except (GatewayError, TimeoutError) as error:
            if not self._target.http:
                self._failure = (
                    "no HTTP address of the service was given, and it did not describe its pool "
                    f"({type(error).__name__})"
                )
        return Exposed(at_s)


def pause_s(run_s: float) -> float:
    """Returns the time between two scrapes of a run of so many seconds."""
    return max(EVERY_S, run_s / SCRAPES)
