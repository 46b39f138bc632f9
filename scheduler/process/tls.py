"""Mutual TLS between our own processes: every role proves that it belongs to the service.

All roles share one private authority. Its certificates are made out to the name
`sana-gateway`, not to hosts, which come and go in a pool; who talks to whom is decided by
the lease tokens above. Unix sockets stay plain: the file system guards them.

A folder holds `ca.crt`, `tls.crt` and `tls.key`, as cert-manager lays them out in a
Kubernetes secret. A server reads them again at every handshake, and a client whenever it
dials, so a renewed certificate needs no restart: connections that stand go on, and later
ones are made with the new one.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import structlog

from scheduler.core.errors import ConfigurationError
from scheduler.process.private_files import warn_of_readers

log = structlog.get_logger(__name__)

FOLDER: Final = "SANA_GATEWAY_TLS"
"""Variable that names the folder, where no option does; also to the processes of a Ray node."""
NAME: Final = "sana-gateway"
"""Name that the certificates of all roles carry."""
AUTHORITY: Final = "ca.crt"
CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"
Options = Sequence[tuple[str, Any]]
_LOST = (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.TRANSIENT_FAILURE)
"""States of a channel without a connection. No call is under way on one: it fails at once in
the latter, and ends the former."""


def folder_of_node() -> str:
    """Returns the folder that this process was told of by its environment; empty if none."""
    return os.environ.get(FOLDER, "")


@dataclass(frozen=True, slots=True)
class Identity:
    """What a process shows to others, and what it believes of them. PEM."""

    authority: bytes
    certificate: bytes
    key: bytes

    @classmethod
    def read(cls, folder: Path) -> Identity:
        """Reads the three files of a folder.

        Raises:
            ConfigurationError: One of them is missing, cannot be read, or is no PEM; or the key
                is another certificate's, as while the set is being replaced.
        """
        found = []
        for name in (AUTHORITY, CERTIFICATE, KEY):
            try:
                content = (folder / name).read_bytes()
            except OSError as error:
                raise ConfigurationError(
                    f"the TLS folder has no readable {name}: `sana-gateway certs` makes a set"
                ) from error
            if b"-----BEGIN " not in content:
                raise ConfigurationError(f"{name} in the TLS folder is not PEM")
            found.append(content)
        own = cls(*found)
        if not own.fits():
            raise ConfigurationError(f"{KEY} in the TLS folder is not the key of {CERTIFICATE}")
        return own

    def fits(self) -> bool:
        """Tells whether the key is the certificate's."""
        return belong_together(self.certificate, self.key)


class Wires:
    """Dials and listens for the internal services, in the clear or with mutual TLS.

    Args:
        folder: Where the identity of this process lies; None or empty: TCP stays in the clear.

    Raises:
        ConfigurationError: The folder cannot be used.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self._folder = Path(folder) if folder else None
        self._latest = Identity.read(self._folder) if self._folder else None
        if self._folder is not None:
            warn_of_readers(self._folder / KEY, "the key between our own processes")

    @property
    def secure(self) -> bool:
        """Whether TCP is protected."""
        return self._folder is not None

    def identity(self) -> Identity | None:
        """Returns what this process shows from now on; None in the clear."""
        if self._folder is not None:
            # While a new set is half written, the old one serves on.
            with suppress(ConfigurationError):
                self._latest = Identity.read(self._folder)
        return self._latest

    def dial(self, address: str, options: Options = ()) -> grpc.aio.Channel:
        """Returns a channel to a process of ours, `unix:...` or `host:port`.

        One that is to live as long as this process is better a `line`.
        """
        own = self.identity()
        if own is None or address.startswith("unix:"):
            return grpc.aio.insecure_channel(address, options=options)
        credentials = grpc.ssl_channel_credentials(own.authority, own.key, own.certificate)
        named = ("grpc.ssl_target_name_override", NAME)
        return grpc.aio.secure_channel(address, credentials, options=[*options, named])

    def line(self, address: str, options: Options = ()) -> Line:
        """Returns a line to a process of ours, `unix:...` or `host:port`."""
        return Line(self, address, options)

    def listen(self, server: grpc.aio.Server, address: str) -> int:
        """Has a server listen, and returns its port.

        Raises:
            RuntimeError: The address cannot be listened on.
        """
        own = self.identity()
        if own is None or address.startswith("unix:"):
            if not is_private(address):
                log.warning("wire.in_the_clear", address=address, remedy="--tls FOLDER")
            return server.add_insecure_port(address)

        def latest() -> grpc.ServerCertificateConfiguration:
            return _configuration(self.identity() or own)

        credentials = grpc.dynamic_ssl_server_credentials(
            latest(), latest, require_client_authentication=True
        )
        return server.add_secure_port(address, credentials)


class Line:
    """A channel that lives as long as its process. gRPC connects it again by itself, but would
    do so with the first certificate for ever.
    """

    def __init__(self, wires: Wires, address: str, options: Options) -> None:
        """Dials; see `Wires.line`."""
        self._wires = wires
        self._dialled = (address, options)
        self._shown = wires.identity()
        self.channel = wires.dial(address, options)
        """Make no stub of it that outlives a `renew`."""

    async def renew(self) -> bool:
        """Dials anew if there is no connection and the certificate was renewed.

        Returns:
            Whether `channel` is another one now.
        """
        own = self._wires.identity()
        if own == self._shown or self.channel.get_state() not in _LOST:
            return False
        before, self._shown = self.channel, own
        self.channel = self._wires.dial(*self._dialled)
        await before.close(None)
        return True

    async def close(self) -> None:
        """Ends the connection."""
        await self.channel.close(None)


def belong_together(certificate: bytes, key: bytes) -> bool:
    """Tells whether a key, PEM without a password, is the one of the first certificate."""
    # Loaded where TLS is used: a process that starts takes time from those that stream.
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        certified = x509.load_pem_x509_certificate(certificate).public_key()
        private = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError):
        return False
    return private.public_key() == certified


def is_private(address: str) -> bool:
    """Tells whether an address is reached from this host alone."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _configuration(own: Identity) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(own.key, own.certificate)], root_certificates=own.authority
    )
