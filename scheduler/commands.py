"""Subcommands of the scheduler's side: `serve head` and `serve actor`."""

from __future__ import annotations

import contextlib
import hmac
import importlib.util
import json
import os
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import structlog
import typer

from scheduler import option_values as values
from scheduler import options
from scheduler.backends.inprocess import LocalScheduler
from scheduler.backends.kept_states import KeptStates
from scheduler.backends.launcher import BITRATE, PREFLIGHT, ActorSpec, resolve
from scheduler.backends.ray_node import (
    ACTOR_TITLE,
    LOOPBACK,
    NodeSettings,
    RayNode,
    RayNodeError,
)
from scheduler.core.errors import ConfigurationError, PluginError
from scheduler.core.ids import ActorId
from scheduler.core.pool_events import PoolRules
from scheduler.process import plugins
from scheduler.process.logging import Level, configure_logging
from scheduler.process.role_options import config_option
from scheduler.process.telemetry import configure_tracing, shutdown
from scheduler.process.tls import FOLDER as TLS_FOLDER
from scheduler.process.tls import Wires
from scheduler.runtime import SchedulerSettings
from scheduler.scaling import ScalingRules
from scheduler.supervision import SupervisionRules

if TYPE_CHECKING:
    from scheduler.health_listener import HealthListener

log = structlog.get_logger(__name__)

