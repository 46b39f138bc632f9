"""`sana-gateway tail`: follows the event journal of a running service."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Annotated, Any, Final

import grpc
import typer

from gateway import event_words
from gateway.calling import HERE, Address, AnswerError, AsJson, Ca, Tls, Token, asking, metadata
from sana_gateway.v1 import event_pb2, event_pb2_grpc
from scheduler.core.errors import ConfigurationError

AGAIN_S: Final = 1.0
"""Pause before a gateway that is gone is asked again."""
_GONE: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_EXAMPLES = """Examples:

\b
  sana-gateway tail
  sana-gateway tail --kind actor_lost --kind session_lost --all
  sana-gateway tail --session s1c1606ccc554e413e8516bbccc74ebd3 --all
  sana-gateway tail --chunks --actor 3f9c21aa
  sana-gateway tail --json | jq -r 'select(.event == "session_lost") | .session_id'

Needs the scope `operator`, which sees everything; with `session`, what becomes of one's own
sessions.
"""

tail = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    epilog=_EXAMPLES,
)


@tail.callback()
def follow(
    session: Annotated[str, typer.Option(metavar="ID", help="Only events of this session.")] = "",
    actor: Annotated[str, typer.Option(metavar="ID", help="Only events of this actor.")] = "",
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help=f"Only events of this kind; repeatable: {', '.join(event_words.KINDS.values())}.",
        ),
    ] = None,
    after: Annotated[
        int | None,
        typer.Option(min=0, metavar="SEQUENCE", help="Go on after this event.", show_default=False),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Begin with the oldest event that is kept.")
    ] = False,
    chunks: Annotated[
        bool, typer.Option("--chunks", help="Tell of the chunks that actors make, once a second.")
    ] = False,
    address: Address = HERE,
    token: Token = "",
    tls: Tls = False,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Follow what happens in a running service, as it happens, until Ctrl-C.

    One line an event: when (UTC), what, which session, whose, at which actor, why. Where events
    are missing, because they are not kept any more or were not read in time, a line says so. When
    the gateway or the scheduler restarts it goes on where it was. With --json a line is an object,
    whose `event` says what it is.
    """
    wanted = frozenset(kind or ())
    if unknown := wanted - set(event_words.KINDS.values()):
        raise ConfigurationError(f"there is no kind of event {', '.join(sorted(unknown))}")
    asked = event_pb2.WatchEventsRequest(session_id=session, actor_id=actor, chunks=chunks)
    if after is not None or everything:
        asked.after_sequence = after or 0
    told_of_gone = False
    while True:
        try:
            with asking(event_pb2_grpc.EventServiceStub, address, tls=tls, ca=ca) as stub:
                words = stub.WatchEvents(asked, metadata=metadata(token))
                for word in _passed(words, asked):
                    told_of_gone = False
                    _show(word, wanted, as_json=as_json)
        except KeyboardInterrupt:
            return
        except AnswerError as error:
            if error.code not in _GONE:
                raise
            if not told_of_gone:
                typer.echo(f"-- the gateway is away: {error} --", err=True)
            told_of_gone = True
        try:
            time.sleep(AGAIN_S)
        except KeyboardInterrupt:
            return


def _passed(words: Any, asked: event_pb2.WatchEventsRequest) -> Iterable[Any]:  # noqa: ANN401 - a call
    """Yields words, and notes where to go on should the call end."""
    for word in words:
        if (reached := event_words.sequence_of(word)) is not None:
            asked.after_sequence = reached
        yield word


def _show(word: event_pb2.WatchEventsResponse, wanted: frozenset[str], *, as_json: bool) -> None:
    name = event_words.name_of(word)
    if wanted and word.HasField("event") and name not in wanted:
        return
    if as_json:
        typer.echo(json.dumps({"event": name, **event_words.as_json(word)}))
    elif told := event_words.line(word):
        typer.echo(told)
