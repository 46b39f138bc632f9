"""The public doors: TLS on HTTP and gRPC, or in the clear where something else protects them.

Certificate, key and client authority are files, as cert-manager and ACME clients renew them. They
are read again when they change, for the connections that come then; those that stand go on. While
a set is half written the one before serves.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc
import structlog
from aiohttp import web

from gateway.accepting import Acceptor, bound
from gateway.limits.buckets import Rate
from gateway.limits.connections import Connections
from scheduler.core.errors import ConfigurationError
from scheduler.process.private_files import warn_of_readers
from scheduler.process.tls import belong_together, is_private

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DoorFiles:
    """What the doors show, and whom they let in. PEM files."""

    certificate: Path
    """The certificate, then those between it and its authority."""
    key: Path
    client_ca: Path | None = None
    """Authority of clients: whoever has no certificate of it is not heard. None: all are."""


@dataclass(frozen=True, slots=True)
class _Set:
    certificate: bytes
    key: bytes
    client_ca: bytes | None
    context: ssl.SSLContext


class Doors:
    """Has the servers of a process listen for clients.

    Args:
        files: What to show; None: in the clear.

    Raises:
        ConfigurationError: The files cannot be used.
    """

    def __init__(self, files: DoorFiles | None = None) -> None:
        self._files = files
        self._stamp: object = None
        self._latest = None if files is None else self._read(files)
        if files is not None:
            warn_of_readers(files.key, "the key that clients are shown the certificate of")

    @property
    def scheme(self) -> str:
        """`https` or `http`."""
        return "http" if self._files is None else "https"

    def site(
        self,
        runner: web.BaseRunner,
        host: str | None,
        port: int,
        connections: Connections,
        rate: Rate,
    ) -> web.BaseSite:
        """Returns where an HTTP server listens.

        Args:
            runner: The server, set up.
            host: Where; None: on all addresses of this machine.
            port: Where; 0: any free one.
            connections: Decides which connections are taken.
            rate: How many a second.
        """
        context = None if self._files is None else _RenewedContext(self)
        return _Site(runner, (host, port), connections, rate, context)

    def listen(self, server: grpc.aio.Server, address: str) -> int:
        """Has a gRPC server listen, and returns its port.

        Args:
            server: The server, not yet started.
            address: `host:port`, or `unix:/path`, which the file system guards.

        Raises:
            RuntimeError: The address cannot be listened on.
        """
        if self._files is None or address.startswith("unix:"):
            return server.add_insecure_port(address)

        def latest() -> grpc.ServerCertificateConfiguration:
            shown = self._current()
            return grpc.ssl_server_certificate_configuration(
                [(shown.key, shown.certificate)], root_certificates=shown.client_ca
            )

        credentials = grpc.dynamic_ssl_server_credentials(
            latest(), latest, require_client_authentication=self._files.client_ca is not None
        )
        return server.add_secure_port(address, credentials)

    def warn(self, *addresses: str) -> None:
        """Says which addresses listen in the clear beyond this host: tokens and prompts cross
        the network as they are, unless a proxy ends TLS before.
        """
        if self._files is None:
            for address in addresses:
                if not is_private(address):
                    _log.warning(
                        "door.in_the_clear",
                        address=address,
                        remedy="--tls-cert FILE --tls-key FILE, or a proxy that ends TLS",
                    )

    def context(self) -> ssl.SSLContext:
        """Returns what a handshake over HTTP goes by from now on."""
        return self._current().context

    def _current(self) -> _Set:
        files, latest = self._files, self._latest
        assert files is not None and latest is not None  # noqa: S101, PT018 - asked with TLS alone
        if _stamp(files) == self._stamp:
            return latest
        try:
            latest = self._latest = self._read(files)
        except ConfigurationError as error:
            _log.warning("door.certificate_kept", reason=str(error))
        else:
            _log.info("door.certificate_renewed")
        return latest

    def _read(self, files: DoorFiles) -> _Set:
        # Taken before: what changes while it is read is read again.
        self._stamp = _stamp(files)
        certificate = _pem(files.certificate, "--tls-cert")
        key = _pem(files.key, "--tls-key")
        client_ca = None if files.client_ca is None else _pem(files.client_ca, "--client-ca")
        if not belong_together(certificate, key):
            raise ConfigurationError("the file of --tls-key is not the key of --tls-cert")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(files.certificate, files.key, _no_password)
            if client_ca is not None:
                context.load_verify_locations(cadata=client_ca.decode())
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ValueError) as error:
            raise ConfigurationError("the certificates of the doors cannot be used") from error
        return _Set(certificate, key, client_ca, context)


class _RenewedContext(ssl.SSLContext):
    """A context whose every connection goes by the newest files."""

    _doors: Doors

    def __new__(cls, doors: Doors) -> Self:
        own = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        own._doors = doors
        return own

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:  # noqa: ANN401 - as asyncio calls it
        return self._doors.context().wrap_bio(*args, **kwargs)


class _Site(web.BaseSite):
    """As `web.TCPSite`, with connections that are taken one after the other."""

    def __init__(
        self,
        runner: web.BaseRunner,
        address: tuple[str | None, int],
        connections: Connections,
        rate: Rate,
        context: ssl.SSLContext | None,
    ) -> None:
        super().__init__(runner, ssl_context=context)
        self._address = address
        self._connections = connections
        self._rate = rate

    @property
    def name(self) -> str:
        host, port = self._address
        return f"{'http' if self._ssl_context is None else 'https'}://{host or '0.0.0.0'}:{port}"

    async def start(self) -> None:
        await super().start()
        server = self._runner.server
        assert server is not None  # noqa: S101 - set up before
        sockets = await bound(*self._address)
        # It has what aiohttp asks of a server: `sockets` and `close`.
        self._server = Acceptor(  # type: ignore[assignment]
            sockets, server, self._connections, self._rate, self._ssl_context
        )


def _no_password() -> str:
    """Keeps OpenSSL from asking the terminal for the password of a key."""
    return ""


def _pem(path: Path, option: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"the file of {option} cannot be read: {error.strerror}"
        ) from error
    if b"-----BEGIN " not in content:
        raise ConfigurationError(f"the file of {option} is not PEM")
    return content


def _stamp(files: DoorFiles) -> object:
    """Returns what changes when one of the files does."""
    told = []
    for path in (files.certificate, files.key, files.client_ca):
        try:
            state = None if path is None else path.stat()
        except OSError:
            state = None
        told.append(state and (state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino))
    return told
