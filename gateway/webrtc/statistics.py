"""What the WebRTC peers of a process count, and how it reads for /metrics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(slots=True)
class PeerStatistics:
    """What all peers of this process have counted. Only grows, but for the gauges."""

    peers: int = 0
    """Peers at this moment."""
    half_open: int = 0
    """Peers at this moment whose transport is not connected yet."""
    connected: int = 0
    """Peers that were connected."""
    joins_refused: int = 0
    """Offers refused because of a limit."""
    half_open_evicted: int = 0
    """Peers that did not connect and had to make room for others."""
    half_open_expired: int = 0
    """Peers that did not connect in time."""
    lost_refused: int = 0
    """Clients lost because their host said that nobody listens any more."""
    lost_silent: int = 0
    """Clients lost because nothing was heard of them."""
    datagrams_dropped: int = 0
    """Datagrams that were no STUN, DTLS or RTP, malformed, or too many at once."""
    packets_malformed: int = 0
    """RTP and RTCP packets that could not be read."""
    packets_unauthentic: int = 0
    """RTP packets that SRTP did not accept: forged, repeated or too old."""
    packets_unknown: int = 0
    """RTP packets of a payload type or stream that nobody waits for."""
    viewer_overflows: int = 0
    """Times a viewer fell behind and went on at a keyframe."""
    viewer_frames_dropped: int = 0
    """Frames not sent to a viewer that fell behind or waited for a keyframe."""
    viewer_packets_repeated: int = 0
    """Packets sent again because a viewer missed them."""
    viewer_repeats_refused: int = 0
    """Packets not sent again, for the bounds on repetition."""
    viewer_packets_dropped: int = 0
    """Packets that the host's network took no more."""
    stats_dropped: int = 0
    """Viewer statistics not sent because the data channel was full."""
    camera_packets: int = 0
    """RTP packets of cameras, retransmissions included."""
    camera_packets_asked: int = 0
    """Packets that publishers were asked to send again."""
    camera_frames: int = 0
    """Camera frames handed to the hub."""
    camera_frames_lost: int = 0
    """Camera frames and gaps given up for packet loss."""
    camera_keyframe_requests: int = 0
    """Keyframes asked of publishers."""
    camera_failures: int = 0
    """Camera frames that could not be handed to the hub for a fault of ours."""


_GAUGES: Final = {
    "peers": "WebRTC peers at this moment.",
    "half_open": "WebRTC peers at this moment that are not connected yet.",
}
_COUNTERS: Final = {
    "connected": "WebRTC peers that were connected.",
    "joins_refused": "WebRTC offers refused because of a limit.",
    "half_open_evicted": "WebRTC peers that never connected and made room for others.",
    "half_open_expired": "WebRTC peers that did not connect in time.",
    "lost_refused": "WebRTC clients lost because nobody listens at their address.",
    "lost_silent": "WebRTC clients lost because nothing was heard of them.",
    "datagrams_dropped": "Datagrams to WebRTC peers that were malformed or too many.",
    "packets_malformed": "RTP and RTCP packets that could not be read.",
    "packets_unauthentic": "RTP packets that SRTP did not accept.",
    "packets_unknown": "RTP packets of an unknown payload type or stream.",
    "viewer_overflows": "Times a WebRTC viewer fell behind.",
    "viewer_frames_dropped": "Frames not sent to a WebRTC viewer that fell behind.",
    "viewer_packets_repeated": "RTP packets sent again because a viewer missed them.",
    "viewer_repeats_refused": "RTP packets not sent again, for the bounds on repetition.",
    "viewer_packets_dropped": "RTP packets that the network of the host took no more.",
    "stats_dropped": "Viewer statistics not sent because their channel was full.",
    "camera_packets": "RTP packets of WebRTC cameras.",
    "camera_packets_asked": "RTP packets of WebRTC cameras asked for again.",
    "camera_frames": "Frames of WebRTC cameras handed on.",
    "camera_frames_lost": "Frames and gaps of WebRTC cameras given up.",
    "camera_keyframe_requests": "Keyframes asked of WebRTC cameras.",
    "camera_failures": "Frames of WebRTC cameras not handed on for a fault of the gateway.",
}


class PeerCollector(Collector):
    """The statistics of one process for a Prometheus registry, read when it is scraped."""

    def __init__(self, statistics: PeerStatistics) -> None:
        self._statistics = statistics

    @classmethod
    def described(cls) -> tuple[Metric, ...]:
        """Returns its metrics without samples that mean anything."""
        return tuple(cls(PeerStatistics()).collect())

    def describe(self) -> Iterator[Metric]:
        """Returns its metrics."""
        return iter(self.described())

    def collect(self) -> Iterator[Metric]:
        """Returns a metric for each count; none has labels."""
        for name, text in _GAUGES.items():
            value = getattr(self._statistics, name)
            yield GaugeMetricFamily(f"sana_gateway_webrtc_{name}", text, value=value)
        for name, text in _COUNTERS.items():
            value = getattr(self._statistics, name)
            yield CounterMetricFamily(f"sana_gateway_webrtc_{name}", text, value=value)


assert {field.name for field in fields(PeerStatistics)} == _GAUGES.keys() | _COUNTERS.keys()  # noqa: S101 - a table that must be complete