head = typer.Typer(
    help="Run the scheduler and its model actors.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
actor = typer.Typer(
    help="Add this machine's GPUs to a pool: a Ray node with room for model actors.",
    invoke_without_command=True,
    rich_markup_mode=None,
)

LOCAL = "127.0.0.1"
LEDGER = ".usage"
"""Folder of the ledger among the uploads; a name that no storage takes for one of its own."""
_WATCH_S = 0.5
"""How often heads and actors look whether their Ray node still runs."""
_HOUR_S, _DAY_S = 3600.0, 24 * 3600.0
_REJOIN_S = 5.0
"""Patience with a head that is away, and the pause after it."""
_CLUSTER_TOKEN = "RAY_AUTH_TOKEN"  # noqa: S105 - a name
_TOKEN_HELP = "Secret shared by all nodes; also read from RAY_AUTH_TOKEN."  # noqa: S105 - no secret


class _Running(Protocol):
    """What `serve head` ends."""

    def is_running(self) -> bool:
        """Tells whether what it stands on still runs."""

    def stop(self) -> None:
        """Ends it."""


@head.callback()
def serve_head(
    model: options.Models = options.DEFAULT_MODELS,
    model_option: options.ModelOption = None,
    weights: options.Weights = None,
    actors: options.Actors = None,
    surge: options.Surge = 0,
    gpus_per_actor: options.GpusPerActor = 0.0,
    backend: options.Backend = "ray",
    placement_host: Annotated[
        str, typer.Option(help="Address that gateways and actors reach the scheduler at.")
    ] = LOCAL,
    placement_port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, help="Its port; 0 serves this machine alone, over a unix socket."
        ),
    ] = 50061,
    placement_listen: Annotated[
        str,
        typer.Option(
            help="Address that the scheduler listens at, where --placement-host is a name of it "
            "(Kubernetes: 0.0.0.0)."
        ),
    ] = "",
    ray_address: Annotated[
        str, typer.Option(help="host:port of a running Ray head here; default: start one.")
    ] = "",
    ray_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the Ray head; 0 takes a free one.")
    ] = 0,
    node_ip: Annotated[
        str, typer.Option(help="Address under which other machines reach this one.")
    ] = "",
    storage_root: Annotated[
        Path | None, typer.Option(help="Folder for uploads, shared with the gateways.")
    ] = None,
    storage: options.StorageName = "filesystem",
    storage_option: options.StorageOption = None,
    otlp_endpoint: Annotated[
        str, typer.Option(help="Where traces go: host:port of OTLP/gRPC.")
    ] = "",
    log_level: Annotated[Level, typer.Option(help="Least severe level that is logged.")] = "info",
    trace_ratio: options.TraceRatio = 1.0,
    health_host: options.HealthHost = LOCAL,
    health_port: options.HealthPort = None,
    actor_log: Annotated[
        Path | None,
        typer.Option(
            help="File, on each machine, that the scheduler and the actors there add their log "
            "to; in a container /proc/1/fd/2 is what it prints. By default Ray's own files.",
            show_default=False,
        ),
    ] = None,
    policy: options.Policy = "pack",
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
    tls: options.Tls = None,
    config: Annotated[Path | None, config_option("head")] = None,  # noqa: ARG001 - its callback
    announce_fd: Annotated[
        int,
        typer.Option(
            hidden=True, help="Write the addresses as JSON to this descriptor once serving."
        ),
    ] = -1,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write the addresses here, as JSON, once serving.")
    ] = None,
    end_with_stdin: Annotated[
        bool,
        typer.Option("--end-with-stdin", hidden=True, help="End when standard input is closed."),
    ] = False,
) -> None:
    """Run the scheduler, and model actors on this machine, until stopped."""
    configure_logging(log_level, service="head")
    _give_up_when_told()
    wishes = values.counts(model, "--model")
    models = tuple(wishes)
    told = values.model_options(values.with_weights(model_option, weights), models)
    named, anybody = values.tenants(tenant)
    scaling = _scaling(autoscale)
    rules = PoolRules(
        reconnect_window=values.seconds(reconnect_window, "--reconnect-window"),
        park_after=values.patience(park_after, "--park-after"),
        park_detached_after=values.seconds(park_detached_after, "--park-detached-after"),
        tenants=named,
        default_tenant=anybody,
        degrade=degrade,
        models=models,
        warm_spares=values.spares(warm_spares, models),
        repurpose_after=values.patience(repurpose_after, "--repurpose-after"),
        rebalance=rebalance,
        on_demand=scaling is not None and scaling.least == 0,
    )
    stored_after = values.patience(store_after, "--store-after")
    if stored_after is not None and stored_after < 1.0:
        raise ConfigurationError("--store-after is at least 1s")
    if actors is None:
        actors = sum(wishes.values()) or 1
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sana-")))
        local = placement_port == 0
        placement = f"unix:{folder}/placement" if local else f"{placement_host}:{placement_port}"
        secret = _lease_secret(os.environ.get(_CLUSTER_TOKEN, ""))
        identity = _identity(tls)
        listen = placement if local else f"{placement_listen or placement_host}:{placement_port}"
        stored = options.storage(storage_root, storage, storage_option)
        if storage == "filesystem":
            stored.setdefault("root", str(folder / "storage"))
        scheduler = SchedulerSettings(
            address=listen,
            lease_secret=secret,
            policy=policy,
            rules=rules,
            supervision=SupervisionRules(wishes=wishes, scaling=scaling),
            quota_file="" if quota_file is None else str(quota_file.resolve()),
            ledger=str((ledger or Path(stored.get("root", folder)) / LEDGER).absolute()),
            ledger_kept_s=values.seconds(ledger_kept, "--ledger-kept"),
            tls=identity,
        )
        kept = KeptStates() if backend == "in-process" else None
        if kept is not None:
            stack.callback(kept.remove)
        listener = _health(stack, health_host, health_port, actors=actors)
        first = ActorSpec(
            model=models[0],
            placement_address=placement,
            lease_secret=secret,
            listen=_data_plane(backend, node_ip, folder if local else None),
            model_options=told[models[0]],
            storage=stored,
            otlp_endpoint=otlp_endpoint or None,
            trace_ratio=trace_ratio,
            log=_actor_log(log_level, actor_log, local=local),
            bitrate=bitrate,
            encoder_threads=encoder_threads,
            encoder=encoder,
            spare_decoders=spare_decoders,
            decode_limits=options.pairs(decode_limit, "--decode-limit"),
            snapshot_every=snapshot_every,
            snapshot_root=str(kept.path) if kept is not None else "",
            snapshot_bytes=values.size(snapshot_memory, "--snapshot-memory"),
            store_after_s=stored_after,
            kept_for_s=_kept_for(rules.reconnect_window, stored_after),
            journal=_journal(
                journal or journal_content, journal_content, journal_bytes, journal_kept
            ),
            tls=identity,
        )
        specs = tuple(replace(first, model=name, model_options=told[name]) for name in models)
        _preflight(backend, policy, specs, actors)
        if backend == "in-process":
            endpoint, instance = otlp_endpoint or None, str(os.getpid())
            configure_tracing(
                "sana-gateway-head", endpoint, instance=instance, sample_ratio=trace_ratio
            )
            running, addresses = _in_process(scheduler, specs, actors)
        else:
            node = NodeSettings(
                actors=actors,
                surge=surge,
                port=ray_port,
                node_ip=node_ip or LOOPBACK,
                env={TLS_FOLDER: identity},
            )
            running, addresses = _ray(scheduler, specs, gpus_per_actor, ray_address, node)
        try:
            if listener is not None:
                listener.serves(running.is_running)
                addresses["health"] = listener.url
            _announce(addresses, announce_fd, ready_file)
            _wait_for_the_end(running, end_with_stdin=end_with_stdin)
        finally:
            if listener is not None:
                listener.draining = True
            running.stop()
            shutdown()


