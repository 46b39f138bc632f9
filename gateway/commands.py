"""Subcommands of the gateway: `serve` (all on this machine), `serve gateway`, `plugins`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer
from rich.console import Console
from rich.table import Table

from gateway.collecting import spare_what_is_loaded
from gateway.head_process import HeadOptions, HeadProcess
from gateway.settings import MOST_WORKERS, GatewaySettings
from scheduler import option_values, options
from scheduler.backends.launcher import BITRATE
from scheduler.options import MOST_PORT
from scheduler.process import plugins
from scheduler.process.config import describe, help_of, load_settings
from scheduler.process.logging import configure_logging
from scheduler.process.telemetry import configure_tracing, shutdown

_EXAMPLES = """Examples:

\b
  sana-gateway serve
  sana-gateway serve --model simulated --model-option chunk_ms=100 --actors 2
  sana-gateway serve --model painter=2 --model simulated=1 --park-after 5m
  sana-gateway serve --backend in-process --http-port 0 --grpc-port 0
  sana-gateway serve --media-workers 4 --udp-ports 50000-50199

Roles on machines of their own: docs/roles.md.
"""

serve = typer.Typer(
    help="Serve clients until stopped.",
    invoke_without_command=True,
    rich_markup_mode=None,
    epilog=_EXAMPLES,
)
_SIZING = """Sizing:

