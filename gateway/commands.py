"""Subcommands of the gateway: `serve` (all on this machine), `serve gateway`, `plugins`."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main
from rich.console import Console
from rich.table import Table

from gateway import serving
from gateway.head_process import HeadOptions
from gateway.settings import MOST_WORKERS, GatewaySettings
from scheduler import option_values, options
from scheduler.backends.launcher import BITRATE
from scheduler.core.errors import ConfigurationError
from scheduler.options import MOST_PORT
from scheduler.process import plugins
from scheduler.process.config import describe, help_of, load_settings
from scheduler.process.role_options import HasOptions, config_option

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
JwksIssuer = Annotated[str | None, _setting("jwks.issuer", metavar="URL")]
JwksAudience = Annotated[str | None, _setting("jwks.audience", metavar="NAME[,NAME...]")]
JwksUrl = Annotated[str | None, _setting("jwks.url", metavar="URL")]
CorsOrigins = Annotated[str | None, _setting("cors_origins", metavar="ORIGIN[,ORIGIN...]")]
TurnSecret = Annotated[str | None, _setting("turn_secret", metavar="FILE")]
Recording = Annotated[bool | None, _setting("recording.enabled")]
RecordingsDir = Annotated[str | None, _setting("recording.folder", metavar="FOLDER")]
RecordingBytes = Annotated[str | None, _setting("recording.session_bytes", metavar="SIZE")]
RecordingsBytes = Annotated[str | None, _setting("recording.total_bytes", metavar="SIZE")]
RecordingsKept = Annotated[str | None, _setting("recording.kept_s", metavar="TIME")]
Otlp = Annotated[str | None, _setting("otlp_endpoint")]
TraceRatio = Annotated[float | None, _setting("trace_ratio", min=0, max=1)]
LogLevel = Annotated[str | None, _setting("log_level")]
Placement = Annotated[str | None, _setting("placement_address")]
MediaWorkers = Annotated[int | None, _setting("media_workers", min=0, max=MOST_WORKERS)]
Tls = Annotated[str | None, _setting("tls", metavar="FOLDER")]
TlsCert = Annotated[str | None, _setting("tls_cert", metavar="FILE")]
TlsKey = Annotated[str | None, _setting("tls_key", metavar="FILE")]
ClientCa = Annotated[str | None, _setting("client_ca", metavar="FILE")]
Audit = Annotated[str | None, _setting("audit_log", metavar="FILE")]
Moderation = Annotated[str | None, _setting("moderation.plugin", metavar="NAME")]
ModerationOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="An option of that plugin; repeatable."),
]
UdpPorts = Annotated[str | None, _setting("udp_ports", metavar="LOW-HIGH")]
_OWN = frozenset(
    {
        "storage_root",
        "storage",
        "storage_option",
        "tls",
        "otlp_endpoint",
        "trace_ratio",
        "log_level",
    }
)
"""Options that `serve` shares with `serve head`, and takes from the gateway's settings."""


def _head_command() -> HasOptions:
    from scheduler.commands import head

    return typer.main.get_command(head)


StorageName = Annotated[str | None, _setting("storage")]
Config = Annotated[Path | None, config_option()]
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
    quota_file: options.QuotaFile = None,
    ledger: options.Ledger = None,
    ledger_kept: options.LedgerKept = "400d",
    journal: options.Journal = False,
    journal_content: options.JournalContent = False,
    journal_bytes: options.JournalBytes = "8M",
    journal_kept: options.JournalKept = "7d",
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
    jwks_issuer: JwksIssuer = None,
    jwks_audience: JwksAudience = None,
    jwks_url: JwksUrl = None,
    cors_origins: CorsOrigins = None,
    turn_secret: TurnSecret = None,
    storage_root: Annotated[
        Path | None,
        typer.Option(help="Folder for uploads; by default a new one, removed at the end."),
    ] = None,
    storage: StorageName = None,
    storage_option: options.StorageOption = None,
    media_workers: MediaWorkers = None,
    udp_ports: UdpPorts = None,
    tls: Tls = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    client_ca: ClientCa = None,
    audit_log: Audit = None,
    moderation: Moderation = None,
    moderation_option: ModerationOption = None,
    recording: Recording = None,
    recordings_dir: RecordingsDir = None,
    recording_bytes: RecordingBytes = None,
    recordings_bytes: RecordingsBytes = None,
    recordings_kept: RecordingsKept = None,
    otlp_endpoint: Otlp = None,
    trace_ratio: TraceRatio = None,
    log_level: LogLevel = None,
    health_host: options.HealthHost = "127.0.0.1",
    health_port: options.HealthPort = None,
    config: Annotated[Path | None, config_option("head", _head_command, _OWN)] = None,
    ready_file: ReadyFile = None,
) -> None:
    """Serve a model on this machine: gateway, scheduler and model actors together.

    Ends everything it started on SIGTERM or Ctrl-C.
    """
    if context.invoked_subcommand is not None:
        return
    with contextlib.ExitStack() as stack:
        read = partial(
            _settings,
            config,
            _storage(storage_root, storage, storage_option),
            host=host,
            http_port=http_port,
            grpc_port=grpc_port,
            auth=auth,
            api_keys=api_keys,
            token_secret=token_secret,
            jwks=_jwks(jwks_issuer, jwks_audience, jwks_url),
            cors_origins=_listed(cors_origins),
            turn_secret=turn_secret,
            media_workers=media_workers,
            udp_ports=udp_ports,
            tls=tls,
            tls_cert=tls_cert,
            tls_key=tls_key,
            client_ca=client_ca,
            audit_log=audit_log,
            moderation=_moderation(moderation, moderation_option),
            recording=_recording(
                recording, recordings_dir, recording_bytes, recordings_bytes, recordings_kept
            ),
            otlp_endpoint=otlp_endpoint,
            trace_ratio=trace_ratio,
            log_level=log_level,
        )
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sana-gateway-"))

        def read_with_root() -> GatewaySettings:
            return _with_root(read(), folder)

        def head(settings: GatewaySettings) -> HeadOptions:
            return HeadOptions(
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
                    "quota_file": quota_file and quota_file.resolve(),
                    "ledger": ledger and ledger.absolute(),
                    "ledger_kept": ledger_kept,
                    "journal": journal,
                    "journal_content": journal_content,
                    "journal_bytes": journal_bytes,
                    "journal_kept": journal_kept,
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
                    "trace_ratio": settings.trace_ratio,
                    "health_host": health_host,
                    "health_port": health_port,
                },
                storage=settings.storage,
                storage_options=settings.storage_options,
                otlp_endpoint=settings.otlp_endpoint,
                log_level=settings.log_level,
            )

        asyncio.run(serving.serve_all(read_with_root, head, ready_file))


