"""`sana-gateway sessions` and `tail`, against a real gRPC server over fakes."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from gateway import event_words, sessions_command, tail_command
from gateway.calling import AnswerError
from gateway.tail_command import tail
from sana_gateway.v1 import event_pb2, pool_pb2
from scheduler.core.errors import ConfigurationError
from tests.fakes.grpc_gateway import grpc_gateway
from tests.fakes.hub import FakeHub
from tests.fakes.operations import FakeOperations
from tests.fakes.services import fake_services

pytestmark = pytest.mark.unit

LONG = "s1c1606ccc554e413e8516bbccc74ebd3"


def session(name: str, state: str, **others: Any) -> pool_pb2.PooledSession:
    number = pool_pb2.LeaseState.Value(f"LEASE_STATE_{state.upper()}")
    made = pool_pb2.PooledSession(session_id=name, state=number, tenant="acme", model="painter")
    made.MergeFrom(pool_pb2.PooledSession(**others))
    made.age.FromSeconds(90)
    return made


POOL = pool_pb2.DescribePoolResponse(
    sessions=[
        session("s2", "queued", tenant="other"),
        session(LONG, "active", actor_id="a1", computing=True, rate_share=0.5, steps=2),
        session("s3", "parked", model="simulated"),
    ]
)
EVENT = event_pb2.Event(
    sequence=8,
    kind=event_pb2.EVENT_KIND_SESSION_MOVED,
    session_id=LONG,
    tenant="acme",
    model="painter",
    actor_id="a1",
    from_actor_id="a2",
    rate_share=0.5,
    reason="maintenance",
)
EVENT.time.FromJsonString("2026-11-23T06:00:01.250Z")
DESCRIBED = pool_pb2.DescribeSessionResponse(
    session=POOL.sessions[1],
    actor=pool_pb2.Actor(actor_id="a1", host="10.0.0.1"),
    events=[EVENT],
)
WORDS = [
    event_pb2.WatchEventsResponse(started=event_pb2.WatchStarted(sequence=7)),
    event_pb2.WatchEventsResponse(event=EVENT),
    event_pb2.WatchEventsResponse(
        event=event_pb2.Event(sequence=9, kind=event_pb2.EVENT_KIND_ACTOR_LOST, actor_id="a1")
    ),
    event_pb2.WatchEventsResponse(gap=event_pb2.EventGap(after_sequence=9, next_sequence=15)),
    event_pb2.WatchEventsResponse(
        chunks=event_pb2.ChunkEvents(
            actor_id="a1",
            chunks=[
                event_pb2.ChunkEvent(session_id=LONG, slack_us=250_000),
                event_pb2.ChunkEvent(session_id=LONG, slack_us=-10_000, late=True),
            ],
            omitted=3,
        )
    ),
]


@contextmanager
def serving(known: FakeOperations | None = None) -> Iterator[str]:
    """Serves a gateway on a thread, as the commands block; yields its address."""
    loop, addresses = asyncio.new_event_loop(), []
    up, over = threading.Event(), asyncio.Event()
    operations = known or FakeOperations(DESCRIBED, words=WORDS)

    async def serve() -> None:
        services = fake_services(FakeHub(), pool=POOL, operations=operations)
        async with grpc_gateway(services) as address:
            addresses.append(address)
            up.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    up.wait(10)
    try:
        yield addresses[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


def run(command: typer.Typer, *words: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(command, list(words), input=answer, env={"COLUMNS": "120"})


def listed(*words: str) -> Result:
    with serving() as address:
        return run(sessions_command.sessions, "ls", "--address", address, *words)


def test_sessions_are_listed_and_their_ids_are_whole() -> None:
    result = listed()
    assert result.exit_code == 0
    row = next(line for line in result.output.splitlines() if LONG in line)
    for cell in ("acme", "painter", "active", "a1", "yes", "90 s"):
        assert cell in row
    assert "3 of 3 sessions" in result.output


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--tenant", "acme"), [LONG, "s3"]),
        (("--model", "simulated"), ["s3"]),
        (("--actor", "a1"), [LONG]),
        (("--state", "queued", "--state", "parked"), ["s2", "s3"]),
        (("--tenant", "nobody"), []),
    ],
)
def test_sessions_are_filtered(words: tuple[str, ...], found: list[str]) -> None:
    result = listed("--json", *words)
    assert [each["session_id"] for each in json.loads(result.output)] == found


def test_a_state_that_is_none_is_refused() -> None:
    assert isinstance(listed("--state", "asleep").exception, ConfigurationError)


def test_a_session_is_shown_with_what_became_of_it() -> None:
    with serving() as address:
        result = run(sessions_command.sessions, "show", LONG, "--address", address)
        told = run(sessions_command.sessions, "show", LONG, "--json", "--address", address)
    assert "a1 on 10.0.0.1" in result.output
    assert "50% of the frames, 2 steps" in result.output
    assert "06:00:01.250 session_moved" in result.output
    assert "from a2 at a1" in result.output
    assert "- maintenance" in result.output
    assert json.loads(told.output)["events"][0]["sequence"] == "8"


def test_a_session_that_is_unknown_is_said_so() -> None:
    with serving() as address:
        result = run(sessions_command.sessions, "show", "s9", "--address", address)
    assert isinstance(result.exception, AnswerError)


@pytest.mark.parametrize(
    ("words", "answer", "code", "ended"),
    [
        (("--yes", "--reason", "maintenance"), None, 0, [(LONG, "maintenance")]),
        ((), "y\n", 0, [(LONG, "ended by an operator")]),
        ((), "n\n", 1, []),
        # Nobody is there to be asked.
        ((), "", 1, []),
    ],
)
def test_a_session_is_ended_when_that_is_meant(
    words: tuple[str, ...], answer: str | None, code: int, ended: list[tuple[str, str]]
) -> None:
    known = FakeOperations(DESCRIBED)
    with serving(known) as address:
        kill = ("kill", LONG, "--address", address, *words)
        result = run(sessions_command.sessions, *kill, answer=answer)
    assert result.exit_code == code
    assert known.ended == ended
    assert (f"{LONG} has ended" in result.output) is (code == 0)
    if answer:
        assert f"End session {LONG} of acme (painter, active)?" in result.output


def followed(*words: str) -> tuple[Result, FakeOperations]:
    """Follows a journal that ends, and a gateway that is asked again."""
    known = FakeOperations(words=WORDS)
    known.over.set()
    with pytest.MonkeyPatch.context() as patch, serving(known) as address:
        # Its second pause is when the user has had enough.
        pauses = iter([None])

        def pause(_: float) -> None:
            if next(pauses, "over") == "over":
                raise KeyboardInterrupt

        patch.setattr(tail_command.time, "sleep", pause)
        return run(tail, "--address", address, *words), known


def test_events_are_told_in_a_line_each_and_gaps_are_not_passed_over() -> None:
    result, known = followed("--chunks")
    assert result.exit_code == 0
    moved, lost, gap, chunks = result.output.splitlines()[:4]
    assert moved.startswith("06:00:01.250 session_moved ")
    assert "(50% of the frames)" in moved
    assert lost.endswith("at a1")
    assert gap == "-- 5 events are missing here --"
    assert "2 chunks at a1, 1 late, least slack -10 ms, 3 more" in chunks
    assert known.asked[0][1].chunks


def test_it_goes_on_where_it_was_when_the_gateway_ends_the_call() -> None:
    _, known = followed("--session", LONG)
    first, second = (asked for _, asked, _ in known.asked)
    assert not first.HasField("after_sequence")
    assert (second.after_sequence, second.session_id) == (14, LONG)


@pytest.mark.parametrize(
    ("words", "after"), [(("--all",), 0), (("--after", "5"), 5), (("--after", "5", "--all"), 5)]
)
def test_it_begins_where_it_is_told(words: tuple[str, ...], after: int) -> None:
    _, known = followed(*words)
    assert known.asked[0][1].HasField("after_sequence")
    assert known.asked[0][1].after_sequence == after


def test_kinds_are_chosen_and_gaps_are_always_told() -> None:
    result, _ = followed("--kind", "actor_lost", "--json")
    told = [json.loads(line)["event"] for line in result.output.splitlines()]
    assert told == ["started", "actor_lost", "gap", "chunks"] * 2


def test_a_kind_that_is_none_is_refused() -> None:
    result = run(tail, "--kind", "moonrise")
    assert isinstance(result.exception, ConfigurationError)


def test_a_gateway_that_is_away_is_said_so_once() -> None:
    pauses = iter([None, None])

    def pause(_: float) -> None:
        if next(pauses, "over") == "over":
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tail_command.time, "sleep", pause)
        result = run(tail, "--address", "127.0.0.1:9")
    assert result.exit_code == 0
    assert result.output.count("the gateway is away") == 1


def test_every_kind_has_a_name_and_a_later_one_reads() -> None:
    assert len(event_words.KINDS) == len(event_pb2.EventKind.keys()) - 1
    later = event_pb2.Event()
    later.kind = 99  # type: ignore[assignment]
    assert event_words.kind_of(later) == event_words.UNKNOWN
