"""`sana-gateway actors`: the operators' view of the pool, and how to empty a part of it."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

import typer
from google.protobuf import duration_pb2, json_format
from rich.console import Console
from rich.table import Table

from gateway.calling import (
    ANSWER_S,
    HERE,
    INTERRUPTED,
    Address,
    Ca,
    Tls,
    Token,
    asking,
    metadata,
)
from gateway.tables import show
from sana_gateway.v1 import pool_pb2, pool_pb2_grpc
from scheduler import option_values as values

NOT_DRAINED: Final = 1
"""Exit status of a drain that somebody else cancelled, or whose actor was lost."""
_MIB: Final = 2**20

actors = typer.Typer(
    help="List the model actors of a running service, or empty one.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@actors.command("ls")
def list_actors(
    address: Address = HERE,
    token: Token = "",
    tls: Tls = False,
    ca: Ca = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the whole pool as JSON instead.")
    ] = False,
) -> None:
    """List the actors: their model, their state, and what is booked on them."""
    with asking(pool_pb2_grpc.PoolServiceStub, address, tls=tls, ca=ca) as stub:
        pool = stub.DescribePool(
            pool_pb2.DescribePoolRequest(), metadata=metadata(token), timeout=ANSWER_S
        )
    if as_json:
        shown = json_format.MessageToDict(
            pool, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        typer.echo(json.dumps(shown))
        return
    show(_table(pool))
    typer.echo(_summary(pool))


@actors.command("drain")
def drain_actor(
    actor: Annotated[str, typer.Argument(metavar="ID", help="Which; `actors ls` lists them.")],
    grace: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Its process ends after this time come what may: sessions that found no room "
            "are parked 20 s earlier and are first in line. By default they stay until there is "
            "room.",
        ),
    ] = "",
    cancel: Annotated[
        bool, typer.Option("--cancel", help="End a drain under way: it takes sessions again.")
    ] = False,
    address: Address = HERE,
    token: Token = "",
    tls: Tls = False,
    ca: Ca = None,
) -> None:
    """Move all sessions off an actor without a lost frame, then end it.

    Shows how far it has come, and ends with 0 when the actor is empty (or, with --cancel, the
    drain is), 1 when somebody else cancelled it or the actor died, 2 when it was refused.
    Leaving with Ctrl-C does not end the drain.
    """
    request = pool_pb2.DrainActorRequest(actor_id=actor, cancel=cancel)
    if grace:
        microseconds = round(values.seconds(grace, "--grace") * 1e6)
        request.grace.CopyFrom(_duration(microseconds))
    try:
        with asking(pool_pb2_grpc.PoolServiceStub, address, tls=tls, ca=ca) as stub:
            last = _watch(stub.DrainActor(request, metadata=metadata(token)), actor)
    except KeyboardInterrupt:
        typer.echo("the drain goes on; run this again to watch it, or with --cancel", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if last.cancelled:
        typer.echo(f"{actor} takes sessions again")
        raise typer.Exit(0 if cancel else NOT_DRAINED)
    if last.lost:
        typer.echo(f"{actor} is lost: what was on it goes on elsewhere, with a gap", err=True)
        raise typer.Exit(NOT_DRAINED)
    typer.echo(f"{actor} is empty")


def _watch(answers: Any, actor: str) -> pool_pb2.DrainActorResponse:  # noqa: ANN401 - a call
    """Shows every report and returns the last."""
    last = pool_pb2.DrainActorResponse()
    console = Console(stderr=True)
    with console.status(f"draining {actor}") as status:
        for last in answers:
            told = f"{actor}: {_left(last)}"
            if console.is_terminal:
                status.update(told)
            elif not (last.cancelled or last.lost):
                console.print(told)
    return last


def _left(progress: pool_pb2.DrainActorResponse) -> str:
    sessions = "1 session" if progress.remaining == 1 else f"{progress.remaining} sessions"
    without = f", {progress.without_room} without room elsewhere" if progress.without_room else ""
    return f"{sessions} left{without}"


def _table(pool: pool_pb2.DescribePoolResponse) -> Table:
    table = Table("id", "model", "state", "host", "sessions", "computing", "compute", "memory")
    for actor in pool.actors:
        compute = actor.booked_ms_per_s / actor.ceiling_ms_per_s if actor.ceiling_ms_per_s else 0.0
        memory = f"{actor.booked_bytes / _MIB:.0f}/{actor.resident_bytes / _MIB:.0f} MiB"
        table.add_row(
            actor.actor_id,
            actor.model,
            _state(actor),
            actor.host,
            f"{actor.sessions}/{actor.resident_slots}",
            str(actor.computing),
            f"{compute:.0%}",
            memory if actor.resident_bytes else "",
        )
    return table


def _state(actor: pool_pb2.Actor) -> str:
    if not actor.healthy:
        return "silent"
    return "draining" if actor.draining else "serving"


def _summary(pool: pool_pb2.DescribePoolResponse) -> str:
    signals = pool.signals
    return (
        f"{len(pool.sessions)} sessions, {signals.queued} waiting"
        f" (the first for {signals.queue_age_s:.0f} s);"
        f" utilisation {signals.predicted_utilisation:.0%}, late chunks {signals.miss_rate:.1%},"
        f" actors wanted {signals.actors_wanted}"
    )


def _duration(microseconds: int) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromMicroseconds(microseconds)
    return duration
