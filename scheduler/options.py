"""Command-line options that `serve` shares with `serve head`, to which it passes them on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal

import typer

from scheduler.core.errors import ConfigurationError
from scheduler.core.pool_events import PoolRules

MOST_PORT = 65535
_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5})")

RECONNECT_WINDOW_S = PoolRules().reconnect_window

Model = Annotated[
    str,
    typer.Option(
        help="Model plugin to serve; `sana-gateway plugins` lists them. Clients that ask for "
        "sana-streaming or reactor/sana-streaming are answered by it too: it stands in."
    ),
]
ModelOption = Annotated[
    list[str] | None, typer.Option(help="KEY=VALUE for the model; repeatable.", show_default=False)
]
GpusPerActor = Annotated[float, typer.Option(min=0, help="GPUs of each model actor.")]
Backend = Annotated[
    str, typer.Option(help="What runs the actors: ray, or in-process (no Ray needed).")
]
Policy = Annotated[str, typer.Option(help="Placement policy: pack, spread or least-loaded.")]
ReconnectWindow = Annotated[
    float, typer.Option(min=0, help="Seconds that a session is kept without a connection.")
]
Bitrate = Annotated[
    int, typer.Option(min=1, help="Bits per second of each viewer's video to begin with.")
]
EncoderThreads = Annotated[
    int, typer.Option(min=0, help="Threads of each actor that encode; 0 is one a core.")
]
Encoder = Annotated[
    Literal["auto", "software", "nvenc"],
    typer.Option(
        help="What encodes H.264: auto takes the GPU's encoder where one works, else the CPU."
    ),
]
SpareDecoders = Annotated[
    int, typer.Option(min=0, help="Decode processes that each actor keeps warm.")
]
DecodeLimit = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME=VALUE, a bound on clips and cameras, as max_duration_s=60; repeatable. "
        "docs/roles.md lists them.",
        show_default=False,
    ),
]


def split_address(address: str) -> tuple[str, int]:
    """Returns host and port of `host:port`; an IPv6 address stands in brackets.

    Raises:
        ConfigurationError: The address has another form.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found["port"]) <= MOST_PORT:
        raise ConfigurationError("an address has the form host:port")
    return found["host"].strip("[]"), int(found["port"])


def pairs(options: Sequence[str] | None, name: str) -> dict[str, str]:
    """Reads repeated `KEY=VALUE` options.

    Args:
        options: As given; None for none.
        name: The option, for the error.

    Raises:
        ConfigurationError: One has another form.
    """
    read = {}
    for option in options or ():
        key, separator, value = option.partition("=")
        if not (key and separator):
            raise ConfigurationError(f"{name} has the form NAME=VALUE")
        read[key] = value
    return read
