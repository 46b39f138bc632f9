"""The client of a peer as a viewer: what it is told, and what is told of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.webrtc.aiortc_adapter import Evidence, Reception
from gateway.webrtc.rates import NOMINAL_BPS
from gateway.webrtc.sdp import Section
from gateway.webrtc.statistics import PeerStatistics
from gateway.webrtc.viewer import PeerViewer
from sana_gateway.v1 import media_pb2
from scheduler.core.errors import BadOfferError
from tests.fakes.hub import FakeHub
from tests.fakes.session import FakeConnection
from tests.fakes.webrtc_client import H264, VP8, connect

pytestmark = pytest.mark.unit


def section(*codecs: Any) -> Section:
    return Section(mid="1", kind="video", direction="recvonly", codecs=codecs)


@pytest.fixture
async def connection() -> FakeConnection:
    return await connect(FakeHub())


async def test_h264_is_watched_where_it_is_offered(connection: FakeConnection) -> None:
    assert PeerViewer(connection, section(VP8, H264)).codec == H264
    assert PeerViewer(connection, section(VP8)).codec == VP8
    with pytest.raises(BadOfferError):
        PeerViewer(connection, section())


async def test_nothing_is_watched_before_the_client_is_connected(
    connection: FakeConnection,
) -> None:
    viewer = PeerViewer(connection, section(H264))
    (subscription,) = connection.subscriptions
    assert subscription.paused
    viewer.pause()
    viewer.resume()
    assert subscription.paused
    viewer.started()
    assert not subscription.paused


async def test_a_viewer_that_paused_first_stays_so_when_connected(
    connection: FakeConnection,
) -> None:
    viewer = PeerViewer(connection, section(H264))
    viewer.pause()
    viewer.started()
    assert connection.subscriptions[0].paused
    viewer.resume()
    assert not connection.subscriptions[0].paused


async def test_the_picture_is_told_of_with_what_only_the_peer_knows(
    connection: FakeConnection,
) -> None:
    viewer = PeerViewer(connection, section(H264))
    given = media_pb2.ViewerStats(run=3, chunk=4, late_us=5, rung=1)
    told: list[media_pb2.ViewerStats] = []
    viewer.stats(given)
    viewer.on_stats = told.append
    viewer.stats(given)
    viewer.reported(Reception(fraction_lost=0.25, jitter_s=0.01, round_trip_s=0.04))
    viewer.stats(given)
    assert [(each.run, each.chunk, each.late_us, each.rung) for each in told] == [(3, 4, 5, 1)] * 2
    assert [each.round_trip_us for each in told] == [0, 40_000]
    assert [each.fraction_lost for each in told] == [0, 0.25]
    assert told[0].estimated_bitrate == NOMINAL_BPS
    assert given.estimated_bitrate == 0, "the caller's message is nobody else's"


async def test_the_session_hears_an_estimate_only_when_it_moves(
    connection: FakeConnection,
) -> None:
    viewer = PeerViewer(connection, section(H264))
    estimates = connection.subscriptions[0].estimates
    full = Evidence(900_000, 0.1, grows=False, loss=0.0, full_bps=900_000)
    viewer.observed(full)
    assert estimates == []
    viewer.observed(replace(full, grows=True))
    assert estimates == [765_000]
    viewer.sent(1_000_000)
    viewer.estimated(400_000)
    assert estimates[1:] == [400_000]


async def test_the_end_is_told(connection: FakeConnection) -> None:
    viewer = PeerViewer(connection, section(H264))
    viewer.close(PeerStatistics())
    assert connection.subscriptions[0].closed
