"""Subcommands of the scheduler's side: `serve head` and `serve actor`."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Annotated, Protocol

import structlog
import typer

from scheduler import options
from scheduler.backends.inprocess import LocalScheduler
from scheduler.backends.launcher import BITRATE, PREFLIGHT, ActorSpec, resolve
from scheduler.core.errors import ConfigurationError, PluginError
from scheduler.core.ids import ActorId
from scheduler.core.pool_events import PoolRules
from scheduler.process import plugins
from scheduler.process.logging import Level, configure_logging
from scheduler.process.telemetry import configure_tracing, shutdown
from scheduler.runtime import SchedulerSettings

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
_TOKEN_HELP = "Secret shared by all nodes; also read from RAY_AUTH_TOKEN."  # noqa: S105 - no secret


class _Running(Protocol):
    """What `serve head` ends."""

    def stop(self) -> None:
        """Ends it."""


@head.callback()
def serve_head(
    model: options.Model = "painter",
    model_option: options.ModelOption = None,
    actors: Annotated[
        int, typer.Option(min=0, help="Model actors on this machine; 0 leaves them to others.")
    ] = 1,
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
    otlp_endpoint: Annotated[
        str, typer.Option(help="Where traces go: host:port of OTLP/gRPC.")
    ] = "",
    log_level: Annotated[Level, typer.Option(help="Least severe level that is logged.")] = "info",
    policy: options.Policy = "pack",
    reconnect_window: options.ReconnectWindow = options.RECONNECT_WINDOW_S,
    bitrate: options.Bitrate = BITRATE,
    encoder_threads: options.EncoderThreads = 0,
    encoder: options.Encoder = "auto",
    spare_decoders: options.SpareDecoders = 1,
    decode_limit: options.DecodeLimit = None,
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
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sana-")))
        local = placement_port == 0
        placement = f"unix:{folder}/placement" if local else f"{placement_host}:{placement_port}"
        secret = secrets.token_hex(32)
        scheduler = SchedulerSettings(
            address=placement,
            lease_secret=secret,
            policy=policy,
            rules=PoolRules(reconnect_window=reconnect_window),
        )
        spec = ActorSpec(
            model=model,
            placement_address=placement,
            lease_secret=secret,
            listen=_data_plane(backend, node_ip, folder if local else None),
            model_options=options.pairs(model_option, "--model-option"),
            storage={"plugin": "filesystem", "root": str(storage_root or folder / "storage")},
            otlp_endpoint=otlp_endpoint or None,
            log=_actor_log(log_level, local=local),
            bitrate=bitrate,
            encoder_threads=encoder_threads,
            encoder=encoder,
            spare_decoders=spare_decoders,
            decode_limits=options.pairs(decode_limit, "--decode-limit"),
        )
        _preflight(backend, policy, spec, actors)
        if backend == "in-process":
            configure_tracing("sana-gateway-head", otlp_endpoint or None, instance=str(os.getpid()))
            running, addresses = _in_process(scheduler, spec, actors)
        else:
            running, addresses = _ray(
                scheduler, spec, actors, gpus_per_actor, ray_address, ray_port, node_ip
            )
        try:
            _announce(addresses, announce_fd, ready_file)
            _wait_for_the_end(end_with_stdin=end_with_stdin)
        finally:
            running.stop()
            shutdown()


@actor.callback()
def serve_actor(
    join: Annotated[str, typer.Option(help="host:port of the Ray head to join.")],
    actors: Annotated[int, typer.Option(min=1, help="Model actors there is room for.")] = 1,
    node_ip: Annotated[
        str, typer.Option(help="Address under which other machines reach this one.")
    ] = "",
    token: Annotated[str, typer.Option(envvar="RAY_AUTH_TOKEN", help=_TOKEN_HELP)] = "",
    join_timeout: Annotated[
        float, typer.Option(min=0, help="Seconds in which the head must answer.")
    ] = 20.0,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write the head's address here, as JSON, once joined.")
    ] = None,
) -> None:
    """Join a pool until stopped. The scheduler starts the model actors."""
    _need_ray()
    from scheduler.backends.ray import await_head, start_worker
    from scheduler.backends.ray_node import LOOPBACK, NodeSettings

    configure_logging("info", service="actor")
    _give_up_when_told()
    log.info("actor.joining", head=join)
    await_head(join, join_timeout)
    node = start_worker(
        NodeSettings(
            actors=actors, head_address=join, node_ip=node_ip or LOOPBACK, auth_token=token
        )
    )
    try:
        _announce({"joined": join}, -1, ready_file)
        _wait_for_the_end(end_with_stdin=False)
    finally:
        node.stop()


def _announce(addresses: dict[str, str], descriptor: int, file: Path | None) -> None:
    line = json.dumps(addresses) + "\n"
    if descriptor >= 0:
        with os.fdopen(descriptor, "w") as pipe:
            pipe.write(line)
    if file is not None:
        file.write_text(line)


def _actor_log(level: Level, *, local: bool) -> dict[str, object]:
    """Sends the log of actors on this machine to where this process logs, not to Ray's files."""
    here = Path(f"/proc/{os.getpid()}/fd/2")
    path = {"path": str(here)} if local and here.exists() else {}
    return {"level": level, "json": True, **path}


def _data_plane(backend: str, node_ip: str, folder: Path | None) -> str:
    """Returns where actors listen; with a folder, on this machine alone."""
    if folder is not None:
        return f"unix:{folder}/{{actor_id}}"
    # Ray may put an actor on another machine, under whose address gateways then reach it.
    return "{node_ip}:0" if backend == "ray" else f"{node_ip or LOCAL}:0"


def _preflight(backend: str, policy: str, spec: ActorSpec, actors: int) -> None:
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
    scheduler: SchedulerSettings, spec: ActorSpec, actors: int
) -> tuple[_Running, dict[str, str]]:
    sys.setswitchinterval(0.0005)
    local = LocalScheduler(scheduler, spec, actors=actors)
    return local, {"placement": local.start()}


def _ray(
    scheduler: SchedulerSettings,
    spec: ActorSpec,
    actors: int,
    gpus_per_actor: float,
    ray_address: str,
    ray_port: int,
    node_ip: str,
) -> tuple[_Running, dict[str, str]]:
    from scheduler.backends.ray import HeadSettings, start_head
    from scheduler.backends.ray_node import LOOPBACK, NodeSettings

    settings = HeadSettings(
        scheduler=scheduler,
        actor=spec,
        node=NodeSettings(actors=actors, port=ray_port, node_ip=node_ip or LOOPBACK),
        ray_address=ray_address,
        gpus_per_actor=gpus_per_actor,
        otlp_endpoint=spec.otlp_endpoint,
        log=spec.log,
    )
    running = start_head(settings)
    addresses = {"placement": running.address}
    if running.node is not None:
        addresses["ray"] = running.node.address
    return running, addresses


def _give_up_when_told() -> None:
    """Lets SIGTERM end a start in order: what was begun is ended on the way out."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def _wait_for_the_end(*, end_with_stdin: bool) -> None:
    """Returns on SIGTERM, SIGINT, or the end of standard input."""
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    if end_with_stdin:
        threading.Thread(target=_drain, args=(over,), daemon=True).start()
    over.wait()


def _drain(over: threading.Event) -> None:
    # Not through sys.stdin, whose lock this thread would hold when the interpreter ends.
    while os.read(0, 4096):
        pass
    over.set()
