"""Fetches the journal of a session from a gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import grpc

from sana_gateway import tracing
from sana_gateway.v1 import replay_pb2, replay_pb2_grpc
from scheduler.core.errors import ConfigurationError, SanaGatewayError

KEY_MARK: Final = "rk_"
"""How API keys begin; what does not is a token."""


class ExportError(SanaGatewayError):
    """A journal could not be fetched."""


def export(
    session: str, target: Path, address: str, token: str, *, tls: bool, ca: Path | None
) -> int:
    """Fetches a journal into a file; returns its bytes.

    Args:
        session: Of which session.
        target: The file; it is there only when it is whole.
        address: gRPC address of a gateway.
        token: API key or token; empty: none.
        tls: Whether the gateway has TLS.
        ca: PEM file of its authority; None: those of the system.

    Raises:
        ExportError: The gateway refused, or could not be asked; or the file cannot be written.
        ConfigurationError: The file of the authority cannot be read.
    """
    is_key = token.startswith(KEY_MARK)
    metadata = tracing.metadata(None if is_key else token or None, token if is_key else None)
    request = replay_pb2.ExportJournalRequest(session_id=session)
    part = target.with_name(f".{target.name}.part")
    try:
        with _channel(address, tls=tls, ca=ca) as channel, part.open("wb") as file:
            stub = replay_pb2_grpc.ReplayServiceStub(channel)
            for piece in stub.ExportJournal(request, metadata=metadata):
                file.write(piece.data)
            size = file.tell()
        part.replace(target)
    except grpc.RpcError as error:
        call: Any = error
        raise ExportError(call.details() or call.code().name) from None
    except OSError as error:
        raise ExportError(f"the file cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
    return size


def _channel(address: str, *, tls: bool, ca: Path | None) -> grpc.Channel:
    if not tls and ca is None:
        return grpc.insecure_channel(address)
    try:
        authority = None if ca is None else ca.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read the authority: {error.strerror}") from error
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(authority))
