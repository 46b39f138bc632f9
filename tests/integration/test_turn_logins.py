"""Logins that the gateway makes, at the real coturn: for clients, and for its own relays."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aioice import stun, turn
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription

from gateway.webrtc.peer import AiortcPeers, IceServer, PeerSettings
from gateway.webrtc.turn import TurnLogins
from tests.fakes.hub import FakeHub
from tests.fakes.webrtc_client import connect
from tests.required import require_command

pytestmark = pytest.mark.integration

SECRET = "a secret of gateway and coturn"
HOST = "127.0.0.1"
WAIT_S = 30.0


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def coturn(folder: Path) -> AsyncIterator[int]:
    """A server on the loopback; yields its port."""
    program = require_command("turnserver", "install coturn")
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(program, "-n", "--no-cli", "--no-tls", "--no-dtls", "--no-software-attribute"),
        *("--use-auth-secret", f"--static-auth-secret={SECRET}", "--realm=sana"),
        *(f"--listening-ip={HOST}", f"--relay-ip={HOST}", f"--listening-port={port}"),
        *("--allow-loopback-peers", "--log-file=stdout", f"--pidfile={folder}/pid"),
        f"--userdb={folder}/users",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=folder,
    )
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection(HOST, port)
                    writer.close()
                    break
                assert process.returncode is None, "coturn has ended"
                await asyncio.sleep(0.05)
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def allocated(port: int, login: tuple[str, str]) -> bool:
    """Tells whether a login is given a relay."""
    try:
        transport, _ = await turn.create_turn_endpoint(
            asyncio.DatagramProtocol,
            server_addr=(HOST, port),
            username=login[0],
            password=login[1],
        )
    except stun.TransactionFailed as refusal:
        if refusal.response.attributes["ERROR-CODE"][0] != 401:
            raise
        return False
    transport.close()
    return True


async def test_coturn_takes_our_logins_until_they_end(tmp_path: Path) -> None:
    async with coturn(tmp_path) as port, asyncio.timeout(WAIT_S):
        name, password = TurnLogins(SECRET, 60.0).draw()
        assert await allocated(port, (name, password))
        assert not await allocated(port, (name, "AAAA" + password[4:]))
        # Nobody makes a login last longer by changing its name.
        later = f"{int(time.time()) + 9999}:{name.partition(':')[2]}"
        assert not await allocated(port, (later, password))
        over = TurnLogins(SECRET, 60.0, lambda: time.time() - 120.0).draw()
        assert not await allocated(port, over)
        assert not await allocated(port, TurnLogins("another secret", 60.0).draw())


async def test_a_relay_outlives_its_login(tmp_path: Path) -> None:
    async with coturn(tmp_path) as port, asyncio.timeout(WAIT_S):
        name, password = TurnLogins(SECRET, 1.0).draw()
        transport, _ = await turn.create_turn_endpoint(
            asyncio.DatagramProtocol,
            server_addr=(HOST, port),
            username=name,
            password=password,
        )
        ends_at = int(name.partition(":")[0])
        while time.time() < ends_at + 1.5:  # noqa: ASYNC110 - it is the clock that is waited for
            await asyncio.sleep(0.1)
        assert not await allocated(port, (name, password))
        inner = transport._TurnTransport__inner_protocol
        request = stun.Message(message_method=stun.Method.REFRESH, message_class=stun.Class.REQUEST)
        request.attributes["LIFETIME"] = 600
        answer, _ = await inner.request_with_retry(request)
        assert answer.message_class is stun.Class.RESPONSE
        transport.close()


async def test_clients_and_the_gateway_relay_with_logins_of_their_own(tmp_path: Path) -> None:
    async with coturn(tmp_path) as port, asyncio.timeout(2 * WAIT_S):
        url = f"turn:{HOST}:{port}?transport=udp"
        settings = PeerSettings(
            ice_servers=(IceServer((url,)),), turn_logins=TurnLogins(SECRET, 60.0)
        )
        peers = AiortcPeers(settings)
        try:
            await peers._servers.probed()
            (told,) = peers.ice_servers()
            assert told.username is not None
            assert told.credential is not None
            server = RTCIceServer(list(told.urls), told.username, told.credential)
            client = RTCPeerConnection(RTCConfiguration(iceServers=[server]))
            client.addTransceiver("video", direction="recvonly")
            await client.setLocalDescription(await client.createOffer())
            offer = client.localDescription.sdp
            assert " typ relay " in offer
            mid = client.getTransceivers()[0].mid
            peer, answer = await peers.answer(
                await connect(FakeHub()), offer, {mid: "main_video"}, on_closed=lambda: None
            )
            assert " typ relay " in answer
            relayed = [
                line for line in answer.splitlines() if "a=candidate" not in line or "relay" in line
            ]
            connected = asyncio.Event()

            def changed() -> None:
                if client.connectionState == "connected":
                    connected.set()

            client.on("connectionstatechange", changed)
            await client.setRemoteDescription(
                RTCSessionDescription("\r\n".join(relayed) + "\r\n", "answer")
            )
            await connected.wait()
            await client.close()
            await peer.close()
        finally:
            await peers.close()
