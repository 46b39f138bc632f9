"""The ways to the media that this installation has."""

from __future__ import annotations

from sdk_adapters.harness.generator.doors import Door, chromium, webrtc
from sdk_adapters.harness.generator.doors.grpc import GrpcDoor


def missing_doors() -> dict[str, str]:
    """Returns why sessions cannot come over a wire, by its name; empty: all can."""
    missing = {}
    if not webrtc.supported():
        missing["webrtc"] = f"it needs aiortc {webrtc.SUPPORTED}x"
    if why := chromium.why_missing():
        missing["chromium"] = why
    return missing


def doors() -> dict[str, Door]:
    """Returns them by wire. What they need is begun with their first connection."""
    return {
        "grpc": GrpcDoor(),
        "webrtc": webrtc.WebRtcDoor(),
        "chromium": chromium.ChromiumDoor(),
    }
