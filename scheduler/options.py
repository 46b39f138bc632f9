"""Command-line options that `serve` shares with `serve head`, to which it passes them on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from scheduler.core.errors import ConfigurationError
from scheduler.process.tls import FOLDER

MOST_PORT = 65535
_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5})")

DEFAULT_MODELS = ["painter"]

Models = Annotated[
    list[str],
    typer.Option(
        metavar="NAME[=COUNT]",
        help="Model plugin to serve; `sana-gateway plugins` lists them. Clients that ask for "
        "sana-streaming or reactor/sana-streaming are answered by it too: it stands in. "
        "Repeatable: several models share the pool, COUNT actors of each to begin with; the "
        "first has the rest. Idle actors change their model as clients ask (--repurpose-after).",
    ),
]
ModelOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[MODEL:]KEY=VALUE",
        help="Option of a model, by default of the first; repeatable.",
        show_default=False,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Weights of the first model: short for --model-option weights=FOLDER.",
        show_default=False,
    ),
]
Actors = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Model actors on this machine; 0 leaves them to others. By default the sum of the "
        "models' counts, or 1.",
        show_default=False,
    ),
]
HealthPort = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=MOST_PORT,
        help="Port of /livez, /readyz, /startupz and /metrics of the scheduler and the model "
        "actors on this machine; 0 takes a free one. By default there is none.",
        show_default=False,
    ),
]
HealthHost = Annotated[
    str, typer.Option(help="Address that --health-port listens on; 0.0.0.0 for all.")
]
TraceRatio = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="Share of the traces begun here that is recorded, 0 to 1. Those begun by clients "
        "follow their decision.",
    ),
]
Surge = Annotated[
    int,
    typer.Option(
        min=0,
        help="More actors for as long as others are being drained: a successor comes before one "
        "goes. Needs the memory, and with --gpus-per-actor the GPUs, for all of them.",
    ),
]
GpusPerActor = Annotated[float, typer.Option(min=0, help="GPUs of each model actor.")]
StorageName = Annotated[
    str,
    typer.Option(
        help="Storage plugin for uploads, the same for all roles: filesystem, which all mount, or "
        "s3 (docs/storage.md)."
    ),
]
StorageOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="Option of the storage, as bucket=clips; repeatable.",
        show_default=False,
    ),
]
Backend = Annotated[
    str, typer.Option(help="What runs the actors: ray, or in-process (no Ray needed).")
]
Policy = Annotated[str, typer.Option(help="Placement policy: pack, spread or least-loaded.")]
ReconnectWindow = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        help="How long a session is kept without a connection: 30s, 5m, 2d. It costs a GPU "
        "nothing once it is parked.",
    ),
]
ParkAfter = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        help="A session that was paused, or has nothing to do, for so long leaves its GPU: its "
        "state is kept, and it goes on wherever there is room as soon as somebody needs it. "
        "`never` keeps it there.",
    ),
]
ParkDetachedAfter = Annotated[
    str,
    typer.Option(
        metavar="TIME", help="The same for a session without a connection, whatever it does."
    ),
]
StoreAfter = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        help="What a machine's memory keeps of a parked session goes to the storage when it has "
        "been there for so long, at least 1s: the memory is free again, and the machine may "
        "fail. `never`: it stays.",
    ),
]
SnapshotEvery = Annotated[
    int,
    typer.Option(
        min=1,
        help="Windows (about a second each) after which the state of a running session is kept "
        "anew. When an actor dies, up to so many are computed again: fewer make the gap shorter "
        "and cost copying.",
    ),
]
SnapshotMemory = Annotated[
    str,
    typer.Option(
        metavar="SIZE",
        help="Memory of each machine for kept states, as 512M or 8G; past it the oldest of "
        "sessions that run elsewhere go first. 0: as much as /dev/shm takes.",
    ),
]
Degrade = Annotated[
    bool,
    typer.Option(
        help="Let sessions run at fewer frames a second, where the model allows it, rather than "
        "wait. Clients see it in the state."
    ),
]
Tenant = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME:KEY=VALUE,...",
        help="What a tenant is entitled to: weight (its share when places are short, 1), max "
        "(sessions at once), queued (sessions that may wait), priority (higher ones first, 0), and "
        "quotas: max_session_duration, sessions_per_minute, streamed_per_day, streamed_per_month, "
        "uploads_per_session, uploads_per_day, stored (docs/limits.md), as "
        "acme:weight=2,max=10,streamed_per_day=20h. Repeatable; the name * stands for all others.",
        show_default=False,
    ),
]
QuotaFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        dir_okay=False,
        show_default=False,
        help="Keep here what quotas of days and months have counted, so that a restart of the "
        "scheduler does not lift them. Without it they are counted from nothing.",
    ),
]
Ledger = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        file_okay=False,
        show_default=False,
        help="Keep the ledger of usage here: what every session and tenant has used "
        "(docs/metering.md). By default in the folder of uploads, with which it goes where that "
        "is a temporary one.",
    ),
]
LedgerKept = Annotated[
    str, typer.Option(metavar="TIME", help="How long the ledger of usage remembers.")
]
Journal = Annotated[
    bool,
    typer.Option(
        "--journal/--no-journal",
        help="Keep a journal of every session, from which `sana-gateway replay` makes its video "
        "again (docs/replay.md): hashes of prompts and pictures, nothing of the content.",
    ),
]
JournalContent = Annotated[
    bool,
    typer.Option(
        "--journal-content/--no-journal-content",
        help="Keep prompts and reference pictures in all journals. A client can ask for it for "
        "one session.",
    ),
]
JournalBytes = Annotated[
    str, typer.Option(metavar="SIZE", help="Most bytes of one session's journal, as 8M.")
]
JournalKept = Annotated[
    str, typer.Option(metavar="TIME", help="How long journals are kept, in whole days.")
]
WarmSpares = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[MODEL=]COUNT",
        help="Idle actors of a model that are not given to another one, by default 1. "
        "Repeatable; without a name, of every model.",
        show_default=False,
    ),
]
RepurposeAfter = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        help="How long clients of a model must have waited for an actor, and an actor of "
        "another model been idle, before it changes its model. `never`: none does.",
    ),
]
Rebalance = Annotated[
    bool, typer.Option(help="Move sessions from crowded actors to empty ones as they go.")
]
Autoscale = Annotated[
    str,
    typer.Option(
        metavar="LEAST-MOST[,TIME]",
        help="Ask the cluster's autoscaler for nodes as the demand grows, within these numbers "
        "of actors, and give them back, drained, when it has been less for TIME (5m). For a "
        "Ray cluster with an autoscaler (--ray-address); by default the cluster stays as it is.",
        show_default=False,
    ),
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
Tls = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        envvar=FOLDER,
        show_envvar=True,
        show_default=False,
        help="Folder with ca.crt, tls.crt and tls.key, which `sana-gateway certs FOLDER` makes: "
        "scheduler, actors and gateways then speak mutual TLS over TCP, and hear nobody without "
        "a certificate of the same authority. Name it to every role, or to none. Without it keep "
        "their ports in a private network.",
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


def storage(root: Path | None, name: str, told: Sequence[str] | None) -> dict[str, str]:
    """Reads the options of the storage.

    Args:
        root: Its folder, where it is one.
        name: The plugin.
        told: Its options, `KEY=VALUE`.

    Returns:
        The plugin under `plugin`, and its options.

    Raises:
        ConfigurationError: An option has another form, or a folder is given to what has none.
    """
    if root is not None and name != "filesystem":
        raise ConfigurationError(f"--storage-root is for --storage filesystem, not {name}")
    folder = {} if root is None else {"root": str(root)}
    return {"plugin": name, **folder, **pairs(told, "--storage-option")}