@gateway.callback()
def serve_gateway(
    placement_address: Placement = None,
    host: Host = None,
    http_port: HttpPort = None,
    grpc_port: GrpcPort = None,
    auth: Auth = None,
    api_keys: ApiKeys = None,
    token_secret: TokenSecret = None,
    jwks_issuer: JwksIssuer = None,
    jwks_audience: JwksAudience = None,
    jwks_url: JwksUrl = None,
    cors_origins: CorsOrigins = None,
    turn_secret: TurnSecret = None,
    storage_root: Annotated[
        Path | None,
        typer.Option(
            help="Folder for uploads, the same one that the model actors see. Needed, unless "
            "another storage is chosen."
        ),
    ] = None,
    storage: StorageName = None,
    storage_option: options.StorageOption = None,
    media_workers: MediaWorkers = None,
    udp_ports: UdpPorts = None,
    tls: Tls = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    client_ca: ClientCa = None,
    audit_log: Audit = None,
    moderation: Moderation = None,
    moderation_option: ModerationOption = None,
    recording: Recording = None,
    recordings_dir: RecordingsDir = None,
    recording_bytes: RecordingBytes = None,
    recordings_bytes: RecordingsBytes = None,
    recordings_kept: RecordingsKept = None,
    otlp_endpoint: Otlp = None,
    trace_ratio: TraceRatio = None,
    log_level: LogLevel = None,
    config: Config = None,
    ready_file: ReadyFile = None,
) -> None:
    """Serve the gateway role alone. Needs neither Ray nor torch."""
    read = partial(
        _settings,
        config,
        _storage(storage_root, storage, storage_option),
        placement_address=placement_address,
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        auth=auth,
        api_keys=api_keys,
        token_secret=token_secret,
        jwks=_jwks(jwks_issuer, jwks_audience, jwks_url),
        cors_origins=_listed(cors_origins),
        turn_secret=turn_secret,
        media_workers=media_workers,
        udp_ports=udp_ports,
        tls=tls,
        tls_cert=tls_cert,
        tls_key=tls_key,
        client_ca=client_ca,
        audit_log=audit_log,
        moderation=_moderation(moderation, moderation_option),
        recording=_recording(
            recording, recordings_dir, recording_bytes, recordings_bytes, recordings_kept
        ),
        otlp_endpoint=otlp_endpoint,
        trace_ratio=trace_ratio,
        log_level=log_level,
    )
    asyncio.run(serving.serve_role(read, ready_file))


@listing.callback()
def list_plugins() -> None:
    """List the installed plugins of every group; one that fails to load says why."""
    groups = ("models", "placement", "ingress", "storage", "auth", "moderation", "commands")
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
    storage: Mapping[str, object],
    **options: str | float | list[str] | Mapping[str, object] | None,
) -> GatewaySettings:
    """Builds the settings from the file, the environment and the options that were given."""
    return load_settings(GatewaySettings, file=config, overrides={**options, **storage})


def _with_root(settings: GatewaySettings, folder: str) -> GatewaySettings:
    """Gives a storage that is a folder one, where none was chosen."""
    if settings.storage != "filesystem" or "root" in settings.storage_options:
        return settings
    told = {**settings.storage_options, "root": folder}
    return settings.model_copy(update={"storage_options": told})


def _storage(
    root: Path | None, name: str | None, told: list[str] | None
) -> dict[str, str | dict[str, str]]:
    """Reads the options of the storage; nothing for those that were not given."""
    read = options.storage(root, name or "filesystem", told)
    del read["plugin"]
    return {**({"storage": name} if name else {}), **({"storage_options": read} if read else {})}


def _listed(text: str | None) -> list[str] | None:
    """Returns what is separated by commas; None for an option that was not given."""
    return None if text is None else [each for each in text.split(",") if each]


def _jwks(issuer: str | None, audience: str | None, url: str | None) -> dict[str, object]:
    """Reads the options of an identity provider; None for those that were not given."""
    return {"issuer": issuer, "audience": _listed(audience), "url": url}


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


def _moderation(plugin: str | None, given: list[str] | None) -> dict[str, object]:
    """Reads the options of moderation; None for those that were not given."""
    options = None
    if given:
        pairs = [each.partition("=") for each in given]
        if not all(name and equals for name, equals, _ in pairs):
            raise ConfigurationError("--moderation-option has the form NAME=VALUE")
        options = {name: value for name, _, value in pairs}
    return {"plugin": plugin, "options": options}
