"""A peer connection made of our own transports and receivers, with a certificate that is shared.

aiortc names the classes it is made of in its modules. They are ours while a part is
constructed, which no other code can see: construction does not await.
"""

# ruff: noqa: SLF001 - private parts are what this package is about

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import ModuleType
from typing import Any, Final

from aiortc import (
    InvalidStateError,
    RTCBundlePolicy,
    RTCCertificate,
    RTCConfiguration,
    RTCDtlsFingerprint,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpTransceiver,
    rtcicetransport,
    rtcpeerconnection,
)
from aiortc.rtcdtlstransport import SRTP_PROFILES, SRTPProtectionProfile
from aiortc.rtcrtpparameters import RTCRtcpFeedback
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from gateway.webrtc.aiortc_adapter.guard import private, replace, uses
from gateway.webrtc.aiortc_adapter.messages import SctpTransport
from gateway.webrtc.aiortc_adapter.receiving import FrameReceiver
from gateway.webrtc.aiortc_adapter.transport import DtlsTransport, IceConnection
from gateway.webrtc.feedback import EXTENSION_URI
from gateway.webrtc.ice import IceServer
from gateway.webrtc.statistics import PeerStatistics
from gateway.webrtc.udp import UdpPorts
from scheduler.core.errors import ConfigurationError

CERTIFICATE_LIFE_S: Final = 24 * 3600.0
"""How long new peers are given the same certificate; it is valid for a month."""

_EXTENSION_IDS: Final = 256

uses(
    RTCPeerConnection,
    _RTCPeerConnection__connect="self",
    _RTCPeerConnection__createDtlsTransport="self",
    _RTCPeerConnection__createSctpTransport="self",
    _RTCPeerConnection__remoteDescription="self",
    _RTCPeerConnection__createTransceiver="self direction kind sender_track",
)
uses(RTCRtpTransceiver, "_codecs", "_headerExtensions")
uses(rtcpeerconnection, "RTCCertificate", "RTCDtlsTransport", "RTCRtpReceiver", "RTCSctpTransport")
uses(rtcicetransport, "Connection")
uses(RTCCertificate, "_key", "_cert", _create_ssl_context="self srtp_profiles")


class SharedCertificate(RTCCertificate):
    """A certificate for many peers: its fingerprints and its TLS context are made once."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, cert: x509.Certificate) -> None:
        super().__init__(key, cert)
        self._fingerprints = super().getFingerprints()
        self._context = super()._create_ssl_context(srtp_profiles=SRTP_PROFILES)
        # Nobody resumes a session here; the cache would keep every client's.
        self._context.set_session_cache_mode(SSL.SESS_CACHE_OFF)

    def getFingerprints(self) -> list[RTCDtlsFingerprint]:  # noqa: N802 - aiortc's name
        """Returns the fingerprints."""
        return list(self._fingerprints)

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        if srtp_profiles != SRTP_PROFILES:
            return super()._create_ssl_context(srtp_profiles)
        return self._context


class Certificates:
    """The certificate of this process, a new one every day."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._current: SharedCertificate | None = None
        self._made_at = 0.0

    def current(self) -> SharedCertificate:
        """Returns the certificate for a new peer."""
        now = self._clock()
        if self._current is None or now - self._made_at >= CERTIFICATE_LIFE_S:
            self._current = SharedCertificate.generateCertificate()
            self._made_at = now
        return self._current


