"""How commands for operators reach a gateway: the options that they share, and the call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import grpc
import typer

from gateway.auth import API_KEY_METADATA, KEY_MARK
from scheduler.core.errors import ConfigurationError, SanaGatewayError

ANSWER_S: Final = 10.0
"""How long a gateway may take to answer."""
INTERRUPTED: Final = 130
"""Exit status of a command that Ctrl-C ended."""
HERE: Final = "127.0.0.1:50051"
"""Where a gateway of one's own listens."""

Address = Annotated[str, typer.Option(help="gRPC address of a gateway.", envvar="SANA_ADDRESS")]
Token = Annotated[
    str,
    typer.Option(
        help="API key or token with the scope `operator`; better given in the environment, as "
        "the list of processes shows options.",
        envvar="SANA_TOKEN",
        show_envvar=True,
    ),
]
Tls = Annotated[bool, typer.Option("--tls", help="The gateway, or its proxy, has TLS.")]
Ca = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        help="PEM file of the authority that signed the gateway's certificate, where the system "
        "does not know it. Implies --tls.",
        envvar="SANA_CA",
        dir_okay=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead, for programs.")]


class AnswerError(SanaGatewayError):
    """The gateway refused, or could not be asked."""

    def __init__(self, text: str, code: grpc.StatusCode) -> None:
        """Stores what it said.

        Args:
            text: For people.
            code: How the call ended.
        """
        super().__init__(text)
        self.code = code


@contextmanager
def asking(stub: Any, address: str, *, tls: bool, ca: Path | None = None) -> Iterator[Any]:  # noqa: ANN401 - generated, without types
    """Yields a stub for a gateway.

    Args:
        stub: Its class.
        address: Of the gateway.
        tls: Whether it has TLS.
        ca: PEM file of its authority; None: those of the system.

    Raises:
        AnswerError: A call failed; the text says how.
        ConfigurationError: The file cannot be read.
    """
    with _channel(address, tls=tls, ca=ca) as channel:
        try:
            yield stub(channel)
        except grpc.RpcError as error:
            call: Any = error
            raise AnswerError(call.details() or call.code().name, call.code()) from None


def metadata(token: str) -> tuple[tuple[str, str], ...]:
    """Returns what a call carries that is made with a key or a token."""
    if token.startswith(KEY_MARK):
        return ((API_KEY_METADATA, token),)
    return (("authorization", f"Bearer {token}"),) if token else ()


def _channel(address: str, *, tls: bool, ca: Path | None) -> grpc.Channel:
    if not tls and ca is None:
        return grpc.insecure_channel(address)
    authority = None
    if ca is not None:
        try:
            authority = ca.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"cannot read {ca}: {error.strerror}") from error
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(authority))
