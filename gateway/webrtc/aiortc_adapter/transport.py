"""The transports of a peer: sockets, what may come in through them, and when a client is lost.

Every datagram is looked at once, where it is read. RTP goes to the receiver of the camera
in the same call; STUN is aioice's; DTLS and RTCP wait, bounded, for aiortc's own task.
"""

# ruff: noqa: SLF001 - private parts are what this package is about

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import pylibsrtp
import structlog
from aioice import Connection, stun
from aioice.candidate import Candidate as LocalCandidate
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import StunProtocol, server_reflexive_candidate
from aiortc import RTCDtlsTransport, RTCIceCandidate, RTCIceTransport, RTCPeerConnection

from gateway.webrtc.aiortc_adapter.guard import private, replace, uses
from gateway.webrtc.feedback import Feedback, parse_feedback, split
from gateway.webrtc.ice import Liveness
from gateway.webrtc.sdp import MAX_CANDIDATES, Candidate
from gateway.webrtc.statistics import PeerStatistics
from gateway.webrtc.udp import MAX_DATAGRAM, Address, UdpPorts, UdpTransport
from scheduler.core.errors import LimitError

MAX_DATAGRAMS: Final = 512
"""DTLS and RTCP datagrams that may wait for their task; further ones are dropped."""
MAX_EARLY: Final = 64
"""RTP packets kept until the transport is connected: the first keyframe; further ones drop."""
MAX_STREAMS: Final = 32
"""Streams that one client may send under, RTCP included: libsrtp never forgets one."""
RTCP_RATE: Final = 32 * 1024
"""Bytes of RTCP that one client may send in a second; what comes on top is dropped. A client
has use for a tenth of it, and a report of a thousand lost packets costs a millisecond."""
RTCP_BURST: Final = 16 * 1024
"""Bytes of it that may come at once."""
REFLEXIVE_TIMEOUT_S: Final = 0.3
"""Longest wait for a STUN server that answered lately."""
RELAY_TIMEOUT_S: Final = 1
"""Longest wait for a TURN server that answered lately."""

uses(
    Connection,
    "_nominated",
    "_protocols",
    "_queue",
    "_query_consent_task",
    "_remote_candidates",
    get_component_candidates="self component addresses timeout",
    data_received="self data component",
    request_received="self message addr protocol",
    query_consent="self",
    build_request="self pair nominate",
)
uses(
    StunProtocol,
    datagram_received="self data addr",
    request="self request addr integrity_key retransmissions",
)
uses(LocalCandidate, "_network_host")
uses(RTCDtlsTransport, "_rx_srtp", _setup_srtp="self", _handle_rtcp_data="self data")
uses(RTCIceTransport, "_connection")
uses(RTCPeerConnection, "_RTCPeerConnection__iceTransports")

_log = structlog.get_logger()


class _Protocol(StunProtocol):
    """One socket of a connection."""

    receiver: IceConnection

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:  # type: ignore[override]
        # RFC 7983: what begins with 0 to 3 is STUN.
        if data and data[0] > 3:
            if self.receiver.is_client(addr[:2]):
                self.receiver.data_received(data, 1)
            else:
                self.receiver.statistics.datagrams_dropped += 1
            return
        try:
            super().datagram_received(data, addr)
        except Exception:
            # Whatever aioice trips over is the datagram's fault.
            self.receiver.statistics.datagrams_dropped += 1

    def unreachable(self, addr: Address) -> None:
        self.receiver.unreachable(self, addr)


