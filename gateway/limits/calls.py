"""What a door asks before it answers a call.

`admit` comes first and costs one look into a table: calls of an address that has used up its
rate, or has shown too many wrong credentials, are refused before any are looked at. `count` comes
when the caller is known.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from prometheus_client import Counter

from gateway.limits.addresses import UNKNOWN
from gateway.limits.buckets import Buckets
from gateway.limits.settings import Deed, RateSettings
from scheduler.core.errors import LimitError
from scheduler.core.ids import Principal

DEEDS: Final[tuple[Deed, ...]] = ("create", "exchange", "upload", "signal", "command")
_TEXTS: Final = {
    "create": "too many new sessions at once",
    "exchange": "too many tokens at once",
    "upload": "too many uploads at once",
    "signal": "too many offers and streams at once",
    "command": "too many commands at once",
    "address": "too many calls from this address",
    "failures": "too many calls from this address without a good token",
}

_REFUSED = Counter(
    "sana_gateway_rate_refusals", "Calls refused because there were too many, by what.", ("rate",)
)


class CallRates:
    """The rates of one door.

    Args:
        settings: How often who may call.
        clock: Any clock that goes forward, in seconds.
    """

    def __init__(self, settings: RateSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.change(settings)

    def change(self, settings: RateSettings) -> None:
        """Counts anew, under other rates."""
        self.proxies = settings.proxies()
        """Networks of proxies that are believed."""
        names = (*DEEDS, "address", "failures", "connections")
        rates = {name: settings.rate(name) for name in names}
        self._buckets = {name: Buckets(rate) for name, rate in rates.items() if rate}

    def may_connect(self, address: str) -> bool:
        """Tells whether an address may connect once more, and counts it."""
        buckets = self._buckets.get("connections")
        return buckets is None or not buckets.take(address, self._clock())

    def admit(self, address: str) -> None:
        """Passes when calls of an address are looked at, and counts this one.

        Raises:
            LimitError: They are not, for a while.
        """
        if address == UNKNOWN:
            return
        failures = self._buckets.get("failures")
        if failures is not None:
            _pass_if("failures", failures.wait_s(address, self._clock()))
        self._take("address", address)

    def failed(self, address: str) -> None:
        """Counts a call that showed no good credentials."""
        failures = self._buckets.get("failures")
        if failures is not None and address != UNKNOWN:
            failures.take(address, self._clock())

    def count(self, deed: Deed | None, principal: Principal) -> None:
        """Passes when a caller may do something once more, and counts it.

        Args:
            deed: What; None: something that is not counted.
            principal: Who; the narrowest of whom its sessions are counted for has the bucket.

        Raises:
            LimitError: Not for a while.
        """
        if deed is not None:
            holder = principal.holders[-1].name if principal.holders else ""
            self._take(deed, f"{principal.tenant} {holder}")

    def count_address(self, deed: Deed, address: str) -> None:
        """Passes when something may be done once more from an address, by whom is not known.

        Raises:
            LimitError: Not for a while.
        """
        if address != UNKNOWN:
            self._take(deed, address)

    def _take(self, name: str, key: str) -> None:
        buckets = self._buckets.get(name)
        if buckets is not None:
            _pass_if(name, buckets.take(key, self._clock()))


def _pass_if(name: str, wait_s: float) -> None:
    if wait_s > 0:
        _REFUSED.labels(name).inc()
        raise LimitError(_TEXTS[name], retry_after_s=wait_s, quota=f"rate_{name}")
