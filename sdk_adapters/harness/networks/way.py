"""A user's own way to the service: every connection of one session goes through its network."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from random import Random

from scheduler.scenario.load import LoadSpec, Network
from sdk_adapters.harness.generator.gateways import Gateways
from sdk_adapters.harness.generator.target import Target
from sdk_adapters.harness.networks import sdp
from sdk_adapters.harness.networks.link import Link
from sdk_adapters.harness.networks.relays import DatagramRelay, StreamRelay
from sdk_adapters.harness.networks.sdp import Address
from sdk_adapters.harness.networks.turn import TurnServer


def applied(load: LoadSpec, target: Target) -> dict[str, Network]:
    """Returns the networks that have to be made, by name; those that do nothing need not be.

    Args:
        load: Of the scenario.
        target: The service, with the TURN server if there is one.

    Raises:
        ConfigurationError: The TURN server is written wrongly.
    """
    if target.turn:
        TurnServer.parse(target.turn)
    skipped = unapplied(load, target)
    return {
        network.name: network
        for network in load.networks
        if (network.shaped or network.turn_only) and network.name not in skipped
    }


def unapplied(load: LoadSpec, target: Target) -> dict[str, str]:
    """Returns why networks cannot be made, by name; their sessions come as if there were none.

    A browser is led through none of them.

    Args:
        load: Of the scenario.
        target: The service, with the TURN server if there is one.
    """
    missing = {}
    for network in load.networks:
        if network.turn_only and not target.turn:
            missing[network.name] = "no TURN server was named (--turn)"
        elif load.wires.get("chromium") and (network.shaped or network.turn_only):
            missing[f"{network.name} of browsers"] = "browsers are not led through networks"
    return missing


class Way:
    """One session's way. Make it on the event loop, and `close` it."""

    def __init__(self, network: Network, target: Target, seed: int) -> None:
        """Opens what gRPC connects to; `offered` opens what WebRTC does.

        Args:
            network: What lies on it.
            target: Where it leads.
            seed: Draws losses and jitter.
        """
        self._shaped = network.shaped
        self._up, self._down = (Link(network, Random(2 * seed + way)) for way in (0, 1))  # noqa: S311
        self._streams: list[StreamRelay] = []
        self._datagrams: DatagramRelay | None = None
        self._turn = TurnServer.parse(target.turn) if network.turn_only and target.turn else None
        if self._shaped:
            self._streams = [self._stream(address) for address in target.grpc]
            target = replace(target, grpc=tuple(each.address for each in self._streams))
        self.gateways = Gateways(target)
        """Connections of this session alone."""

    @property
    def lost(self) -> int:
        """Packets that were lost on it, both ways together."""
        return self._up.lost + self._down.lost

    async def turn(self) -> TurnServer | None:
        """Returns the TURN server through which WebRTC has to go; None: it goes as it likes."""
        server = self._turn
        if server is None or not self._shaped:
            return server
        found = await asyncio.get_running_loop().getaddrinfo(
            server.host, server.port, type=socket.SOCK_DGRAM
        )
        host, port = found[0][4][:2]
        relay = await self._relay(_own_address(str(host)))
        relay.service = Address(str(host), int(port))
        return replace(server, host=relay.near.host, port=relay.near.port)

    async def offered(self, offer: str) -> str:
        """Returns an offer in which the service finds the user behind its network.

        Args:
            offer: As the user made it.
        """
        if not self._shaped or self._turn is not None:
            return offer
        known = sdp.candidates(offer)
        if not known:
            return offer
        relay = await self._relay(known[0].host)
        relay.begin_with(known[0])
        return sdp.led_through(offer, lambda _: relay.far)

    async def answered(self, answer: str) -> str:
        """Returns an answer in which the user finds the service behind its network.

        Args:
            answer: As the service gave it.
        """
        relay, known = self._datagrams, sdp.candidates(answer)
        if relay is None or self._turn is not None or not known:
            return answer
        relay.service = known[0]
        return sdp.led_through(answer, lambda _: relay.near)

    async def close(self) -> None:
        """Ends all connections. Repeating it is no error."""
        await self.gateways.close()
        if self._datagrams is not None:
            self._datagrams.close()
        for stream in self._streams:
            await stream.close()

    def _stream(self, address: str) -> StreamRelay:
        host, _, port = address.rpartition(":")
        return StreamRelay(host.strip("[]"), int(port), self._up, self._down)

    async def _relay(self, host: str) -> DatagramRelay:
        """Opens a relay; that of a former connection of the session ends."""
        if self._datagrams is not None:
            self._datagrams.close()
        relay = self._datagrams = DatagramRelay(host, self._up, self._down)
        await relay.open()
        return relay


def _own_address(towards: str) -> str:
    """Returns the address of this machine from which another one is reached."""
    family = socket.AF_INET6 if ":" in towards else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        # Nothing is sent: the kernel only chooses.
        probe.connect((towards, 9))
        return str(probe.getsockname()[0])
