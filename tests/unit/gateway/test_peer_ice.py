"""Which ICE servers answer, and whether a client still lives."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest
from aioice import stun

from gateway.webrtc.ice import (
    ASK_INTERVAL_S,
    CONSENT_INTERVAL_S,
    CONSENT_S,
    QUIET_S,
    REFUSAL_SPAN_S,
    REFUSALS,
    SERVED_QUIET_S,
    SILENCE_S,
    IceServer,
    IceServerProber,
    IceUrl,
    Liveness,
    parse_ice_url,
)
from scheduler.core.errors import ConfigurationError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("stun:stun.example.org", IceUrl("stun", "stun.example.org", 3478, tcp=False)),
        ("stun:192.0.2.1:19302", IceUrl("stun", "192.0.2.1", 19302, tcp=False)),
        ("turn:turn.example.org:3478", IceUrl("turn", "turn.example.org", 3478, tcp=False)),
        ("turn:turn.example.org?transport=tcp", IceUrl("turn", "turn.example.org", 3478, tcp=True)),
        ("turns:turn.example.org", IceUrl("turns", "turn.example.org", 5349, tcp=True)),
        ("turn:[2001:db8::1]:99?transport=udp", IceUrl("turn", "2001:db8::1", 99, tcp=False)),
    ],
)
def test_urls_of_servers_are_read(url: str, parsed: IceUrl) -> None:
    assert parse_ice_url(url) == parsed


@pytest.mark.parametrize(
    "url", ["", "http://example.org", "stun:", "stun:a:0", "stun:a:65536", "stun:a:b", "turn:a b"]
)
async def test_a_malformed_url_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ConfigurationError):
        IceServerProber([IceServer((url,))])


class StunServer(asyncio.DatagramProtocol):
    """Answers binding requests but for the first `deaf` ones."""

    def __init__(self, deaf: int = 0, *, wrong: bool = False) -> None:
        self.deaf, self.wrong = deaf, wrong
        self.requests = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.requests += 1
        request = stun.parse_message(data)
        assert request.message_method == stun.Method.BINDING
        if self.requests <= self.deaf:
            return
        answer = stun.Message(
            message_method=stun.Method.BINDING,
            message_class=stun.Class.RESPONSE,
            transaction_id=bytes(12) if self.wrong else request.transaction_id,
        )
        answer.attributes["XOR-MAPPED-ADDRESS"] = addr
        self.transport.sendto(bytes(answer), addr)


@asynccontextmanager
async def stun_server(server: StunServer) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: server, local_addr=("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


@asynccontextmanager
async def probing(*servers: IceServer, **options: float) -> AsyncIterator[IceServerProber]:
    prober = IceServerProber(servers, **options)
    prober.start()
    try:
        yield prober
    finally:
        await prober.close()


async def test_before_the_first_answers_no_server_is_used() -> None:
    async with (
        stun_server(StunServer()) as port,
        probing(IceServer((f"stun:127.0.0.1:{port}",))) as prober,
    ):
        assert prober.reachable() == ()
        await prober.probed()
        assert prober.reachable() == (IceServer((f"stun:127.0.0.1:{port}",)),)


async def test_servers_that_do_not_answer_are_left_out_url_by_url() -> None:
    refusing = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    refusing.bind(("127.0.0.1", 0))
    dead = f"turn:127.0.0.1:{refusing.getsockname()[1]}"
    refusing.close()
    with closing(socket.create_server(("127.0.0.1", 0))) as tcp:
        over_tcp = f"turn:127.0.0.1:{tcp.getsockname()[1]}?transport=tcp"
        async with stun_server(StunServer(wrong=True)) as lying, stun_server(StunServer()) as port:
            live = f"turn:localhost:{port}"
            servers = [
                IceServer((dead, live, over_tcp), "name", "secret"),
                IceServer((f"stun:127.0.0.1:{lying}",)),
                IceServer(("stun:no-such-host.invalid",)),
            ]
            async with probing(*servers, timeout_s=0.6) as prober:
                await prober.probed()
                assert prober.reachable() == (IceServer((live, over_tcp), "name", "secret"),)


async def test_a_lost_question_is_asked_again() -> None:
    server = StunServer(deaf=1)
    async with (
        stun_server(server) as port,
        probing(IceServer((f"stun:127.0.0.1:{port}",))) as prober,
    ):
        await prober.probed()
        assert prober.reachable()
        assert server.requests == 2


async def test_a_server_that_comes_back_or_goes_is_noticed() -> None:
    server = StunServer(deaf=3)
    async with stun_server(server) as port:
        url = f"stun:127.0.0.1:{port}"
        async with probing(IceServer((url,)), interval_s=0.01, timeout_s=0.6) as prober:
            async with asyncio.timeout(30):
                await prober.probed()
                assert prober.reachable() == ()
                while not prober.reachable():
                    await prober.probed()
                server.deaf = 10**6
                while prober.reachable():
                    await prober.probed()


async def test_peers_are_given_addresses_for_names_but_not_where_a_certificate_is_checked() -> None:
    async with stun_server(StunServer()) as port:
        urls = (f"stun:localhost:{port}", f"turn:localhost:{port}")
        async with probing(IceServer(urls)) as prober:
            await prober.probed()
            (server,) = prober.resolved()
            assert server.urls == (f"stun:127.0.0.1:{port}", f"turn:localhost:{port}")


async def test_other_servers_are_asked_at_once_and_what_is_known_of_the_rest_stays() -> None:
    first, second = StunServer(), StunServer()
    async with stun_server(first) as port, stun_server(second) as other:
        stays, goes = IceServer((f"stun:127.0.0.1:{port}",)), IceServer(("stun:127.0.0.1:9",))
        comes = IceServer((f"stun:127.0.0.1:{other}",))
        # So long between two rounds that a second one can only be asked for.
        async with probing(stays, goes, interval_s=3600.0) as prober, asyncio.timeout(30):
            await prober.probed()
            asked = prober.probed()
            prober.change((stays, comes))
            assert prober.reachable() == (stays,)
            await asked
            assert prober.reachable() == (stays, comes)
            rounds = second.requests
            prober.change((stays, comes))
            with pytest.raises(ConfigurationError):
                prober.change((IceServer(("http://example.org",)),))
            assert prober.reachable() == (stays, comes)
            prober.change(())
            assert prober.reachable() == ()
    assert second.requests == rounds == 1, "what is not new is no reason to ask"


async def test_a_prober_that_had_no_server_asks_the_first_that_comes() -> None:
    async with stun_server(StunServer()) as port, probing() as prober, asyncio.timeout(30):
        server = IceServer((f"stun:127.0.0.1:{port}",))
        prober.change((server,))
        await prober.probed()
        assert prober.reachable() == (server,)


async def test_a_server_that_was_taken_away_amid_a_round_does_not_come_back() -> None:
    server = StunServer(deaf=1)
    async with stun_server(server) as port, asyncio.timeout(30):
        url = f"stun:127.0.0.1:{port}"
        async with probing(IceServer((url,)), interval_s=3600.0) as prober:
            while not server.requests:  # noqa: ASYNC110 - the other end of a socket
                await asyncio.sleep(0.001)
            prober.change(())
            await prober.probed()
            prober.change((IceServer((url,)),))
            assert prober.reachable() == ()


async def test_a_prober_without_servers_has_no_task() -> None:
    before = len(asyncio.all_tasks())
    async with probing() as prober:
        assert len(asyncio.all_tasks()) == before
        assert prober.resolved() == ()


async def test_a_prober_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    async with probing(IceServer(("stun:127.0.0.1:9",))):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


# -- whether a client lives ----------------------------------------------------------------


def test_a_client_that_is_heard_is_asked_for_consent_only_now_and_then() -> None:
    liveness, now, questions = Liveness(0.0), 0.0, []
    while now < 19:
        liveness.heard(now)
        now += min(liveness.next_question(now), 0.04) or 0.001
        if liveness.must_ask(now):
            liveness.asked(now)
            liveness.consented(now)
            questions.append(now)
        assert not liveness.gone(now)
    assert len(questions) == 3
    assert questions[0] == pytest.approx(CONSENT_INTERVAL_S, abs=0.1)


def silent(liveness: Liveness, since: float, until: float) -> tuple[float, list[float]]:
    now, questions = since, []
    while now < until and not liveness.gone(now):
        now += liveness.next_question(now) + 1e-6
        if liveness.must_ask(now):
            liveness.asked(now)
            questions.append(now)
    return now, questions


def test_a_silent_client_is_asked_often_and_given_up_after_ten_seconds() -> None:
    now, questions = silent(Liveness(100.0), 100.0, 200.0)
    assert now - 100.0 == pytest.approx(SILENCE_S, abs=ASK_INTERVAL_S)
    assert questions[0] - 100.0 == pytest.approx(QUIET_S, abs=0.01)
    assert len(questions) == pytest.approx((SILENCE_S - QUIET_S) / ASK_INTERVAL_S, abs=2)


def served(liveness: Liveness, until: float, *, reports_s: float = 1e9) -> list[float]:
    """Sends a frame every 40 ms to a client that answers questions; returns when it was asked."""
    now, look_at, report_at, questions = 0.0, 0.0, reports_s, []
    while now < until:
        now += 0.04
        liveness.served(now)
        if now >= report_at:
            report_at += reports_s
            liveness.heard(now)
        if now >= look_at:
            if liveness.must_ask(now):
                liveness.asked(now)
                liveness.consented(now)
                questions.append(now)
            look_at = now + liveness.next_question(now)
        assert not liveness.gone(now)
    return questions


def test_a_client_that_reports_of_its_media_is_asked_for_consent_only_now_and_then() -> None:
    questions = served(Liveness(0.0), 4 * CONSENT_INTERVAL_S, reports_s=1.5)
    assert len(questions) == pytest.approx(4, abs=1)


def test_a_client_that_only_watches_is_asked_seldom_and_kept() -> None:
    questions = served(Liveness(0.0), 4 * SERVED_QUIET_S)
    assert questions[0] == pytest.approx(SERVED_QUIET_S, abs=0.1)
    assert len(questions) == pytest.approx(4, abs=1)


def test_when_media_end_a_silent_client_is_soon_asked_often() -> None:
    liveness = Liveness(0.0)
    served(liveness, 2.0)
    _, questions = silent(liveness, 2.0, 6.0)
    assert questions[0] - 2.0 <= QUIET_S + 0.1
    assert questions[1] - questions[0] == pytest.approx(ASK_INTERVAL_S, abs=0.01)


def test_a_network_that_pauses_for_five_seconds_costs_nothing() -> None:
    liveness = Liveness(0.0)
    now, _ = silent(liveness, 0.0, 5.0)
    assert not liveness.gone(now)
    liveness.heard(now)
    assert liveness.next_question(now) > 0
    assert not liveness.gone(now + 5)


def test_consent_that_is_never_given_expires_though_the_client_is_heard() -> None:
    liveness = Liveness(0.0)
    for second in range(int(CONSENT_S)):
        liveness.heard(float(second))
        assert not liveness.gone(float(second))
    assert liveness.gone(CONSENT_S)


def test_refused_datagrams_end_a_client_when_they_repeat_and_nothing_is_heard() -> None:
    liveness = Liveness(0.0)
    assert not any(liveness.refused(1.0) for _ in range(10)), "one burst is one observation"
    assert liveness.refused(1.0 + REFUSAL_SPAN_S)
    liveness.heard(2.0)
    assert not any(liveness.refused(2.0 + REFUSAL_SPAN_S) for _ in range(REFUSALS - 1))
