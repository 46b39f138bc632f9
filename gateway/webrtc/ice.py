"""Ways to and from a client: which STUN and TURN servers answer, and whether it still lives.

aiortc waits five seconds for a server that does not answer, at every join. So the servers
are asked in the background, and peers are made, and clients told, with those that answered
lately. Sources: RFC 8489 (STUN), RFC 7064 and 7065 (URIs), RFC 7675 (consent).
"""

from __future__ import annotations

import asyncio
import os
import re
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.webrtc.turn import TurnLogins
from scheduler.core.errors import ConfigurationError

PROBE_INTERVAL_S: Final = 20.0
"""Time between two rounds of questions to the servers."""
PROBE_TIMEOUT_S: Final = 1.0
"""A server that has not answered by then does not answer."""

QUIET_S: Final = 0.75
"""A client that has not been heard for so long is asked whether it is there, ..."""
SERVED_QUIET_S: Final = 3.0
"""... or for so long while media go to it: where it is gone, its host refuses those as it would
refuse a question, and clients report of them every second or two."""
ASK_INTERVAL_S: Final = 0.5
"""Time between two questions to a silent client."""
SILENCE_S: Final = 10.0
"""A client that has not been heard for so long is gone; mobile networks pause for five."""
CONSENT_INTERVAL_S: Final = 5.0
"""Time between two requests for consent to a client that is heard (RFC 7675)."""
CONSENT_S: Final = 30.0
"""Consent that has not been renewed for so long has expired (RFC 7675)."""
REFUSALS: Final = 3
"""Refused datagrams in a row that end a client: its socket is gone."""
REFUSAL_SPAN_S: Final = 0.1
"""Time in which they must have come, at least: one burst is one observation."""

_URL = re.compile(
    r"(stuns?|turns?):(\[[0-9a-fA-F:]+\]|[^\[\]:?\s]+)(?::(\d{1,5}))?(?:\?transport=(udp|tcp))?"
)
_COOKIE: Final = 0x2112A442
_BINDING: Final = 0x0001
_ANSWERS: Final = (0x0101, 0x0111)
_RETRANSMIT_S: Final = (0.0, 0.2, 0.3)


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN or TURN server that the gateway's own side and its clients use."""

    urls: tuple[str, ...]
    """For example `stun:stun.example.org:3478`."""
    username: str | None = None
    credential: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class IceUrl:
    """Where a STUN or TURN server listens."""

    scheme: str
    """`stun`, `stuns`, `turn` or `turns`."""
    host: str
    """Name or address, without brackets."""
    port: int
    tcp: bool
    """Whether it is reached over TCP (or TLS) instead of UDP."""

    @property
    def resolvable(self) -> bool:
        """Whether its name may be replaced by its address: over TLS the name is checked."""
        return self.scheme == "stun"


def parse_ice_url(url: str) -> IceUrl:
    """Reads the URL of a server.

    Raises:
        ConfigurationError: It is none.
    """
    found = _URL.fullmatch(url)
    if found is None or int(found[3] or 1) not in range(1, 1 << 16):
        raise ConfigurationError("an ICE server's URL is not stun:, stuns:, turn: or turns:")
    secure = found[1].endswith("s")
    port = int(found[3]) if found[3] else 5349 if secure else 3478
    return IceUrl(found[1], found[2].strip("[]"), port, secure or found[4] == "tcp")