def _journal(kept: bool, content: bool, most: str, kept_for: str) -> dict[str, object]:
    """Returns what actors are told of journals; nothing where none are kept.

    Raises:
        ConfigurationError: A size or a time has another form.
    """
    if not kept:
        return {}
    return {
        "content": content,
        "session_bytes": values.size(most, "--journal-bytes"),
        "kept_s": values.seconds(kept_for, "--journal-kept"),
    }


def _health(
    stack: contextlib.ExitStack, host: str, port: int | None, *, actors: int | None = None
) -> HealthListener | None:
    """Listens for probes, where a port is given.

    Args:
        stack: Ends it.
        host: Where.
        port: Its port; None: it does not listen.
        actors: Of a head: how many model actors run on its machine; None: it is no head.
    """
    if port is None:
        return None
    # What it listens with takes a while to import, and others stream on this machine.
    from scheduler.health_listener import ACTOR, SCHEDULER, HealthListener

    needs = [ACTOR] if actors is None else [SCHEDULER, *([ACTOR] if actors else [])]
    role = "node" if actors is None else "head"
    listener = HealthListener(host, port, role=role, needs=needs)
    stack.callback(listener.stop)
    return listener


def _lease_secret(cluster_token: str) -> str:
    """Returns what lease tokens are signed with.

    Actors outlive their head for a while: the next head of the same cluster signs alike.
    """
    if not cluster_token:
        return secrets.token_hex(32)
    return hmac.new(cluster_token.encode(), b"sana-gateway leases", "sha256").hexdigest()


def _kept_for(reconnect_window: float, store_after: float | None) -> float:
    """Returns how long what is kept of a session outlives the last word of it.

    Longer than a client may take to come back, also where the scheduler has begun anew
    meanwhile and knows nothing of it; and than the host's memory is to hold it.
    """
    return max(_DAY_S, reconnect_window + _HOUR_S, 3 * (store_after or 0.0))


def _identity(folder: Path | None) -> str:
    """Returns the folder as processes with other working directories find it; empty if none.

    Raises:
        ConfigurationError: It cannot be used.
    """
    if folder is None:
        return ""
    Wires(folder)
    return str(folder.absolute())


