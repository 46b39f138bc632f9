"""A TURN server over UDP (RFC 8656), as much of it as WebRTC needs: login, channels, no more."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import struct
from collections.abc import AsyncIterator
from typing import Any, Final

from aioice import stun, turn

Address = tuple[str, int]

HOST: Final = "127.0.0.1"
REALM: Final = "tests"
USER, PASSWORD = "ann", "p@ss/word"
URL_LOGIN: Final = "ann:p%40ss%2Fword"
LIFETIME_S: Final = 600
_CHANNEL: Final = struct.Struct("!HH")


class _Socket(asyncio.DatagramProtocol):
    def __init__(self, take: Any) -> None:
        self._take = take
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._take(data, (addr[0], addr[1]))


class Allocation:
    """What one client has: a port for its peers, and channels to them."""

    def __init__(self, client: Address) -> None:
        self.client = client
        self.socket: Any = None
        self.peers: dict[int, Address] = {}


class TurnServer:
    """A running server."""

    def __init__(self) -> None:
        self.url = ""
        """With the login."""
        self.out = 0
        """Packets that went from clients to peers."""
        self.back = 0
        """And the other way."""
        self._key = turn.make_integrity_key(USER, REALM, PASSWORD)
        self._nonce = secrets.token_hex(8).encode()
        self._allocations: dict[Address, Allocation] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket: Any = None

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls) -> AsyncIterator[TurnServer]:
        """Runs one."""
        server = cls()
        loop = asyncio.get_running_loop()
        _, server._socket = await loop.create_datagram_endpoint(
            lambda: _Socket(server._take), local_addr=(HOST, 0)
        )
        port = server._socket.transport.get_extra_info("sockname")[1]
        server.url = f"turn:{URL_LOGIN}@{HOST}:{port}"
        try:
            yield server
        finally:
            for task in server._tasks:
                task.cancel()
            await asyncio.gather(*server._tasks, return_exceptions=True)
            for each in (server._socket, *(each.socket for each in server._allocations.values())):
                each.transport.close()

    def _take(self, data: bytes, client: Address) -> None:
        if turn.is_channel_data(data):
            self._to_peer(data, client)
            return
        with contextlib.suppress(ValueError):
            task = asyncio.create_task(self._answer(stun.parse_message(data), client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _to_peer(self, data: bytes, client: Address) -> None:
        channel, size = _CHANNEL.unpack_from(data)
        allocation = self._allocations.get(client)
        if allocation is not None and channel in allocation.peers:
            self.out += 1
            allocation.socket.transport.sendto(data[4 : 4 + size], allocation.peers[channel])

    def _from_peer(self, allocation: Allocation, data: bytes, peer: Address) -> None:
        for channel, known in allocation.peers.items():
            if known == peer:
                self.back += 1
                packet = _CHANNEL.pack(channel, len(data)) + data
                self._socket.transport.sendto(packet, allocation.client)

    async def _answer(self, asked: stun.Message, client: Address) -> None:
        answer = stun.Message(
            message_method=asked.message_method,
            message_class=stun.Class.RESPONSE,
            transaction_id=asked.transaction_id,
        )
        if asked.attributes.get("USERNAME") != USER:
            answer.message_class = stun.Class.ERROR
            answer.attributes["ERROR-CODE"] = (401, "Unauthorized")
            answer.attributes["NONCE"] = self._nonce
            answer.attributes["REALM"] = REALM
            self._send(answer, client)
            return
        if asked.message_method is stun.Method.ALLOCATE:
            address = await self._allocate(client)
            answer.attributes["XOR-RELAYED-ADDRESS"] = address
            answer.attributes["XOR-MAPPED-ADDRESS"] = client
            answer.attributes["LIFETIME"] = LIFETIME_S
        elif asked.message_method is stun.Method.CHANNEL_BIND:
            channel = asked.attributes["CHANNEL-NUMBER"]
            self._allocations[client].peers[channel] = asked.attributes["XOR-PEER-ADDRESS"]
        elif asked.message_method is stun.Method.REFRESH:
            answer.attributes["LIFETIME"] = asked.attributes["LIFETIME"]
        answer.add_message_integrity(self._key)
        self._send(answer, client)

    async def _allocate(self, client: Address) -> Address:
        if client not in self._allocations:
            allocation = Allocation(client)
            loop = asyncio.get_running_loop()
            _, allocation.socket = await loop.create_datagram_endpoint(
                lambda: _Socket(lambda data, peer: self._from_peer(allocation, data, peer)),
                local_addr=(HOST, 0),
            )
            self._allocations[client] = allocation
        found: Address = self._allocations[client].socket.transport.get_extra_info("sockname")
        return found[0], found[1]

    def _send(self, message: stun.Message, client: Address) -> None:
        self._socket.transport.sendto(bytes(message), client)