class IceConnection(Connection):
    """aioice's connection on sockets of ours, with bounds, that notices a lost client soon."""

    def __init__(
        self,
        *,
        ports: UdpPorts,
        statistics: PeerStatistics,
        **options: Any,  # noqa: ANN401 - aioice's
    ) -> None:
        super().__init__(**options)
        self.statistics = statistics
        self.liveness = Liveness(asyncio.get_running_loop().time())
        self._ports = ports
        self._rtp: Callable[[bytes], None] | None = None
        self._early: list[bytes] = []
        self._client_addresses: set[tuple[Any, ...]] = set()
        self._refused = asyncio.Event()

    # -- what comes in -------------------------------------------------------------------------

    def receive_rtp(self, handler: Callable[[bytes], None] | None) -> None:
        """Says who takes RTP packets, still encrypted; those kept for it come first."""
        self._rtp = handler
        early, self._early = self._early, []
        if handler is not None:
            for data in early:
                handler(data)

    def is_client(self, addr: tuple[Any, ...]) -> bool:
        """Tells whether an address is one of the client's: told by it, or proved by a check.

        From others nothing is taken: one forged alert would end a handshake.
        """
        addresses = self._client_addresses
        if addr not in addresses and len(addresses) < len(self._remote_candidates):
            addresses.update((each._network_host, each.port) for each in self._remote_candidates)
        return addr in addresses

    def data_received(self, data: bytes, component: int) -> None:
        """Takes a datagram that is no STUN message."""
        kind = data[0] if 12 < len(data) <= MAX_DATAGRAM else 0
        if 127 < kind < 192 and not 191 < data[1] < 209:
            if self._rtp is not None:
                self._rtp(data)
            elif len(self._early) < MAX_EARLY:
                self._early.append(data)
            else:
                self.statistics.packets_unknown += 1
        elif (19 < kind < 64 or 127 < kind < 192) and self._queue.qsize() < MAX_DATAGRAMS:
            self._queue.put_nowait((data, component))
        else:
            self.statistics.datagrams_dropped += 1

    def request_received(
        self, message: stun.Message, addr: Address, protocol: StunProtocol
    ) -> None:
        """Takes a check. One from a new address has a bound: it costs a check of our own."""
        known = any((each._network_host, each.port) == addr for each in self._remote_candidates)
        room = len(self._remote_candidates) < MAX_CANDIDATES
        if known or (room and "PRIORITY" in message.attributes):
            super().request_received(message, addr, protocol)
        else:
            self.statistics.datagrams_dropped += 1

    def unreachable(self, protocol: _Protocol, addr: Address) -> None:
        """A host refused a datagram; the selected client's ends the connection when repeated."""
        pair = self._nominated.get(1)
        selected = pair is not None and pair.protocol is protocol and pair.remote_addr == addr
        if selected and self.liveness.refused(asyncio.get_running_loop().time()):
            self._refused.set()

    # -- whether the client lives --------------------------------------------------------------

    async def query_consent(self) -> None:
        """Watches over the client from the selection of its address on, in a task of aioice."""
        now = asyncio.get_running_loop().time
        self.liveness.consented(now())
        while not (self._refused.is_set() or self.liveness.gone(now())):
            with suppress(TimeoutError):
                async with asyncio.timeout(self.liveness.next_question(now())):
                    await self._refused.wait()
            if self.liveness.must_ask(now()) and not self._refused.is_set():
                await self._ask()
        if self._refused.is_set():
            self.statistics.lost_refused += 1
        else:
            self.statistics.lost_silent += 1
        # Else `close` would wait for this task.
        self._query_consent_task = None
        await self.close()

    async def _ask(self) -> None:
        now = asyncio.get_running_loop().time
        self.liveness.asked(now())
        for pair in tuple(self._nominated.values()):
            with suppress(stun.TransactionError):
                await pair.protocol.request(
                    self.build_request(pair, nominate=False),
                    pair.remote_addr,
                    integrity_key=str(self.remote_password).encode(),
                    retransmissions=0,
                )
                self.liveness.consented(now())

    # -- ways to reach us ----------------------------------------------------------------------

    async def get_component_candidates(
        self,
        component: int,
        addresses: list[str],
        timeout: int = RELAY_TIMEOUT_S,  # noqa: ASYNC109 - aioice's signature
    ) -> list[LocalCandidate]:
        """Opens the sockets and returns what they, STUN and TURN servers make of them.

        Raises:
            LimitError: Not one port of the range is free.
        """
        hosts = self._open(component, addresses)
        reflexive, relayed = await asyncio.gather(
            self._reflexive(hosts),
            super().get_component_candidates(component, [], min(timeout, RELAY_TIMEOUT_S)),
        )
        own = [protocol.local_candidate for protocol in hosts]
        return own + self._advertised(own) + reflexive + relayed

    def _open(self, component: int, addresses: Sequence[str]) -> list[_Protocol]:
        opened: list[_Protocol] = []
        full: LimitError | None = None
        for address in addresses:
            try:
                udp = self._ports.bind(address)
            except LimitError as error:
                full = error
                continue
            except OSError:
                continue
            host, port = udp.getsockname()[:2]
            protocol = _Protocol(self)
            protocol.local_candidate = LocalCandidate(
                foundation=candidate_foundation("host", "udp", host),
                component=component,
                transport="udp",
                priority=candidate_priority(component, "host"),
                host=host,
                port=port,
                type="host",
            )
            UdpTransport(udp, protocol)
            opened.append(protocol)
        self._protocols += opened
        if full is not None and not opened:
            raise full
        return opened

    def _advertised(self, own: Sequence[LocalCandidate]) -> list[LocalCandidate]:
        """Returns the same ports at the address that a load balancer has for clients.

        It is to us what a NAT is that STUN would tell us of, so it is written as one.
        """
        address = self._ports.address
        if address is None:
            return []
        return [
            LocalCandidate(
                foundation=candidate_foundation("srflx", "udp", each.host),
                component=each.component,
                transport="udp",
                priority=candidate_priority(each.component, "srflx"),
                host=address,
                port=each.port,
                type="srflx",
                related_address=each.host,
                related_port=each.port,
            )
            for each in own
            if (":" in each.host) == (":" in address)
        ]

    async def _reflexive(self, hosts: Sequence[_Protocol]) -> list[LocalCandidate]:
        tasks = [
            asyncio.ensure_future(server_reflexive_candidate(protocol, self.stun_server))
            for protocol in hosts
            if self.stun_server and ":" not in protocol.local_candidate.host
        ]
        if not tasks:
            return []
        _, late = await asyncio.wait(tasks, timeout=REFLEXIVE_TIMEOUT_S)
        for task in late:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        return [answer[0] for answer in answers if not isinstance(answer, BaseException)]


