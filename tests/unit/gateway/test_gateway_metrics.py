"""What a gateway measures of commands, chunks and sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.registry import REGISTRY

from gateway import command_metrics
from gateway.metrics import SessionCollector, observe
from sana_gateway.v1 import media_pb2, session_pb2

pytestmark = pytest.mark.unit

TRACE = "0af7651916cd43dd8448eb211c80319c"


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"sana_gateway_{name}", labels) or 0.0


@pytest.mark.parametrize(
    ("command", "wire", "told"),
    [
        ("set_prompt", "reactor", {"command": "set_prompt", "wire": "reactor"}),
        # Whatever a client makes up is one and the same label.
        ("drop tables", "reactor", {"command": "invalid", "wire": "reactor"}),
        ("start", "carrier pigeon", {"command": "start", "wire": "other"}),
    ],
)
def test_a_command_is_measured_under_labels_of_ours(
    command: str, wire: str, told: dict[str, str]
) -> None:
    labels = {**told, "outcome": "accepted"}
    before = value("command_seconds_count", **labels)
    command_metrics.observe(command, wire, "accepted", 0.03, f"00-{TRACE}-b7ad6b7169203331-01")
    assert value("command_seconds_count", **labels) == before + 1
    exposed = generate_latest(REGISTRY).decode()  # type: ignore[no-untyped-call]
    assert f'trace_id="{TRACE}"' in exposed
    assert "drop tables" not in exposed
    assert "carrier pigeon" not in exposed


def stats(**changes: Any) -> media_pb2.ViewerStats:
    return media_pb2.ViewerStats(run=1, **changes)


def test_a_chunk_is_measured_by_what_viewers_are_told_of_it() -> None:
    names = ("chunk_lateness", "prompt_to_pixels", "source_to_emit")

    def counts() -> list[float]:
        return [value(f"{name}_seconds_count") for name in names]

    before = counts()
    observe(stats(late_us=5_000), None, (1, 0))
    observe(stats(command_to_emit_us=700_000, source_to_emit_us=500_000), None, (1, 0))
    assert [now - then for now, then in zip(counts(), before, strict=True)] == [2, 1, 1]


def test_underruns_are_counted_once_and_each_run_anew() -> None:
    before, counted = value("playout_underruns_total"), (0, 0)
    for run, underruns in ((1, 1), (1, 3), (1, 3), (2, 0), (2, 2)):
        told = media_pb2.ViewerStats(run=run, underruns=underruns)
        counted = observe(told, None, counted)
    assert counted == (2, 2)
    assert value("playout_underruns_total") - before == 5


@dataclass
class Session:
    status: session_pb2.SessionStatus.ValueType
    connection_count: int


def test_sessions_are_told_by_their_status_beside_the_limits() -> None:
    ready, waiting = session_pb2.SESSION_STATUS_READY, session_pb2.SESSION_STATUS_WAITING
    sessions = [Session(ready, 2), Session(ready, 1), Session(waiting, 0)]
    registry = CollectorRegistry()
    registry.register(SessionCollector(lambda: sessions, {"webrtc_peers": 40}))
    name = "sana_gateway_sessions"
    assert registry.get_sample_value(name, {"status": "ready"}) == 2
    assert registry.get_sample_value(name, {"status": "waiting"}) == 1
    assert registry.get_sample_value("sana_gateway_connections") == 3
    assert registry.get_sample_value("sana_gateway_limit", {"of": "webrtc_peers"}) == 40
