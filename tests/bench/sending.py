"""What it costs the gateway to send a frame over WebRTC: CPU of one process that only sends.

    python -m tests.bench.sending [--sessions 1 16 64] [--seconds 6] [--octets 13000]

Frames of one size, made beforehand, are given to the viewers of N connected peers 24
times a second each, evenly spread. The far ends are aiortc clients in another process,
which drop what they receive. Printed is CPU time of the sending process (delivery over
loopback included), less what the same timers cost alone; the floor is nothing but SRTP and
`sendmsg` with segmentation offload, in a tight loop.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import aioice.ice
import pylibsrtp
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from gateway.ports import EncodedFrame
from gateway.webrtc.peer import AiortcPeers, PeerSettings
from gateway.webrtc.rtp import PacketHeader
from sana_gateway.v1 import media_pb2
from tests.fakes.hub import FakeHub
from tests.fakes.webrtc_client import connect

RATE, PACKET = 24, 1200
WHICH: Any = {"keyframe": True, "timestamp_us": 0, "run": 1, "chunk": 0, "frame": 0, "source_us": 0}


def frame_of(octets: int) -> EncodedFrame:
    """A frame of H.264 that nobody could decode: one NAL unit of noise."""
    noise = random.Random(1).randbytes(octets - 4).replace(b"\x00\x00", b"\x01\x02")
    return EncodedFrame(b"\x00\x00\x01\x65" + noise, codec=media_pb2.CODEC_H264, **WHICH)


def floor_us(octets: int, rounds: int = 3000) -> float:
    """CPU of SRTP and `sendmsg` for one frame, in microseconds."""
    kind = pylibsrtp.Policy
    policy = kind(os.urandom(44), kind.SSRC_ANY_OUTBOUND, 0, kind.SRTP_PROFILE_AEAD_AES_256_GCM)
    policy.allow_repeat_tx = True
    session = pylibsrtp.Session(policy)
    count = -(-octets // (PACKET - 24))
    packets = PacketHeader(96, 1).packets([bytes(octets // count + 12)] * count, 0, 0, 0.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        segment = [(socket.IPPROTO_UDP, 103, struct.pack("=H", len(packets[0]) + 16))]
        began = time.process_time()
        for _ in range(rounds):
            encrypted = [session.protect(packet) for packet in packets]
            udp.sendmsg(encrypted, segment, 0, udp.getsockname())
        return (time.process_time() - began) / rounds * 1e6


def run_sink(pipe: Any) -> None:
    """Makes offers as asked, finishes DTLS and drops all RTP from then on."""
    asyncio.run(sink(pipe))


async def sink(pipe: Any) -> None:
    receive = aioice.ice.Connection.data_received

    def drop_rtp(self: Any, data: bytes, component: int) -> None:
        if not (127 < data[0] < 192 and not 191 < data[1] < 209):
            receive(self, data, component)

    aioice.ice.Connection.data_received = drop_rtp
    loop = asyncio.get_running_loop()
    clients: list[RTCPeerConnection] = []
    while await loop.run_in_executor(None, pipe.recv):
        client = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        video = client.addTransceiver("video", direction="recvonly")
        await client.setLocalDescription(await client.createOffer())
        pipe.send((client.localDescription.sdp, video.mid))
        answer = await loop.run_in_executor(None, pipe.recv)
        await client.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        clients.append(client)
    await asyncio.gather(*(client.close() for client in clients))


async def cpu_of(steps: Sequence[Callable[[int], None]], seconds: float) -> float:
    """Calls each step `RATE` times a second for a while; returns CPU seconds for a call."""
    loop = asyncio.get_running_loop()
    start = loop.time() + 0.05

    async def pace(step: Callable[[int], None], phase: float) -> None:
        for index in range(round(seconds * RATE)):
            await asyncio.sleep(start + (index + phase) / RATE - loop.time())
            step(index)

    began = time.process_time()
    await asyncio.gather(*(pace(step, at / len(steps)) for at, step in enumerate(steps)))
    return (time.process_time() - began) / (len(steps) * round(seconds * RATE))


async def measure(sessions: int, seconds: float, frame: EncodedFrame, pipe: Any) -> float:
    """CPU of one frame with so many sessions, in milliseconds."""
    loop, hub = asyncio.get_running_loop(), FakeHub()
    peers = AiortcPeers(PeerSettings(max_peers=sessions, joins_per_second=1000))
    frames = [replace(frame, timestamp_us=at * 1_000_000 // RATE) for at in range(RATE * 600)]
    steps: list[Callable[[int], None]] = []
    for _ in range(sessions):
        pipe.send("offer")
        sdp, mid = await loop.run_in_executor(None, pipe.recv)
        connection = await connect(hub)
        tracks, ended = {mid: "main_video"}, hub.changes.happened
        _, answer = await peers.answer(connection, sdp, tracks, on_closed=ended)
        pipe.send(answer)
        subscription = connection.subscriptions[0]
        await hub.until(lambda subscription=subscription: not subscription.paused)
        steps.append(lambda index, show=subscription.viewer.frame: show(frames[index]))
    await cpu_of(steps, 0.5)
    alone = await cpu_of([lambda _: None] * sessions, seconds)
    sending = await cpu_of(steps, seconds)
    await peers.close()
    return (sending - alone) * 1000


def main() -> None:
    """Prints a line for each number of sessions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--octets", type=int, default=13_000)
    chosen = parser.parse_args()
    packets = -(-chosen.octets // (PACKET - 24))
    spawn = multiprocessing.get_context("spawn")
    line = "{:>8} {:9.3f} {:9.2f}".format
    print("sessions  ms/frame us/packet")
    print(line("floor", (least := floor_us(chosen.octets)) / 1000, least / packets))
    for sessions in chosen.sessions:
        pipe, far = multiprocessing.Pipe()
        (child := spawn.Process(target=run_sink, args=(far,))).start()
        cost = asyncio.run(measure(sessions, chosen.seconds, frame_of(chosen.octets), pipe))
        pipe.send(None)
        child.join(10)
        child.kill()
        print(line(sessions, cost, cost * 1000 / packets), flush=True)


if __name__ == "__main__":
    main()
