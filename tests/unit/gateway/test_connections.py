"""Which connections a door takes: of all, of an address, and how fast."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gateway.limits.calls import CallRates
from gateway.limits.connections import LOOK_S, Connections, Refusal
from gateway.limits.settings import RateSettings

pytestmark = pytest.mark.unit


@dataclass
class Fake:
    is_over: bool = False


class Door:
    """Connections, and what comes of trying."""

    def __init__(self, rate: str | None = None, proxies: tuple[str, ...] = ()) -> None:
        self.now = 0.0
        settings = RateSettings(connections=rate or "off", trusted_proxies=proxies)
        rates = None if rate is None else CallRates(settings, lambda: self.now)
        self._connections = Connections(rates, most=4, most_of_address=2)
        self.open: list[Fake] = []

    def come(self, peer: str) -> Refusal | None:
        why = self._connections.refusal(peer, self.now)
        if why is None:
            self.open.append(Fake())
            self._connections.took(peer, self.open[-1])
        return why

    def leave(self, index: int) -> None:
        self.open[index].is_over = True
        self.now += LOOK_S


def test_so_many_are_taken_at_once_and_others_when_one_has_left() -> None:
    door = Door()
    assert [door.come("192.0.2.1") for _ in range(5)] == [None] * 4 + ["all"]
    door.leave(2)
    assert [door.come("192.0.2.1") for _ in range(2)] == [None, "all"]


def test_one_address_has_a_part_of_them() -> None:
    door = Door("off")
    assert [door.come("192.0.2.1") for _ in range(3)] == [None, None, "address"]
    assert door.come("192.0.2.2") is None
    door.leave(0)
    assert [door.come("192.0.2.1") for _ in range(2)] == [None, "address"]


def test_users_of_one_ipv6_network_are_one_address() -> None:
    door = Door("off")
    told = [door.come(f"2001:db8::{number}") for number in (1, 2, 3)]
    assert told == [None, None, "address"]
    assert door.come("2001:db8:1::1") is None


def test_an_address_that_connects_too_fast_has_to_wait() -> None:
    door = Door("1/s:1")
    assert [door.come("192.0.2.1") for _ in range(2)] == [None, "rate"]
    assert door.come("192.0.2.2") is None
    door.now += 1.0
    assert door.come("192.0.2.1") is None


def test_a_proxy_of_ours_speaks_for_many() -> None:
    door = Door("1/s:1", ("10.0.0.0/8",))
    assert [door.come("10.1.2.3") for _ in range(5)] == [None] * 4 + ["all"]


def test_who_is_refused_again_and_again_is_not_looked_after_each_time() -> None:
    door = Door()
    for _ in range(4):
        door.come("192.0.2.1")
    assert door.come("192.0.2.1") == "all"
    door.open[0].is_over = True
    assert door.come("192.0.2.1") == "all", "only just looked"
    door.now += LOOK_S
    assert door.come("192.0.2.1") is None
