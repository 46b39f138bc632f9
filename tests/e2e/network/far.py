"""Watches a session over WebRTC as aiortc does: `python -m tests.e2e.network.far --help`.

Prints one JSON object a line: `connected`, then `pictures` and `stats` when standard input
ends. Times are those of the machine's monotonic clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Any

from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from sana_gateway import Client


async def watch(address: str, session_id: str, codec: str) -> None:
    """Watches until standard input ends, and tells what came."""
    pictures: list[tuple[float, int]] = []
    stats: list[tuple[float, dict[str, Any]]] = []
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    async with Client(address) as client:
        session = await client.attach(session_id)
        channel = peer.createDataChannel("sana.stats")
        channel.on("message", lambda text: stats.append((time.monotonic(), json.loads(text))))
        transceiver = peer.addTransceiver("video", direction="recvonly")
        able: Any = RTCRtpReceiver.getCapabilities("video")
        transceiver.setCodecPreferences(
            [
                each
                for each in able.codecs
                if each.mimeType.lower() in (f"video/{codec}", "video/rtx")
            ]
        )
        await peer.setLocalDescription(await peer.createOffer())
        _, answer = await session.offer(
            peer.localDescription.sdp, {str(transceiver.mid): "main_video"}
        )
        await peer.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))

        async def see() -> None:
            while True:
                frame: Any = await transceiver.receiver.track.recv()
                pictures.append((time.monotonic(), frame.width))

        seeing = asyncio.create_task(see())
        while peer.connectionState != "connected":  # noqa: ASYNC110 - a script, not a test
            await asyncio.sleep(0.01)
        print(json.dumps({"connected": True}), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        print(json.dumps({"pictures": pictures, "stats": stats}), flush=True)
        seeing.cancel()
        await asyncio.gather(seeing, return_exceptions=True)
        await peer.close()
        await session.detach()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("session")
    parser.add_argument("--codec", default="h264", choices=("h264", "vp8"))
    options = parser.parse_args()
    try:
        asyncio.run(watch(options.address, options.session, options.codec))
    except MediaStreamError:
        sys.exit("the track ended")
