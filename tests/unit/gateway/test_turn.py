"""Logins on TURN servers: each connection has its own, for a while."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from pathlib import Path

import pytest

from gateway import chosen
from gateway.settings import GatewaySettings
from gateway.webrtc.ice import IceServer, IceServerProber
from gateway.webrtc.turn import MINIMUM_SECRET, TurnLogins, read_secret
from scheduler.core.errors import ConfigurationError
from scheduler.process.config import load_settings

pytestmark = pytest.mark.unit

SECRET = "s" * MINIMUM_SECRET


def test_a_name_says_when_it_ends_and_its_password_is_its_hash_under_the_secret() -> None:
    name, password = TurnLogins(SECRET, 3600.0, lambda: 1000.5).draw()
    ends_at, drawn = name.split(":")
    assert ends_at == "4600"
    assert len(drawn) == 16
    expected = hmac.new(SECRET.encode(), name.encode(), hashlib.sha1).digest()
    assert base64.b64decode(password) == expected


def test_no_two_connections_have_the_same_login() -> None:
    logins = TurnLogins(SECRET, 3600.0, lambda: 1000.0)
    assert len({logins.draw() for _ in range(100)}) == 100


@pytest.mark.parametrize("content", ["", "\n", "short", "\n" + SECRET, "\u00e9" * 20])
def test_a_file_without_a_secret_keeps_the_gateway_from_starting(
    tmp_path: Path, content: str
) -> None:
    file = tmp_path / "secret"
    file.write_text(content)
    settings = load_settings(GatewaySettings, overrides={"turn_secret": str(file)})
    with pytest.raises(ConfigurationError, match="TURN secret") as refusal:
        chosen.turn_logins(settings)
    assert "short" not in str(refusal.value).replace("too short", "")


def test_the_secret_is_the_first_line(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\nsomething else\n")
    assert read_secret(str(file)) == SECRET
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_secret(str(tmp_path / "missing"))
    assert chosen.turn_logins(load_settings(GatewaySettings)) is None


async def test_turn_servers_without_a_login_get_one_for_each_who_asks() -> None:
    listening = await asyncio.start_server(lambda *_: None, "127.0.0.1")
    port = listening.sockets[0].getsockname()[1]
    url = f"turn:127.0.0.1:{port}?transport=tcp"
    stun = IceServer((f"stuns:127.0.0.1:{port}",))
    own = IceServer((f"turns:127.0.0.1:{port}",), "somebody", "password")
    prober = IceServerProber(
        [IceServer((url,)), stun, own], logins=TurnLogins(SECRET, 60.0, lambda: 0.0)
    )
    prober.start()
    try:
        async with asyncio.timeout(20):
            await prober.probed()
        first, second, gateways = prober.reachable(), prober.reachable(), prober.resolved()
    finally:
        await prober.close()
        listening.close()
    drawn = {each[0].username for each in (first, second, gateways)}
    assert len(drawn) == 3
    assert all(name and name.startswith("60:") for name in drawn)
    assert first[0].credential
    assert first[1:] == second[1:] == (stun, own)
    assert str(first[0].credential) not in repr(first[0])
