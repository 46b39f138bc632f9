"""What a gateway asks of its machine: ports, ways around firewalls, doors, storage."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import secrets
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from gateway import chosen
from gateway.front_door.routing import Share
from gateway.settings import GatewaySettings
from gateway.webrtc.ice import IceServer, IceServerProber
from scheduler.core.errors import ConfigurationError, PluginError
from scheduler.process.diagnosis import Finding, Named, Patient, fault, fine, note
from scheduler.process.host_checks import expiry, reach
from scheduler.process.storage import StorageError
from scheduler.process.tls import is_private

GATEWAY: Final = frozenset({"gateway"})
_SLOW_STORAGE_S: Final = 0.5
_PEERS_PORTS: Final = 40
"""UDP ports of one media worker that carries as many peers as a core does."""
_PROBE: Final = "doctor"


async def ports(patient: Patient) -> Iterable[Finding]:
    """Looks whether the public ports can be listened on."""
    settings: GatewaySettings = patient.gateway
    found: list[Finding] = []
    for about, port in (("HTTP port", settings.http_port), ("gRPC port", settings.grpc_port)):
        error = _listening_fails(settings.host, port)
        if not error:
            found += fine(about, f"{port or 'any'} on {settings.host} is free")
        elif await _is_served(settings.host, port):
            found += note(about, f"{port} on {settings.host} is in use", "fine if it is this one")
        else:
            found += fault(about, f"{settings.host}:{port}: {error}", "choose another")
    return found


async def udp(patient: Patient) -> Iterable[Finding]:
    """Looks whether the ports for WebRTC are there, and enough."""
    settings: GatewaySettings = patient.gateway
    about = "UDP ports"
    if not settings.udp_ports:
        if is_private(f"{settings.host}:0"):
            return fine(about, "free ones, on this machine")
        advice = "name a range that the firewall lets through: --udp-ports LOW-HIGH"
        return note(about, "free ones: a firewall has to let all through", advice)
    workers = max(1, settings.media_workers)
    taken = 0
    for index in range(workers):
        low, high = settings.udp_port_range(Share(index, workers)) or (1, 0)
        if high - low + 1 < _PEERS_PORTS:
            advice = f"{_PEERS_PORTS * workers} or more for {workers} media workers"
            return note(about, f"{high - low + 1} for each media worker", advice)
        taken += sum(_binding_fails(settings.host, port) for port in range(low, high + 1))
    if taken:
        return note(about, f"{taken} of {settings.udp_ports} are in use", "fine if by this gateway")
    return fine(about, f"{settings.udp_ports} are free")


async def ice(patient: Patient) -> Iterable[Finding]:
    """Looks which STUN and TURN servers answer."""
    settings: GatewaySettings = patient.gateway
    servers = settings.ice()
    if not servers:
        if is_private(f"{settings.host}:0"):
            return fine("STUN and TURN", "none: clients on this machine need none")
        advice = "a TURN server lets clients in behind strict firewalls: ice_servers"
        return note("STUN and TURN", "none: clients must reach this host's addresses", advice)
    prober = IceServerProber([IceServer((each.url,)) for each in servers])
    prober.start()
    try:
        await prober.probed()
        answered = {url for server in prober.reachable() for url in server.urls}
    finally:
        await prober.close()
    found: list[Finding] = []
    for each in servers:
        if each.url in answered:
            found += fine("STUN and TURN", f"{each.url} answers")
        else:
            advice = "is it started, and does a firewall stand between?"
            found += fault("STUN and TURN", f"{each.url} does not answer", advice)
    return found


async def doors(patient: Patient) -> Iterable[Finding]:
    """Looks who may come in, and whether strangers can listen."""
    settings: GatewaySettings = patient.gateway
    found: list[Finding] = []
    certificate = Path(settings.tls_cert) if settings.tls_cert else None
    if settings.auth == "none" and not is_private(f"{settings.host}:0"):
        advice = "--auth api-key, or --host 127.0.0.1"
        found += fault("who may call", "everybody who reaches this host", advice)
    else:
        try:
            await asyncio.to_thread(chosen.authenticator, settings)
        except (ConfigurationError, PluginError) as error:
            found += fault("who may call", str(error), "docs/auth.md")
        else:
            found += fine("who may call", f"--auth {settings.auth}")
    if certificate is not None:
        try:
            pem = await asyncio.to_thread(certificate.read_bytes)
            found += expiry("public TLS", pem, dt.datetime.now(dt.UTC))
        except (OSError, ValueError):
            found += fault("public TLS", "the certificate cannot be read", "--tls-cert FILE")
    elif not is_private(f"{settings.host}:0"):
        advice = "--tls-cert and --tls-key, or a proxy that ends TLS in front"
        found += note("public TLS", "none: keys and pictures travel in the clear", advice)
    return found


async def storage(patient: Patient) -> Iterable[Finding]:
    """Writes a small object where uploads go, and reads it."""
    settings: GatewaySettings = patient.gateway
    if settings.storage == "filesystem" and "root" not in settings.storage_options:
        return fine("storage", "a new folder, which goes with the service")
    advice = "docs/storage.md"
    try:
        store = chosen.storage(settings)()
    except (ConfigurationError, PluginError) as error:
        return fault("storage", str(error), advice)
    key, content = f"{_PROBE}/{secrets.token_hex(16)}", secrets.token_bytes(1024)
    began = time.monotonic()
    try:
        await store.put(key, content)
        same = await store.get(key) == content
        await store.delete(key)
    except StorageError as error:
        return fault("storage", str(error), advice)
    finally:
        await store.close()
    took = time.monotonic() - began
    if not same:
        return fault("storage", "what was read is not what was written", advice)
    if took > _SLOW_STORAGE_S:
        return note("storage", f"writes and reads within {took:.1f} s", "uploads will be slow")
    return fine("storage", f"writes and reads within {took * 1000:.0f} ms")


async def scheduler(patient: Patient) -> Iterable[Finding]:
    """Looks whether the scheduler answers, where it runs elsewhere."""
    if "head" in patient.roles:
        return []
    return await reach("scheduler", patient.gateway.placement_address)


def _listening_fails(host: str, port: int) -> str:
    """Says why a TCP port cannot be listened on; empty if it can."""
    try:
        with socket.create_server((host, port), family=_family(host)):
            return ""
    except OSError as error:
        return error.strerror or type(error).__name__


async def _is_served(host: str, port: int) -> bool:
    here = "127.0.0.1" if ipaddress.ip_address(_address(host)).is_unspecified else host
    try:
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection(here, port)
    except OSError:
        return False
    writer.close()
    return True


def _binding_fails(host: str, port: int) -> bool:
    with socket.socket(_family(host), socket.SOCK_DGRAM) as tried:
        try:
            tried.bind((host, port))
        except OSError:
            return True
    return False


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _address(host: str) -> str:
    found: list[Any] = socket.getaddrinfo(host, None)
    return str(found[0][4][0])


CHECKS: Final = (
    Named("ports", GATEWAY, ports),
    Named("UDP ports", GATEWAY, udp),
    Named("STUN and TURN", GATEWAY, ice),
    Named("doors", GATEWAY, doors),
    Named("storage", GATEWAY, storage),
    Named("scheduler", GATEWAY, scheduler),
)