def _scaling(autoscale: str) -> ScalingRules | None:
    if not autoscale:
        return None
    bounds, _, shrink_after = autoscale.partition(",")
    least, most = values.span(bounds, "--autoscale")
    rules = ScalingRules(least=least, most=most)
    if not shrink_after:
        return rules
    return replace(rules, shrink_after=values.seconds(shrink_after, "--autoscale"))


@actor.callback()
def serve_actor(
    join: Annotated[str, typer.Option(help="host:port of the Ray head to join.")],
    actors: Annotated[int, typer.Option(min=1, help="Model actors there is room for.")] = 1,
    surge: options.Surge = 0,
    node_ip: Annotated[
        str, typer.Option(help="Address under which other machines reach this one.")
    ] = "",
    token: Annotated[str, typer.Option(envvar="RAY_AUTH_TOKEN", help=_TOKEN_HELP)] = "",
    join_timeout: Annotated[
        float, typer.Option(min=0, help="Seconds in which the head must answer.")
    ] = 20.0,
    drain_grace: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="When told to end (SIGTERM), how long the sessions here get to move to other "
            "machines. Those that find no room are parked 20 s before the end, and are the "
            "first in line. A second signal ends it at once.",
        ),
    ] = "60s",
    tls: options.Tls = None,
    health_host: options.HealthHost = LOCAL,
    health_port: options.HealthPort = None,
    config: Annotated[Path | None, config_option("actor")] = None,  # noqa: ARG001 - its callback
    ready_file: Annotated[
        Path | None, typer.Option(help="Write the head's address here, as JSON, once joined.")
    ] = None,
) -> None:
    """Join a pool until stopped. The scheduler starts the model actors."""
    _need_ray()
    grace = values.seconds(drain_grace, "--drain-grace")
    from scheduler.backends.ray import await_head, start_worker

    configure_logging("info", service="actor")
    settings = NodeSettings(
        actors=actors,
        surge=surge,
        head_address=join,
        node_ip=node_ip or LOOPBACK,
        auth_token=token,
        env={TLS_FOLDER: _identity(tls)},
    )
    _give_up_when_told()
    log.info("actor.joining", head=join)
    await_head(join, join_timeout)
    with contextlib.ExitStack() as stack:
        listener = _health(stack, health_host, health_port)
        node = start_worker(settings)
        addresses = {"joined": join}
        if listener is not None:
            listener.serves(lambda: node.is_running())
            addresses["health"] = listener.url
        _announce(addresses, -1, ready_file)
        while _lost(node):
            # The cluster gave this machine up, or began anew: what ran here has ended.
            node.stop()
            node = _rejoined(settings)
        if listener is not None:
            listener.draining = True
        try:
            _give_up_when_told()
            log.info("actor.draining", grace_s=grace)
            node.drain(grace, ACTOR_TITLE)
        finally:
            node.stop()


def _lost(node: RayNode) -> bool:
    """Waits until this process is told to end, or its node ends by itself.

    Returns:
        Whether it was the node.
    """
    over = _told_to_end()
    while not over.wait(_WATCH_S):
        if not node.is_running():
            log.warning("actor.lost_its_cluster")
            return True
    return False


def _rejoined(settings: NodeSettings) -> RayNode:
    """Joins a cluster again, however long its head takes to be there."""
    from scheduler.backends.ray import await_head, start_worker

    _give_up_when_told()
    while True:
        try:
            await_head(settings.head_address, _REJOIN_S)
            node = start_worker(settings)
        except RayNodeError as error:
            log.warning("actor.cannot_rejoin", error=str(error))
            time.sleep(_REJOIN_S)
        else:
            log.info("actor.rejoined")
            return node


def _announce(addresses: dict[str, str], descriptor: int, file: Path | None) -> None:
    line = json.dumps(addresses) + "\n"
    if descriptor >= 0:
        with os.fdopen(descriptor, "w") as pipe:
            pipe.write(line)
    if file is not None:
        file.write_text(line)


