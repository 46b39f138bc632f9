"""What Prometheus sees when all is well, and when each of the alerts must ring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_POD: Final = 'namespace="video", pod="rel-sana-gateway-gateway-1"'
_LAG: Final = f"sana_gateway_loop_lag_seconds_bucket{{{_POD}, le="

QUIET: Final[tuple[tuple[str, str], ...]] = (
    (f"sana_gateway_pool_actors_wanted{{{_POD}}}", "2x120"),
    (f'sana_gateway_pool_actors{{{_POD}, model="m", state="serving"}}', "2x120"),
    (f'sana_gateway_pool_actors{{{_POD}, model="m", state="silent"}}', "0x120"),
    (f"sana_gateway_pool_queue_age_seconds{{{_POD}}}", "0x120"),
    (f"sana_gateway_pool_predicted_utilisation{{{_POD}}}", "0.6x120"),
    (f"sana_gateway_pool_miss_rate{{{_POD}}}", "0x120"),
    (f'sana_gateway_pool_real_time_factor{{{_POD}, model="m"}}', "0.4x120"),
    (f'{_LAG}"0.01"}}', "0+30x120"),
    (f'{_LAG}"0.05"}}', "0+30x120"),
    (f'{_LAG}"+Inf"}}', "0+30x120"),
    (f"sana_gateway_webrtc_peers{{{_POD}}}", "12x120"),
    (f"sana_gateway_webrtc_joins_refused_total{{{_POD}}}", "0x120"),
    (f"sana_gateway_webrtc_half_open_expired_total{{{_POD}}}", "0x120"),
    (f"sana_gateway_webrtc_connected_total{{{_POD}}}", "0+6x120"),
    (f'sana_gateway_media_worker_restarts_total{{{_POD}, index="0"}}', "0x120"),
    (f'sana_gateway_grpc_call_seconds_count{{{_POD}, code="OK"}}', "0+60x120"),
    (f'sana_gateway_grpc_call_seconds_count{{{_POD}, code="INTERNAL"}}', "0x120"),
    (f'sana_gateway_http_request_seconds_count{{{_POD}, status="500"}}', "0x120"),
    (f'sana_gateway_http_request_seconds_count{{{_POD}, status="503"}}', "0+60x120"),
    (f"sana_gateway_recording_failures_total{{{_POD}}}", "0x120"),
    (f"sana_gateway_audit_lost_total{{{_POD}}}", "0x120"),
)
"""Half an hour of a healthy service."""


@dataclass(frozen=True)
class Case:
    """Samples in place of healthy ones; empty values: there are none."""

    series: tuple[tuple[str, str], ...]
    beside: frozenset[str] = frozenset()
    """Alerts that ring as well, rightly."""


def _one(name: str, values: str, labels: str = "", beside: str = "") -> Case:
    series = f"{name}{{{_POD}{labels}}}"
    return Case(((series, values),), frozenset(beside.split()))


CASES: Final[dict[str, Case]] = {
    "SanaPoolUnknown": Case(
        tuple((name, "") for name, _ in QUIET if "_pool_" in name),
    ),
    "SanaNoActors": Case(
        ((f'sana_gateway_pool_actors{{{_POD}, model="m", state="serving"}}', ""),),
        frozenset({"SanaActorsMissing"}),
    ),
    "SanaActorSilent": _one("sana_gateway_pool_actors", "1x120", ', model="m", state="silent"'),
    "SanaQueueOld": _one("sana_gateway_pool_queue_age_seconds", "45x120"),
    "SanaPoolFull": _one("sana_gateway_pool_predicted_utilisation", "1.1x120"),
    "SanaChunksLate": _one("sana_gateway_pool_miss_rate", "0.2x120"),
    "SanaSlowerThanRealTime": _one("sana_gateway_pool_real_time_factor", "1.2x120", ', model="m"'),
    "SanaActorsMissing": _one("sana_gateway_pool_actors_wanted", "5x120"),
    "SanaGatewayLate": Case(((f'{_LAG}"0.01"}}', "0+15x120"),)),
    "SanaGatewayFull": _one("sana_gateway_webrtc_peers", "39x120"),
    "SanaJoinsRefused": _one("sana_gateway_webrtc_joins_refused_total", "0+6x120"),
    "SanaJoinsDoNotConnect": _one("sana_gateway_webrtc_half_open_expired_total", "0+3x120"),
    "SanaMediaWorkerDies": _one(
        "sana_gateway_media_worker_restarts_total", "0x80 0+1x39", ', index="0"'
    ),
    "SanaErrors": _one("sana_gateway_grpc_call_seconds_count", "0+3x120", ', code="INTERNAL"'),
    "SanaRecordingsFail": _one("sana_gateway_recording_failures_total", "0x100 1x19"),
    "SanaAuditLost": _one("sana_gateway_audit_lost_total", "0x100 1x19"),
}
