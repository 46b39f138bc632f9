"""`sana-gateway sessions`: the operators' view of sessions, and how to end one."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

import typer
from google.protobuf import json_format
from rich.table import Table

from gateway import event_words
from gateway.calling import ANSWER_S, HERE, Address, AsJson, Ca, Tls, Token, asking, metadata
from gateway.tables import show
from sana_gateway.v1 import event_pb2, pool_pb2, pool_pb2_grpc
from scheduler.core.errors import ConfigurationError

NOT_ENDED: Final = 1
"""Exit status where the question was answered with no."""

_EXAMPLES = """Examples:

\b
  sana-gateway sessions ls --state queued
  sana-gateway sessions ls --tenant acme --json | jq -r '.[].session_id'
  sana-gateway sessions show s1c1606ccc554e413e8516bbccc74ebd3
  sana-gateway sessions kill s1c1606ccc554e413e8516bbccc74ebd3 --reason "maintenance"
  sana-gateway tail --session s1c1606ccc554e413e8516bbccc74ebd3
"""
_PREFIX: Final = "LEASE_STATE_"
_STATES: Final = {
    value: name.removeprefix(_PREFIX).lower()
    for name, value in pool_pb2.LeaseState.items()
    if value != pool_pb2.LEASE_STATE_UNSPECIFIED
}

sessions = typer.Typer(
    help="List the sessions of a running service, show one, or end one.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=_EXAMPLES,
)


@sessions.command("ls")
def list_sessions(
    tenant: Annotated[str, typer.Option(help="Only those of this tenant.")] = "",
    model: Annotated[str, typer.Option(help="Only those that asked for this model.")] = "",
    actor: Annotated[str, typer.Option(help="Only those on this actor.")] = "",
    state: Annotated[
        list[str] | None,
        typer.Option(help=f"Only those in this state; repeatable: {', '.join(_STATES.values())}."),
    ] = None,
    address: Address = HERE,
    token: Token = "",
    tls: Tls = False,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """List the sessions: whose they are, their state, where they are.

    Those that wait come first, in their order. A state is that of the lease: `queued` and
    `assigned` wait for a place, `active` has one, `detached` has one and no client, `parked` is
    kept on no actor, `moving` and `draining` are about to leave their actor, `lost` has lost it.
    """
    unknown = set(state or ()) - set(_STATES.values())
    if unknown:
        raise ConfigurationError(f"there is no state {', '.join(sorted(unknown))}")
    with asking(pool_pb2_grpc.PoolServiceStub, address, tls=tls, ca=ca) as stub:
        pool = stub.DescribePool(
            pool_pb2.DescribePoolRequest(), metadata=metadata(token), timeout=ANSWER_S
        )
    shown = [
        each
        for each in pool.sessions
        if (not tenant or each.tenant == tenant)
        and (not model or each.model == model)
        and (not actor or each.actor_id == actor)
        and (not state or _state(each) in state)
    ]
    if as_json:
        typer.echo(json.dumps([_as_dict(each) for each in shown]))
        return
    show(_table(shown))
    typer.echo(f"{len(shown)} of {len(pool.sessions)} sessions")


@sessions.command("show")
def show_session(
    session: Annotated[str, typer.Argument(metavar="ID", help="Which.")],
    address: Address = HERE,
    token: Token = "",
    tls: Tls = False,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Show one session: where it is, and what became of it lately.

    The scheduler keeps the last events of all sessions together, so those of a quiet one may be
    gone.
    """
    described = _described(session, address, token, tls=tls, ca=ca)
    if as_json:
        typer.echo(json.dumps(_as_dict(described)))
        return
    for name, told in _facts(described).items():
        if told:
            typer.echo(f"{name:<10} {told}")
    for event in described.events:
        typer.echo(event_words.line(event_pb2.WatchEventsResponse(event=event)))


@sessions.command("kill")
def kill_session(
    session: Annotated[str, typer.Argument(metavar="ID", help="Which.")],
    reason: Annotated[
        str,
        typer.Option(
            help="Why, in one line: its clients read it. By default that an operator did."
        ),
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether it is meant.")] = False,
    address: Address = HERE,
    token: Token = "",
    tls: Tls = False,
    ca: Ca = None,
) -> None:
    """End a session for good, whoever's it is. Its clients are told; what was kept of it goes.

    It is written down in the audit log of the gateway. Ends with 0 when the session has ended, 1
    when the question was answered with no, 2 when it was refused.
    """
    described = _described(session, address, token, tls=tls, ca=ca)
    one = described.session
    if not yes:
        told = f"{one.session_id} of {one.tenant} ({one.model}, {_state(one)})"
        if not typer.confirm(f"End session {told}?", err=True):
            raise typer.Exit(NOT_ENDED)
    with asking(pool_pb2_grpc.PoolServiceStub, address, tls=tls, ca=ca) as stub:
        request = pool_pb2.EndSessionRequest(session_id=session, reason=reason)
        stub.EndSession(request, metadata=metadata(token), timeout=ANSWER_S)
    typer.echo(f"{session} has ended")


def _described(session: str, address: str, token: str, **how: Any) -> Any:  # noqa: ANN401 - a message
    with asking(pool_pb2_grpc.PoolServiceStub, address, **how) as stub:
        request = pool_pb2.DescribeSessionRequest(session_id=session)
        return stub.DescribeSession(request, metadata=metadata(token), timeout=ANSWER_S)


def _facts(described: pool_pb2.DescribeSessionResponse) -> dict[str, str]:
    session, actor = described.session, described.actor
    return {
        "session": session.session_id,
        "tenant": session.tenant,
        "model": session.model,
        "state": _state(session),
        "actor": f"{actor.actor_id} on {actor.host}" if actor.actor_id else "",
        "computing": "yes" if session.computing else "no",
        "quality": _quality(session),
        "age": f"{session.age.ToMilliseconds() / 1e3:.0f} s",
    }


def _table(shown: list[pool_pb2.PooledSession]) -> Table:
    table = Table("id", "tenant", "model", "state", "actor", "computing", "quality", "age")
    for each in shown:
        table.add_row(
            each.session_id,
            each.tenant,
            each.model,
            _state(each),
            each.actor_id,
            "yes" if each.computing else "",
            _quality(each),
            f"{each.age.ToMilliseconds() / 1e3:.0f} s",
        )
    return table


def _state(session: pool_pb2.PooledSession) -> str:
    return _STATES.get(session.state, "unknown")


def _quality(session: pool_pb2.PooledSession) -> str:
    steps = f"{session.steps} steps" if session.steps else ""
    rate = f"{session.rate_share:.0%} of the frames" if 0 < session.rate_share < 1 else ""
    return ", ".join(filter(None, (rate, steps)))


def _as_dict(message: Any) -> dict[str, Any]:  # noqa: ANN401 - any message
    shown: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return shown