One process carries some forty WebRTC sessions on one core. On a machine with more cores,
--media-workers N runs N such processes behind a front door with the public ports: about one
for each core that is to carry media, and one core left for the front door. docs/roles.md
has the figures.
"""

gateway = typer.Typer(
    help="Terminate clients; the scheduler and the GPUs are elsewhere.",
    invoke_without_command=True,
    rich_markup_mode=None,
    epilog=_SIZING,
)
listing = typer.Typer(
    help="List the installed plugins.", invoke_without_command=True, rich_markup_mode=None
)


class Serving(Protocol):
    """A gateway, in one process or in many."""

    @property
    def http_url(self) -> str:
        """Where HTTP listens."""

    @property
    def grpc_address(self) -> str:
        """Where gRPC listens; empty without that wire."""

    async def start(self, placement_address: str = "") -> None:
        """Serves; what was started has ended again when this fails."""

    async def wait_serving(self) -> None:
        """Returns once there is a model to ask for."""

    async def run(self) -> None:
        """Returns never, unless something breaks; then raises what broke it."""

    async def stop(self) -> None:
        """Drains and ends everything it started."""


def _setting(key: str, **kind: Any) -> Any:  # noqa: ANN401 - typer types its options so
    """Returns the command-line option of a setting, with its docstring and its default.

    The option itself has none: one that is not given leaves the file and the environment.
    """
    default = {setting.key: setting.default for setting in describe(GatewaySettings)}[key]
    shown = f" [default: {default}]" if default else ""
    return typer.Option(help=help_of(GatewaySettings, key) + shown, show_default=False, **kind)


HttpPort = Annotated[int | None, _setting("http_port", min=0, max=MOST_PORT)]
GrpcPort = Annotated[int | None, _setting("grpc_port", min=0, max=MOST_PORT)]
Host = Annotated[str | None, _setting("host")]
Auth = Annotated[str | None, _setting("auth")]
ApiKeys = Annotated[str | None, _setting("api_keys", metavar="FILE")]
TokenSecret = Annotated[str | None, _setting("token_secret", metavar="FILE")]
Recording = Annotated[bool | None, _setting("recording.enabled")]
RecordingsDir = Annotated[str | None, _setting("recording.folder", metavar="FOLDER")]
RecordingBytes = Annotated[str | None, _setting("recording.session_bytes", metavar="SIZE")]
RecordingsBytes = Annotated[str | None, _setting("recording.total_bytes", metavar="SIZE")]
RecordingsKept = Annotated[str | None, _setting("recording.kept_s", metavar="TIME")]
Otlp = Annotated[str | None, _setting("otlp_endpoint")]
LogLevel = Annotated[str | None, _setting("log_level")]
Placement = Annotated[str | None, _setting("placement_address")]
MediaWorkers = Annotated[int | None, _setting("media_workers", min=0, max=MOST_WORKERS)]
Tls = Annotated[str | None, _setting("tls", metavar="FOLDER")]
UdpPorts = Annotated[str | None, _setting("udp_ports", metavar="LOW-HIGH")]
Config = Annotated[
    Path | None,
    typer.Option(help="TOML file of settings; docs/roles.md lists them.", dir_okay=False),
]
ReadyFile = Annotated[
    Path | None, typer.Option(help="Write the addresses here, as JSON, once serving.")
]


@serve.callback()
def serve_all(
    context: typer.Context,
    model: options.Models = options.DEFAULT_MODELS,
    model_option: options.ModelOption = None,
    weights: options.Weights = None,
    actors: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Model actors to run; by default the sum of the models' counts, or 1.",
            show_default=False,
        ),
    ] = None,
    surge: options.Surge = 0,
    gpus_per_actor: options.GpusPerActor = 0.0,
    policy: options.Policy = "pack",
    backend: options.Backend = "ray",
    ray_address: Annotated[
        str | None, typer.Option(help="Join this Ray cluster instead of starting one.")
    ] = None,
    reconnect_window: options.ReconnectWindow = "30s",
    park_after: options.ParkAfter = "60s",
    park_detached_after: options.ParkDetachedAfter = "5s",
    store_after: options.StoreAfter = "10m",
    snapshot_every: options.SnapshotEvery = 4,
    snapshot_memory: options.SnapshotMemory = "0",
    degrade: options.Degrade = False,
    tenant: options.Tenant = None,
    warm_spares: options.WarmSpares = None,
    repurpose_after: options.RepurposeAfter = "60s",
    rebalance: options.Rebalance = True,
    autoscale: options.Autoscale = "",
    bitrate: options.Bitrate = BITRATE,
    encoder_threads: options.EncoderThreads = 0,
    encoder: options.Encoder = "auto",
    spare_decoders: options.SpareDecoders = 1,
    decode_limit: options.DecodeLimit = None,
    host: Host = None,
    http_port: HttpPort = None,
    grpc_port: GrpcPort = None,
    auth: Auth = None,
    api_keys: ApiKeys = None,
    token_secret: TokenSecret = None,
    storage_root: Annotated[
        Path | None,
        typer.Option(help="Folder for uploads; by default a new one, removed at the end."),
    ] = None,
    media_workers: MediaWorkers = None,
    udp_ports: UdpPorts = None,
    tls: Tls = None,
    recording: Recording = None,
    recordings_dir: RecordingsDir = None,
    recording_bytes: RecordingBytes = None,
    recordings_bytes: RecordingsBytes = None,
    recordings_kept: RecordingsKept = None,
    otlp_endpoint: Otlp = None,
    log_level: LogLevel = None,
    config: Config = None,
    ready_file: ReadyFile = None,
) -> None:
    """Serve a model on this machine: gateway, scheduler and model actors together.

    Ends everything it started on SIGTERM or Ctrl-C.
    """
    if context.invoked_subcommand is not None:
        return
    with contextlib.ExitStack() as stack:
        root = storage_root or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="sana-gateway-"))
        )
        settings = _settings(
            config,
            root,
            host=host,
            http_port=http_port,
            grpc_port=grpc_port,
            auth=auth,
            api_keys=api_keys,
            token_secret=token_secret,
            media_workers=media_workers,
            udp_ports=udp_ports,
            tls=tls,
            recording=_recording(
                recording, recordings_dir, recording_bytes, recordings_bytes, recordings_kept
            ),
            otlp_endpoint=otlp_endpoint,
            log_level=log_level,
        )
        head = HeadOptions(
            {
                "model": model,
                "model_option": model_option,
                "weights": weights and weights.resolve(),
                "actors": actors,
                "surge": surge,
                "gpus_per_actor": gpus_per_actor,
                "policy": policy,
                "backend": backend,
                "ray_address": ray_address,
                "reconnect_window": reconnect_window,
                "park_after": park_after,
                "park_detached_after": park_detached_after,
                "store_after": store_after,
                "snapshot_every": snapshot_every,
                "snapshot_memory": snapshot_memory,
                "degrade": degrade,
                "tenant": tenant,
                "warm_spares": warm_spares,
                "repurpose_after": repurpose_after,
                "rebalance": rebalance,
                "autoscale": autoscale,
                "bitrate": bitrate,
                "encoder_threads": encoder_threads,
                "encoder": encoder,
                "spare_decoders": spare_decoders,
                "decode_limit": decode_limit,
                "tls": settings.tls,
            },
            storage_root=root,
            otlp_endpoint=settings.otlp_endpoint,
            log_level=settings.log_level,
        )
        asyncio.run(_serve_all(settings, head, ready_file))


@gateway.callback()
def serve_gateway(
    placement_address: Placement = None,
    host: Host = None,
    http_port: HttpPort = None,
    grpc_port: GrpcPort = None,
    auth: Auth = None,
    api_keys: ApiKeys = None,
    token_secret: TokenSecret = None,
    storage_root: Annotated[
        Path | None,
        typer.Option(
            help="Folder for uploads, the same one that the model actors see. Needed, unless "
            "the settings name another storage."
        ),
    ] = None,
    media_workers: MediaWorkers = None,
    udp_ports: UdpPorts = None,
    tls: Tls = None,
    recording: Recording = None,
    recordings_dir: RecordingsDir = None,
    recording_bytes: RecordingBytes = None,
    recordings_bytes: RecordingsBytes = None,
    recordings_kept: RecordingsKept = None,
    otlp_endpoint: Otlp = None,
    log_level: LogLevel = None,
    config: Config = None,
    ready_file: ReadyFile = None,
) -> None:
    """Serve the gateway role alone. Needs neither Ray nor torch."""
    settings = _settings(
        config,
        storage_root,
        placement_address=placement_address,
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        auth=auth,
        api_keys=api_keys,
        token_secret=token_secret,
        media_workers=media_workers,
        udp_ports=udp_ports,
        tls=tls,
        recording=_recording(
            recording, recordings_dir, recording_bytes, recordings_bytes, recordings_kept
        ),
        otlp_endpoint=otlp_endpoint,
        log_level=log_level,
    )
    asyncio.run(_serve_role(settings, ready_file))


@listing.callback()
def list_plugins() -> None:
    """List the installed plugins of every group; one that fails to load says why."""
    groups = ("models", "placement", "ingress", "storage", "auth", "commands")
    table = Table("group", "name", "from", "status", title="plugins")
    for group in groups:
        for status in plugins.report(f"sana_gateway.{group}"):
            info = status.plugin
            table.add_row(
                group, info.name, f"{info.distribution} {info.version}", status.error or "ok"
            )
    Console().print(table)


def _settings(
    config: Path | None,
    storage_root: Path | None,
    **options: str | int | Mapping[str, object] | None,
) -> GatewaySettings:
    """Builds the settings from the file, the environment and the options that were given."""
    storage = None if storage_root is None else {"root": str(storage_root)}
    overrides = {**options, "storage_options": storage}
    return load_settings(GatewaySettings, file=config, overrides=overrides)


def _recording(
    enabled: bool | None,
    folder: str | None,
    session_bytes: str | None,
    total_bytes: str | None,
    kept: str | None,
) -> dict[str, object]:
    """Reads the options of recordings; None for those that were not given."""
    sizes = {"--recording-bytes": session_bytes, "--recordings-bytes": total_bytes}
    session, total = (
        None if text is None else option_values.size(text, name) for name, text in sizes.items()
    )
    return {
        "enabled": enabled,
        "folder": folder,
        "session_bytes": session,
        "total_bytes": total,
        "kept_s": None if kept is None else option_values.seconds(kept, "--recordings-kept"),
    }


async def _serve_all(
    settings: GatewaySettings, head_options: HeadOptions, ready_file: Path | None
) -> None:
    stopping = _told_to_stop()
    # Its plugins are found, or missed, before anything is started.
    process = _gateway(settings)
    with Console(stderr=True).status("starting scheduler and model actors"):
        head = await _unless(stopping, HeadProcess.start(head_options))
    if head is None:
        return
    try:
        await _serve_gateway(process, ready_file, stopping, head)
    finally:
        await head.stop()


async def _serve_role(settings: GatewaySettings, ready_file: Path | None) -> None:
    stopping = _told_to_stop()
    await _serve_gateway(_gateway(settings), ready_file, stopping, None)


def _told_to_stop() -> asyncio.Event:
    """Returns what SIGTERM and Ctrl-C set from now on."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