def _actor_log(level: Level, file: Path | None, *, local: bool) -> dict[str, object]:
    """Sends the log of actors on this machine to where this process logs, not to Ray's files.

    Actors elsewhere have no such file; a file that is named is one of each machine's own.
    """
    here = Path(f"/proc/{os.getpid()}/fd/2")
    chosen = file or (here if local and here.exists() else None)
    return {"level": level, "json": True, **({"path": str(chosen)} if chosen else {})}


def _data_plane(backend: str, node_ip: str, folder: Path | None) -> str:
    """Returns where actors listen; with a folder, on this machine alone."""
    if folder is not None:
        return f"unix:{folder}/{{actor_id}}"
    # Ray may put an actor on another machine, under whose address gateways then reach it.
    return "{node_ip}:0" if backend == "ray" else f"{node_ip or LOCAL}:0"


def _preflight(backend: str, policy: str, specs: Sequence[ActorSpec], actors: int) -> None:
    """Refuses what could not start, before anything is started.

    Raises:
        ConfigurationError: A setting makes no sense, or Ray is missing.
        PluginError: The policy or the model is missing or broken, or the model refuses its
            options.
    """
    if backend not in {"ray", "in-process"}:
        raise ConfigurationError("the backend is ray or in-process")
    if backend == "ray":
        _need_ray(", or choose --backend in-process")
    plugins.load("sana_gateway.placement", policy)
    for spec in specs:
        try:
            resolve(PREFLIGHT)(spec.for_actor(ActorId("")))
        except PluginError as error:
            if actors > 0:
                raise
            # The machines that the actors run on may have what this one lacks.
            log.warning("model.not_usable_here", error=str(error))


def _need_ray(instead: str = "") -> None:
    if importlib.util.find_spec("ray") is None:
        raise ConfigurationError(f"Ray is not installed: pip install 'sana-gateway[ray]'{instead}")


def _in_process(
    scheduler: SchedulerSettings, specs: tuple[ActorSpec, ...], actors: int
) -> tuple[_Running, dict[str, str]]:
    sys.setswitchinterval(0.0005)
    local = LocalScheduler(scheduler, specs, actors=actors)
    return local, {"placement": local.start()}


def _ray(
    scheduler: SchedulerSettings,
    specs: tuple[ActorSpec, ...],
    gpus_per_actor: float,
    ray_address: str,
    node: NodeSettings,
) -> tuple[_Running, dict[str, str]]:
    from scheduler.backends.ray import HeadSettings, start_head

    settings = HeadSettings(
        scheduler=scheduler,
        actors=specs,
        node=node,
        ray_address=ray_address,
        gpus_per_actor=gpus_per_actor,
        otlp_endpoint=specs[0].otlp_endpoint,
        trace_ratio=specs[0].trace_ratio,
        log=specs[0].log,
    )
    running = start_head(settings)
    addresses = {"placement": running.address}
    if running.node is not None:
        addresses["ray"] = running.node.address
    return running, addresses


def _give_up_when_told() -> None:
    """Lets SIGTERM end a start in order: what was begun is ended on the way out."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _told_to_end() -> threading.Event:
    """Returns what SIGTERM and SIGINT set from now on."""
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    return over


def _wait_for_the_end(running: _Running, *, end_with_stdin: bool) -> None:
    """Returns on SIGTERM, SIGINT, or the end of standard input.

    Raises:
        RayNodeError: The head's own node ended by itself.
    """
    over = _told_to_end()
    if end_with_stdin:
        threading.Thread(target=_drain, args=(over,), daemon=True).start()
    while not over.wait(_WATCH_S):
        if not running.is_running():
            raise RayNodeError("the head's Ray node has ended: start the head again")


def _drain(over: threading.Event) -> None:
    # Not through sys.stdin, whose lock this thread would hold when the interpreter ends.
    while os.read(0, 4096):
        pass
    over.set()
