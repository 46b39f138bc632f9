"""A TURN server over UDP, for a service of one's own: as much of RFC 8656 as aioice uses.

`python -m sdk_adapters.harness.networks.turn_server --ready-file PATH` runs one on this machine's
loopback, with a login drawn for the run, and writes `{"turn": "turn:user:password@host:port"}`
into the file once it serves. Logins, allocations, channels; no permissions, no indications.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import secrets
import signal
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from aioice import stun, turn

from sdk_adapters.harness.networks.relays import Port
from sdk_adapters.harness.networks.sdp import Address

HOST: Final = "127.0.0.1"
REALM: Final = "sana-load"
LIFETIME_S: Final = 600
"""How long an allocation lives that is not refreshed."""
ALLOCATIONS: Final = 4096
"""At a time; who comes then is refused (486, allocation quota reached)."""
CHANNELS: Final = 64
"""Of one allocation."""
_CHANNEL: Final = struct.Struct("!HH")
_UNAUTHORIZED: Final = (401, "Unauthorized")
_FULL: Final = (486, "Allocation Quota Reached")
_MISMATCH: Final = (437, "Allocation Mismatch")
_BAD: Final = (400, "Bad Request")


class Allocation:
    """What one client has: a port for its peers, and channels to them."""

    def __init__(self, port: Port, address: Address) -> None:
        self.port = port
        self.address = address
        self.peers: dict[int, Address] = {}
        self.channels: dict[Address, int] = {}
        self.expiry: asyncio.TimerHandle | None = None


class Relay:
    """A running server."""

    def __init__(self) -> None:
        """Draws a login; `running` runs it."""
        self.url = ""
        """`turn:user:password@host:port`."""
        self.out = 0
        """Packets that went from clients to peers."""
        self.back = 0
        """And the other way."""
        self._user, self._password = secrets.token_hex(4), secrets.token_hex(16)
        self._key = turn.make_integrity_key(self._user, REALM, self._password)
        self._nonce = secrets.token_hex(8).encode()
        self.allocations: dict[Address, Allocation] = {}
        """What clients have, by their address."""
        self._opening: dict[Address, asyncio.Task[None]] = {}
        self._port = Port(self._take)
        self._host = HOST

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, host: str = HOST) -> AsyncIterator[Relay]:
        """Runs one.

        Args:
            host: Address of this machine that it listens on, and relays from.
        """
        relay = cls()
        relay._host, port = await relay._port.open(host)
        relay.url = f"turn:{relay._user}:{relay._password}@{relay._host}:{port}"
        try:
            yield relay
        finally:
            await relay._close()

    async def _close(self) -> None:
        for task in self._opening.values():
            task.cancel()
        await asyncio.gather(*self._opening.values(), return_exceptions=True)
        for client in [*self.allocations]:
            self._free(client)
        self._port.close()

    # -- packets ---------------------------------------------------------------------------

    def _take(self, data: bytes, client: Address) -> None:
        if len(data) >= _CHANNEL.size and turn.is_channel_data(data):
            self._to_peer(data, client)
            return
        # Whatever else is sent here is none of ours.
        with contextlib.suppress(ValueError, struct.error, IndexError):
            asked = stun.parse_message(data)
            if asked.message_class is stun.Class.REQUEST:
                self._asked(asked, client)

    def _to_peer(self, data: bytes, client: Address) -> None:
        channel, size = _CHANNEL.unpack_from(data)
        allocation = self.allocations.get(client)
        if allocation is not None and (peer := allocation.peers.get(channel)) is not None:
            self.out += 1
            allocation.port.send(data[_CHANNEL.size : _CHANNEL.size + size], peer)

    def _from_peer(self, client: Address, data: bytes, peer: Address) -> None:
        allocation = self.allocations.get(client)
        if allocation is not None and (channel := allocation.channels.get(peer)) is not None:
            self.back += 1
            self._port.send(_CHANNEL.pack(channel, len(data)) + data, client)

    # -- requests --------------------------------------------------------------------------

    def _asked(self, asked: stun.Message, client: Address) -> None:
        known = asked.attributes.get("USERNAME") == self._user
        if not known or not asked.check_message_integrity(self._key):
            login = {"NONCE": self._nonce, "REALM": REALM}
            self._refuse(asked, client, _UNAUTHORIZED, login)
            return
        match asked.message_method:
            case stun.Method.ALLOCATE:
                self._allocate(asked, client)
            case stun.Method.REFRESH:
                self._refresh(asked, client)
            case stun.Method.CHANNEL_BIND:
                self._bind(asked, client)
            case _:
                self._refuse(asked, client, _BAD)

    def _allocate(self, asked: stun.Message, client: Address) -> None:
        """Answers at once where a request is repeated; opens a port else."""
        if client in self.allocations:
            self._allocated(asked, client)
        elif len(self.allocations) + len(self._opening) >= ALLOCATIONS:
            self._refuse(asked, client, _FULL)
        elif client not in self._opening:
            self._opening[client] = asyncio.create_task(self._open(asked, client))

    async def _open(self, asked: stun.Message, client: Address) -> None:
        port = Port(lambda data, peer: self._from_peer(client, data, peer))
        try:
            address = await port.open(self._host)
        except OSError:
            self._refuse(asked, client, _FULL)
        else:
            self.allocations[client] = Allocation(port, address)
            self._lasts(client, LIFETIME_S)
            self._allocated(asked, client)
        finally:
            del self._opening[client]

    def _allocated(self, asked: stun.Message, client: Address) -> None:
        relayed = {"XOR-RELAYED-ADDRESS": self.allocations[client].address}
        told = {**relayed, "XOR-MAPPED-ADDRESS": client, "LIFETIME": LIFETIME_S}
        self._grant(asked, client, told)

    def _refresh(self, asked: stun.Message, client: Address) -> None:
        lifetime = min(LIFETIME_S, asked.attributes.get("LIFETIME", LIFETIME_S))
        if not lifetime:
            self._free(client)
        elif client in self.allocations:
            self._lasts(client, lifetime)
        else:
            self._refuse(asked, client, _MISMATCH)
            return
        self._grant(asked, client, {"LIFETIME": lifetime})

    def _bind(self, asked: stun.Message, client: Address) -> None:
        allocation = self.allocations.get(client)
        channel = asked.attributes.get("CHANNEL-NUMBER")
        peer = asked.attributes.get("XOR-PEER-ADDRESS")
        if allocation is None:
            self._refuse(asked, client, _MISMATCH)
        elif channel is None or peer is None or len(allocation.peers) >= CHANNELS:
            self._refuse(asked, client, _BAD)
        else:
            allocation.peers[channel], allocation.channels[peer] = peer, channel
            self._grant(asked, client, {})

    def _lasts(self, client: Address, seconds: float) -> None:
        allocation = self.allocations[client]
        if allocation.expiry is not None:
            allocation.expiry.cancel()
        loop = asyncio.get_running_loop()
        allocation.expiry = loop.call_later(seconds, self._free, client)

    def _free(self, client: Address) -> None:
        allocation = self.allocations.pop(client, None)
        if allocation is not None:
            if allocation.expiry is not None:
                allocation.expiry.cancel()
            allocation.port.close()

    # -- answers ---------------------------------------------------------------------------

    def _grant(self, asked: stun.Message, client: Address, told: dict[str, Any]) -> None:
        answer = _answer(asked, stun.Class.RESPONSE, told)
        answer.add_message_integrity(self._key)
        self._port.send(bytes(answer), client)

    def _refuse(
        self,
        asked: stun.Message,
        client: Address,
        why: tuple[int, str],
        told: dict[str, Any] | None = None,
    ) -> None:
        answer = _answer(asked, stun.Class.ERROR, {"ERROR-CODE": why, **(told or {})})
        self._port.send(bytes(answer), client)


def _answer(asked: stun.Message, kind: stun.Class, told: dict[str, Any]) -> stun.Message:
    return stun.Message(
        message_method=asked.message_method,
        message_class=kind,
        transaction_id=asked.transaction_id,
        attributes=told,
    )


async def serve(ready_file: Path) -> None:
    """Runs a server until SIGTERM.

    Args:
        ready_file: Where its address goes once it serves.
    """
    ending = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, ending.set)
    async with Relay.running() as relay:
        await asyncio.to_thread(ready_file.write_text, json.dumps({"turn": relay.url}) + "\n")
        await ending.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ready-file", type=Path, required=True)
    asyncio.run(serve(parser.parse_args().ready_file))