async def _unless(
    stopping: asyncio.Event, starting: Coroutine[Any, Any, HeadProcess]
) -> HeadProcess | None:
    """Returns what was started, or None when it was given up because of a signal."""
    task, stop = asyncio.create_task(starting), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, stop):
            each.cancel()
        await asyncio.gather(task, stop, return_exceptions=True)


def _gateway(settings: GatewaySettings) -> Serving:
    configure_logging(settings.log_level, service="gateway")
    # Other roles share this command line and must not pay for WebRTC; nor must a front door,
    # which leaves calls and their traces to its workers.
    if settings.media_workers:
        from gateway.front_door.process import FrontDoor

        return FrontDoor(settings)
    from gateway.process import GatewayProcess

    configure_tracing(
        "sana-gateway", settings.otlp_endpoint or None, instance=f"gateway-{os.getpid()}"
    )
    return GatewayProcess(settings)


async def _serve_gateway(
    process: Serving,
    ready_file: Path | None,
    stopping: asyncio.Event,
    head: HeadProcess | None,
) -> None:
    await process.start("" if head is None else head.placement_address)
    spare_what_is_loaded()
    try:
        watched: list[asyncio.Task[Any]] = [
            asyncio.create_task(stopping.wait(), name="stop"),
            asyncio.create_task(process.run(), name="hub"),
            asyncio.create_task(_announce(process, ready_file), name="announce"),
        ]
        if head is not None:
            watched.append(asyncio.create_task(head.wait(), name="head"))
        try:
            await _first_to_end(watched)
        finally:
            for task in watched:
                task.cancel()
            await asyncio.gather(*watched, return_exceptions=True)
    finally:
        await process.stop()
        shutdown()


async def _first_to_end(tasks: list[asyncio.Task[Any]]) -> None:
    """Returns when one of the standing tasks ends; raises what it raised."""
    while True:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
            if task.get_name() != "announce":
                return
            tasks.remove(task)


async def _announce(process: Serving, ready_file: Path | None) -> None:
    """Says where to reach the service, once a model is served."""
    console = Console(stderr=True)
    with console.status("waiting for a model"):
        await process.wait_serving()
    console.print(
        f"[bold green]serving[/]  HTTP {process.http_url}   gRPC {process.grpc_address}   "
        "(Ctrl-C ends it)"
    )
    if ready_file is not None:
        addresses = {"http": process.http_url, "grpc": process.grpc_address, "pid": os.getpid()}
        await asyncio.to_thread(ready_file.write_text, json.dumps(addresses) + "\n")
