"""The attacker of the benchmark: what it holds open stays open, and what it asks is refused."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from gateway.http import HttpServer
from gateway.limits.calls import CallRates
from gateway.limits.settings import RateSettings
from scheduler.core.errors import UnauthenticatedError
from scheduler.core.ids import Principal
from tests.bench.attack_words import CALLS, REQUESTS
from tests.bench.attacking import Attack, address
from tests.bench.flood import summary
from tests.fakes.grpc_gateway import grpc_gateway
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services

pytestmark = pytest.mark.unit


class Nobody:
    """Knows no token."""

    def authenticate(self, token: str | None) -> Principal:
        raise UnauthenticatedError("the token is unknown")


async def test_it_holds_connections_and_is_told_that_nobody_knows_it() -> None:
    rates = CallRates(RateSettings())
    services = dataclasses.replace(fake_services(FakeHub()), auth=Nobody(), rates=rates)
    server = HttpServer(services)
    await server.start()
    async with grpc_gateway(services) as grpc_address:
        ports = address(server.url), address(grpc_address)
        attack = Attack(*ports, half_open=12, opened=1000.0, rate=300.0)
        tally = attack.tally

        def enough() -> bool:
            kinds = {"204", "404", "grpc"} <= set(tally.answers)
            return kinds and tally.held == 12 and tally.answers["grpc"] > 3 * len(CALLS)

        async with asyncio.timeout(60):
            await asyncio.to_thread(attack.run, enough)
    await server.stop()
    assert (tally.closed, tally.refused, tally.cut) == (0, 0, 0)
    assert set(tally.answers) <= {"200", "204", "400", "404", "405", "grpc"}
    assert tally.answered > len(REQUESTS)


def test_an_attack_is_summed_up_from_its_first_line_to_its_last() -> None:
    counts = ("sent", "answered", "cut", "refused", "forgotten", "opened", "closed")
    lines = [
        {"at": at, "held": held, "answers": {"401": seen}, **dict.fromkeys(counts, seen)}
        for at, held, seen in ((10.0, 5, 100), (12.0, 9, 300), (14.0, 9, 900))
    ]
    told = summary(lines)
    assert (told["held"], told["sent_per_s"], told["closed_per_s"]) == (9, 200.0, 200.0)
    assert told["answers"] == {"401": 800}
