"""What peers count, for /metrics and for their viewers."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from aiortc import InvalidStateError
from prometheus_client import CollectorRegistry, generate_latest
from pyee.asyncio import AsyncIOEventEmitter

from gateway.webrtc.channels import (
    MAX_EARLY_MESSAGES,
    MAX_STATS_BUFFERED,
    AiortcChannel,
    StatsChannel,
)
from gateway.webrtc.statistics import PeerCollector, PeerStatistics
from sana_gateway.v1 import media_pb2

pytestmark = pytest.mark.unit


def test_every_count_is_a_metric_without_labels() -> None:
    statistics = PeerStatistics()
    for number, field in enumerate(fields(statistics), 1):
        setattr(statistics, field.name, number)
    registry = CollectorRegistry()
    registry.register(PeerCollector(statistics))
    samples = {
        sample.name: (sample.value, sample.labels)
        for metric in registry.collect()
        for sample in metric.samples
    }
    assert sorted(value for value, _ in samples.values()) == list(
        range(1, len(fields(statistics)) + 1)
    )
    assert all(labels == {} for _, labels in samples.values())
    assert samples["sana_gateway_webrtc_peers"] == (1, {})
    assert "sana_gateway_webrtc_camera_packets_total" in samples
    assert b"# HELP sana_gateway_webrtc_lost_silent_total" in generate_latest(registry)


class Channel(AsyncIOEventEmitter):
    """A data channel of aiortc."""

    label = "sana.stats"
    bufferedAmount = 0  # noqa: N815 - aiortc's name

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []
        self.closed = False

    def send(self, data: str) -> None:
        if self.closed:
            raise InvalidStateError
        self.sent.append(data)

    def close(self) -> None:
        self.closed = True


async def test_statistics_go_out_as_json_on_one_line() -> None:
    channel, statistics = Channel(), PeerStatistics()
    stats = StatsChannel(AiortcChannel(channel), statistics)
    stats.send(media_pb2.ViewerStats(run=1, chunk=2, source_to_emit_us=3, fraction_lost=0.5))
    (text,) = channel.sent
    assert "\n" not in text
    assert json.loads(text) == {"run": 1, "chunk": 2, "sourceToEmitUs": "3", "fractionLost": 0.5}


async def test_statistics_are_dropped_while_the_client_is_slow() -> None:
    channel, statistics = Channel(), PeerStatistics()
    stats = StatsChannel(AiortcChannel(channel), statistics)
    channel.bufferedAmount = MAX_STATS_BUFFERED + 1
    stats.send(media_pb2.ViewerStats(run=1))
    assert (channel.sent, statistics.stats_dropped) == ([], 1)
    channel.bufferedAmount = 0
    stats.send(media_pb2.ViewerStats(run=1))
    channel.close()
    stats.send(media_pb2.ViewerStats(run=1))
    assert len(channel.sent) == 1


async def test_what_the_client_says_on_it_is_ignored() -> None:
    channel = Channel()
    StatsChannel(AiortcChannel(channel), PeerStatistics())
    for _ in range(2 * MAX_EARLY_MESSAGES):
        channel.emit("message", "hello")
    assert not channel.closed


async def test_a_handler_that_fails_is_logged_without_what_was_said_and_hears_the_next(
    capsys: pytest.CaptureFixture[str],
) -> None:
    channel, heard = Channel(), []

    def fails(data: str | bytes) -> None:
        heard.append(data)
        raise OverflowError(f"cannot take {data!r}")

    taken = AiortcChannel(channel)  # type: ignore[arg-type]
    channel.emit("message", "secret early")
    taken.set_handler(fails)
    channel.emit("message", "secret")
    channel.emit("message", b"secret too")
    assert heard == ["secret early", "secret", b"secret too"]
    said = "".join(capsys.readouterr())
    assert said.count("OverflowError") == 3
    assert "secret" not in said