class PeerConnection(RTCPeerConnection):
    """aiortc's peer connection on one bundled transport of ours."""

    def __init__(
        self,
        *,
        certificate: SharedCertificate,
        ports: UdpPorts,
        statistics: PeerStatistics,
        ice_servers: Sequence[IceServer],
    ) -> None:
        self._ice = partial(IceConnection, ports=ports, statistics=statistics)
        self._receiver = partial(FrameReceiver, statistics=statistics)
        configuration = RTCConfiguration(
            # A list in any case: without one aiortc takes a public STUN server.
            iceServers=[
                RTCIceServer(list(each.urls), each.username, each.credential)
                for each in ice_servers
            ],
            bundlePolicy=RTCBundlePolicy.MAX_BUNDLE,
        )
        with _instead(rtcpeerconnection, RTCCertificate=_Given(certificate)):
            super().__init__(configuration)

    def receiver_of(self, transceiver: RTCRtpTransceiver) -> FrameReceiver:
        """Returns the receiver of a transceiver of this connection.

        Raises:
            ConfigurationError: It is aiortc's own.
        """
        receiver: object = transceiver.receiver
        if not isinstance(receiver, FrameReceiver):
            raise ConfigurationError("this aiortc did not take our receiver")
        return receiver

    def accept_transport_feedback(self, transceiver: RTCRtpTransceiver) -> None:
        """Accepts transport-wide feedback on what a transceiver sends, if it was offered.

        Not on the camera: its publisher would expect such feedback of us, instead of REMB.
        To be called between the remote description and the answer.
        """
        remote = private(self, "_RTCPeerConnection__remoteDescription")()
        offered = next(each.rtp for each in remote.media if each.rtp.muxId == transceiver.mid)
        extensions = [
            each
            for each in offered.headerExtensions
            if each.uri == EXTENSION_URI and 0 < each.id < _EXTENSION_IDS
        ]
        feedback = RTCRtcpFeedback(type="transport-cc")
        able = {each.payloadType for each in offered.codecs if feedback in each.rtcpFeedback}
        codecs = [
            each
            for each in transceiver._codecs
            if each.payloadType in able and feedback not in each.rtcpFeedback
        ]
        if extensions and codecs:
            transceiver._headerExtensions = [*transceiver._headerExtensions, extensions[0]]
            for codec in codecs:
                codec.rtcpFeedback.append(feedback)

    async def _RTCPeerConnection__connect(self) -> None:  # noqa: N802 - aiortc's name
        # Nobody waits for this task: a peer that is closed before it has run is no error.
        with suppress(InvalidStateError):
            await private(super(), "_RTCPeerConnection__connect")()

    def _RTCPeerConnection__createDtlsTransport(self) -> DtlsTransport:  # noqa: N802 - aiortc's name
        make = private(super(), "_RTCPeerConnection__createDtlsTransport")
        with (
            _instead(rtcicetransport, Connection=self._ice),
            _instead(rtcpeerconnection, RTCDtlsTransport=DtlsTransport),
        ):
            transport = make()
        if not isinstance(transport, DtlsTransport) or not isinstance(transport.ice, IceConnection):
            raise ConfigurationError("this aiortc did not take our transports")
        return transport

    def _RTCPeerConnection__createSctpTransport(self) -> None:  # noqa: N802 - aiortc's name
        make = private(super(), "_RTCPeerConnection__createSctpTransport")
        with _instead(rtcpeerconnection, RTCSctpTransport=SctpTransport):
            make()
        if not isinstance(self.sctp, SctpTransport):
            raise ConfigurationError("this aiortc did not take our transport of data channels")

    def _RTCPeerConnection__createTransceiver(self, **options: Any) -> Any:  # noqa: ANN401, N802 - aiortc's name
        make = private(super(), "_RTCPeerConnection__createTransceiver")
        with _instead(rtcpeerconnection, RTCRtpReceiver=self._receiver):
            transceiver = make(**options)
        self.receiver_of(transceiver)
        return transceiver


class _Given:
    """Stands where aiortc makes a certificate."""

    def __init__(self, certificate: RTCCertificate) -> None:
        self._certificate = certificate

    def generateCertificate(self) -> RTCCertificate:  # noqa: N802 - aiortc's name
        return self._certificate


@contextmanager
def _instead(module: ModuleType, **parts: object) -> Iterator[None]:
    originals = {name: private(module, name) for name in parts}
    for name, part in parts.items():
        replace(module, name, part)
    try:
        yield
    finally:
        for name, original in originals.items():
            replace(module, name, original)
