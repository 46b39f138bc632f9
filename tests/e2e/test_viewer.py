"""The viewer of the load harness reads the number of every picture, over WebRTC and gRPC."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdk_adapters.harness.viewer import parse, view
from tests.stack import Stack

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("transport", "codec"), [("grpc", "h264"), ("webrtc", "h264"), ("webrtc", "vp8")]
)
async def test_a_viewer_reads_the_number_of_every_picture(
    simulated: Stack, clip: Path, transport: str, codec: str
) -> None:
    words = ("--address", simulated.grpc_address, "--model", "simulated", "--clip", str(clip))
    options = ("--transport", transport, "--codec", codec, "--decode", "--seconds", "30")
    report = await view(parse([*words, *options]))
    (run,) = report.runs
    assert (report.unreadable, report.foreign, report.mismatched) == (0, 0, 0)
    assert (report.repeated, report.out_of_order) == (0, 0)
    # Over WebRTC, pictures that play before the connection is up are missed, and aiortc
    # hands out the last one only when another follows.
    assert run.received == run.last_frame - run.first_frame + 1
    assert run.last_frame >= (38 if transport == "webrtc" else 39)
    assert transport == "webrtc" or report.missing == 0
