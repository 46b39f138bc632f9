"""`sana-gateway actors`, against a real gRPC server over fakes."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway import actors
from gateway.auth import OPERATOR, SESSION
from gateway.calling import AnswerError
from sana_gateway.v1 import pool_pb2
from scheduler.core.errors import ConfigurationError, UnauthenticatedError
from scheduler.core.ids import Principal
from tests.fakes.grpc_gateway import grpc_gateway
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services

pytestmark = pytest.mark.unit

POOL = pool_pb2.DescribePoolResponse(
    actors=[
        pool_pb2.Actor(
            actor_id="a1",
            model="painter",
            host="10.0.0.1",
            healthy=True,
            draining=True,
            sessions=2,
            resident_slots=3,
            computing=1,
            booked_ms_per_s=425.0,
            ceiling_ms_per_s=850.0,
            resident_bytes=8 * 2**20,
            booked_bytes=2 * 2**20,
        ),
        pool_pb2.Actor(actor_id="a2", model="simulated"),
    ],
    signals=pool_pb2.PoolSignals(queued=4, queue_age_s=2.0, actors_wanted=3),
)


def progress(remaining: int, **others: Any) -> pool_pb2.DrainActorResponse:
    return pool_pb2.DrainActorResponse(remaining=remaining, **others)


class Tokens:
    """Knows an operator."""

    def authenticate(self, token: str | None) -> Principal:
        if token == "operator":
            return Principal("tenant", frozenset({SESSION, OPERATOR}))
        raise UnauthenticatedError("the token is unknown")

    def authenticate_key(self, api_key: str) -> Principal:
        return self.authenticate("operator" if api_key == "rk_operator" else None)


@contextmanager
def serving(drains: Sequence[pool_pb2.DrainActorResponse] = (), auth: Any = None) -> Iterator[str]:
    """Serves a gateway on a thread, as the command blocks; yields its address."""
    loop, addresses = asyncio.new_event_loop(), []
    up, over = threading.Event(), asyncio.Event()

    async def serve() -> None:
        services = fake_services(FakeHub(), pool=POOL, drains=drains)
        if auth is not None:
            object.__setattr__(services, "auth", auth)
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


def run(*words: str) -> Result:
    return CliRunner().invoke(actors.actors, list(words), env={"COLUMNS": "120"})


def test_actors_are_listed_with_what_is_booked_on_them() -> None:
    with serving() as address:
        result = run("ls", "--address", address)
    assert result.exit_code == 0
    first = next(line for line in result.output.splitlines() if "a1" in line)
    for cell in ("painter", "draining", "10.0.0.1", "2/3", "50%", "2/8 MiB"):
        assert cell in first
    assert "silent" in next(line for line in result.output.splitlines() if "a2" in line)
    assert "4 waiting (the first for 2 s)" in result.output
    assert "actors wanted 3" in result.output


def test_the_whole_pool_is_printed_as_json() -> None:
    with serving() as address:
        result = run("ls", "--json", "--address", address)
    pool = json.loads(result.output)
    assert [actor["actor_id"] for actor in pool["actors"]] == ["a1", "a2"]
    assert pool["actors"][1]["draining"] is False
    assert pool["signals"]["queued"] == 4


def test_a_drain_is_shown_to_its_end() -> None:
    drains = [progress(2, without_room=1), progress(1), progress(0)]
    with serving(drains) as address:
        result = run("drain", "a1", "--grace", "5m", "--address", address)
    assert result.exit_code == 0
    assert "a1: 2 sessions left, 1 without room elsewhere" in result.output
    assert "a1: 1 session left" in result.output
    assert result.stdout == "a1 is empty\n"


def test_a_drain_whose_actor_is_lost_is_no_success() -> None:
    with serving([progress(2), progress(0, lost=True)]) as address:
        result = run("drain", "a1", "--address", address)
    assert result.exit_code == actors.NOT_DRAINED
    assert result.stdout == ""
    assert "a1 is lost" in result.output


@pytest.mark.parametrize(("words", "code"), [((), actors.NOT_DRAINED), (("--cancel",), 0)])
def test_a_cancelled_drain_is_a_success_for_who_cancelled_it(
    words: tuple[str, ...], code: int
) -> None:
    with serving([progress(2, cancelled=True)]) as address:
        result = run("drain", "a1", *words, "--address", address)
    assert (result.exit_code, result.stdout) == (code, "a1 takes sessions again\n")


def test_ctrl_c_leaves_the_drain_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(actors, "_watch", interrupted)
    result = run("drain", "a1")
    assert result.exit_code == actors.INTERRUPTED
    assert "the drain goes on" in result.output


def test_refusals_are_one_sentence() -> None:
    with serving(auth=Tokens()) as address:
        for words, sentence in (
            (("ls",), "the token is"),
            (("drain", "a9", "--token", "operator"), "there is no actor a9"),
        ):
            result = run(*words, "--address", address)
            assert isinstance(result.exception, AnswerError)
            assert sentence in str(result.exception)
        assert run("ls", "--token", "operator", "--address", address).exit_code == 0
        assert run("ls", "--token", "rk_operator", "--address", address).exit_code == 0
    gone = run("ls", "--address", address)
    assert isinstance(gone.exception, AnswerError)
    wrong = run("drain", "a1", "--grace", "soon")
    assert isinstance(wrong.exception, ConfigurationError)