class _InboundSession:
    """The SRTP session of what comes in, with a bound on its streams."""

    def __init__(self, session: pylibsrtp.Session) -> None:
        self._session = session
        self._streams: set[bytes] = set()

    def unprotect(self, packet: bytes) -> bytes:
        return self._known(packet[8:12], self._session.unprotect, packet)

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        return self._known(packet[4:8], self._session.unprotect_rtcp, packet)

    def _known(self, ssrc: bytes, accept: Callable[[bytes], bytes], packet: bytes) -> bytes:
        if ssrc in self._streams:
            return accept(packet)
        if len(self._streams) >= MAX_STREAMS:
            raise pylibsrtp.Error("too many streams")
        accepted = accept(packet)
        self._streams.add(ssrc)
        return accepted


class DtlsTransport(RTCDtlsTransport):
    """aiortc's transport, whose streams and feedback are bounded and which no RTCP packet ends."""

    _rtcp_room = float(RTCP_BURST)
    _rtcp_at = float("-inf")

    on_feedback: Callable[[Feedback], None] | None = None
    """Who takes transport-wide feedback, which aiortc's parser would take for NACKs."""

    @property
    def ice(self) -> IceConnection:
        """The connection below it."""
        connection: IceConnection = private(self.transport, "_connection")
        return connection

    def _setup_srtp(self) -> None:
        super()._setup_srtp()
        if self._rx_srtp is not None:
            replace(self, "_rx_srtp", _InboundSession(self._rx_srtp))

    async def _handle_rtcp_data(self, data: bytes) -> None:
        connection, now = self.ice, asyncio.get_running_loop().time()
        connection.liveness.heard(now)
        room = min(RTCP_BURST, self._rtcp_room + (now - self._rtcp_at) * RTCP_RATE) - len(data)
        if room < 0:
            connection.statistics.datagrams_dropped += 1
            return
        self._rtcp_room, self._rtcp_at = room, now
        try:
            data, messages = split(data)
            for message in messages:
                if self.on_feedback is not None:
                    self.on_feedback(parse_feedback(message))
            if data:
                await super()._handle_rtcp_data(data)
        except Exception as error:
            if not connection.statistics.packets_malformed:
                _log.warning("an RTCP packet could not be handled", error=type(error).__name__)
            connection.statistics.packets_malformed += 1


async def add_candidates(peer: RTCPeerConnection, candidates: Sequence[Candidate]) -> None:
    """Adds ways to reach the client, up to `MAX_CANDIDATES` in all. Never raises."""
    for transport in tuple(private(peer, "_RTCPeerConnection__iceTransports")):
        for candidate in candidates:
            if len(transport.getRemoteCandidates()) >= MAX_CANDIDATES:
                return
            with suppress(ValueError, ConnectionError):
                await transport.addRemoteCandidate(_ice_candidate(candidate))


def release_sockets(peer: RTCPeerConnection) -> None:
    """Closes what sockets are left of a peer that did not close; one that did has none."""
    for transport in private(peer, "_RTCPeerConnection__iceTransports"):
        for protocol in private(private(transport, "_connection"), "_protocols"):
            protocol.transport.close()


def _ice_candidate(candidate: Candidate) -> RTCIceCandidate:
    return RTCIceCandidate(
        component=1,
        foundation=candidate.foundation,
        ip=candidate.host,
        port=candidate.port,
        priority=candidate.priority,
        protocol="udp",
        type=candidate.type,
    )