class IceServerProber:
    """Knows which servers answer. One task, from `start` to `close`; before the first
    answers none does.
    """

    def __init__(
        self,
        servers: Sequence[IceServer],
        *,
        logins: TurnLogins | None = None,
        interval_s: float = PROBE_INTERVAL_S,
        timeout_s: float = PROBE_TIMEOUT_S,
    ) -> None:
        """Takes the configured servers.

        Args:
            servers: The servers.
            logins: Makes logins for TURN servers that have none of their own.
            interval_s: Time between two rounds of questions.
            timeout_s: How long a server may take to answer.

        Raises:
            ConfigurationError: A URL is malformed.
        """
        self._logins = logins
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._servers: tuple[IceServer, ...] = ()
        self._urls: dict[str, IceUrl] = {}
        self._addresses: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._take(servers)
        self._lookups: dict[str, asyncio.Future[str]] = {}
        self._task: asyncio.Task[None] | None = None
        self._round = asyncio.Event()

    def start(self) -> None:
        """Begins to ask, if there is anybody to ask. Needs a running loop."""
        if self._urls and self._task is None:
            self._task = asyncio.create_task(self._run(), name="ice-servers")

    def change(self, servers: Sequence[IceServer]) -> None:
        """Goes on with other servers, asked at once; of those that stay what is known stays.

        Raises:
            ConfigurationError: A URL is malformed; nothing has changed.
        """
        if tuple(servers) == self._servers:
            return
        self._take(servers)
        self._changed.set()
        self.start()

    async def close(self) -> None:
        """Asks no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for lookup in self._lookups.values():
            lookup.cancel()

    async def probed(self) -> None:
        """Waits for the end of the round under way, or of the next."""
        await self._round.wait()

    def reachable(self) -> tuple[IceServer, ...]:
        """Returns the servers that answered the last time, with the URLs that did; where logins are
        made, with one for whoever asks alone.
        """
        return self._reduced(str)

    def resolved(self) -> tuple[IceServer, ...]:
        """Returns the same, with another login, and with addresses for names where that is
        possible: no join waits for a name server.
        """
        return self._reduced(self._with_address)

    def _take(self, servers: Sequence[IceServer]) -> None:
        self._urls = {url: parse_ice_url(url) for server in servers for url in server.urls}
        self._servers = tuple(servers)
        known = self._addresses.items()
        self._addresses = {url: address for url, address in known if url in self._urls}

    def _reduced(self, written: Callable[[str], str]) -> tuple[IceServer, ...]:
        login: tuple[str, str] | None = None
        kept = []
        for each in self._servers:
            urls = tuple(written(url) for url in each.urls if url in self._addresses)
            server = replace(each, urls=urls)
            if urls and self._logins is not None and self._needs_login(each):
                login = login or self._logins.draw()
                server = replace(server, username=login[0], credential=login[1])
            kept.append(server)
        return tuple(server for server in kept if server.urls)

    def _needs_login(self, server: IceServer) -> bool:
        relays = any(self._urls[url].scheme.startswith("turn") for url in server.urls)
        return relays and server.username is None

    def _with_address(self, url: str) -> str:
        parsed, address = self._urls[url], self._addresses[url]
        if not parsed.resolvable or ":" in address:
            return url
        return f"{parsed.scheme}:{address}:{parsed.port}"

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            await asyncio.gather(*(self._probe(*each) for each in self._urls.items()))
            self._round.set()
            self._round = asyncio.Event()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await self._changed.wait()

    async def _probe(self, url: str, parsed: IceUrl) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                address = await self._look_up(parsed.host)
                ask = _answers_tcp if parsed.tcp else _answers_udp
                await ask(address, parsed.port)
        except (OSError, TimeoutError):
            self._addresses.pop(url, None)
        else:
            if url in self._urls:
                self._addresses[url] = address

    async def _look_up(self, host: str) -> str:
        """Returns an address. A name server that hangs is asked once, not every round."""
        lookup = self._lookups.get(host)
        if lookup is None or (lookup.done() and (lookup.cancelled() or lookup.exception())):
            lookup = asyncio.ensure_future(_address_of(host))
            self._lookups[host] = lookup
        address = await asyncio.shield(lookup)
        self._lookups.pop(host, None)
        return address


async def _address_of(host: str) -> str:
    found = await asyncio.get_running_loop().getaddrinfo(host, None)
    # aioice asks STUN servers over IPv4 only.
    found.sort(key=lambda each: ":" in str(each[4][0]))
    return str(found[0][4][0])


async def _answers_tcp(address: str, port: int) -> None:
    _, writer = await asyncio.open_connection(address, port)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def _answers_udp(address: str, port: int) -> None:
    """Sends a binding request until it is answered; TURN servers answer it, too."""
    transport, question = await asyncio.get_running_loop().create_datagram_endpoint(
        _Question, remote_addr=(address, port)
    )
    try:
        for pause in _RETRANSMIT_S:
            await asyncio.wait([question.answered], timeout=pause)
            if not question.answered.done():
                transport.sendto(question.request)
        await question.answered
    finally:
        transport.close()


class _Question(asyncio.DatagramProtocol):
    """A binding request, and whether it was answered."""

    def __init__(self) -> None:
        self.transaction = os.urandom(12)
        self.request = struct.pack("!HHL", _BINDING, 0, _COOKIE) + self.transaction
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - asyncio's signature
        answer = len(data) >= 20 and int.from_bytes(data[:2], "big") in _ANSWERS
        if answer and data[8:20] == self.transaction and not self.answered.done():
            self.answered.set_result(None)

    def error_received(self, exc: Exception) -> None:
        if not self.answered.done():
            self.answered.set_exception(exc)


class Liveness:
    """Whether a connected client still lives. Pure; times in seconds.

    A client is heard when a packet that only it can have sent arrives.
    """

    def __init__(self, now: float) -> None:
        self._heard_at = now
        self._consent_at = now
        self._asked_at = now
        self._served_at = float("-inf")
        self._refusals = 0
        self._first_refusal_at = now

    def served(self, now: float) -> None:
        """Media went to the client."""
        self._served_at = now

    def heard(self, now: float) -> None:
        """The client has sent something."""
        self._heard_at = now
        self._refusals = 0

    def asked(self, now: float) -> None:
        """The client is asked for its consent."""
        self._asked_at = now

    def consented(self, now: float) -> None:
        """It has answered."""
        self.heard(now)
        self._consent_at = now

    def refused(self, now: float) -> bool:
        """A datagram to the client was refused by its host. Returns whether the client is gone."""
        if not self._refusals:
            self._first_refusal_at = now
        self._refusals += 1
        return self._refusals >= REFUSALS and now - self._first_refusal_at >= REFUSAL_SPAN_S

    def gone(self, now: float) -> bool:
        """Returns whether it has been silent for too long."""
        return now - self._heard_at >= SILENCE_S or now - self._consent_at >= CONSENT_S

    def next_question(self, now: float) -> float:
        """Returns how long to wait before it is asked, or looked at, again."""
        until_quiet = self._heard_at + self._patience_s(now) - now
        if until_quiet <= 0:
            return max(0.0, self._asked_at + ASK_INTERVAL_S - now)
        until_consent = self._asked_at + CONSENT_INTERVAL_S - now
        # Media may end meanwhile, and with them the longer patience.
        return max(0.0, min(until_quiet, until_consent, QUIET_S))

    def must_ask(self, now: float) -> bool:
        """Returns whether it is to be asked now."""
        quiet = now - self._heard_at >= self._patience_s(now)
        return now - self._asked_at >= (ASK_INTERVAL_S if quiet else CONSENT_INTERVAL_S)

    def _patience_s(self, now: float) -> float:
        return SERVED_QUIET_S if now - self._served_at < QUIET_S else QUIET_S
