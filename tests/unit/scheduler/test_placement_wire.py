"""The messages of Placement: every field goes where it belongs, both ways."""

from __future__ import annotations

from typing import Any

import pytest

from sana_gateway.v1 import pool_pb2, session_pb2
from sana_gateway_internal.v1 import placement_pb2 as pb
from scheduler import placement_wire as wire
from scheduler.core import pool_events as ev
from scheduler.core.errors import BadArgumentError
from scheduler.core.ids import ActorId, Epoch, GatewayId, Principal, SessionId
from scheduler.core.lease import LeaseState
from scheduler.core.pool_view import ActorView, PoolView, SessionView, Signals
from scheduler.core.quality import Quality
from scheduler.links import Grant, Move, Order

pytestmark = pytest.mark.unit

A, S, EPOCH = ActorId("a"), SessionId("s"), Epoch(7)
PRINCIPAL = Principal("tenant", frozenset({"session"}))
WHOSE: dict[str, Any] = {"session_id": "s", "epoch": 7}
GRANT = Grant(S, EPOCH, A, "a:1", "token", PRINCIPAL, "model", session_pb2.Capabilities())
REGISTER: dict[str, Any] = {
    "actor_id": "a",
    "models": ["model", "alias"],
    "address": "a:1",
    "resident_slots": 3,
    "chunk_ms": 100.0,
    "period_ms": 1000.0,
}


def test_who_asks_for_a_place_says_whether_it_existed_before() -> None:
    request = pb.PlaceRequest(
        session_id="s",
        model="model",
        principal=pb.Principal(tenant="tenant", scopes=["session"]),
        gateway_id="g",
        waited_us=1_500_000,
        restore=True,
        near_host="host",
    )
    assert wire.place_in(request) == ev.PlaceAsked(
        S, "model", PRINCIPAL, GatewayId("g"), 1.5, restore=True, near_host="host"
    )


def test_an_actor_tells_all_of_itself() -> None:
    register = pb.Register(
        **REGISTER,
        host="host",
        resident_bytes=9,
        session_bytes=3,
        encode_capacity_ms=2000.0,
        encode_ms=150.0,
        degraded_rates=[0.75, 0.5],
        degraded_steps=[pb.FewerSteps(steps=2, chunk_ms=60.0)],
        draining=True,
        sessions=[pb.HeldSession(**WHOSE, computing=True, model="model", steps=2)],
    )
    event = wire.register_in(register)
    assert (event.host, event.resident_bytes, event.session_bytes) == ("host", 9, 3)
    assert (event.encode_capacity_ms, event.encode_ms) == (2000.0, 150.0)
    assert (event.degraded_rates, event.draining) == ((0.75, 0.5), True)
    assert event.degraded_steps == {2: 60.0}
    [held] = event.held
    assert (held.session, held.epoch, held.computing, held.model) == (S, EPOCH, True, "model")
    assert held.quality == Quality(1.0, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"models": []},
        {"resident_slots": 0},
        {"chunk_ms": -1.0},
        {"degraded_rates": [1.0]},
        {"degraded_rates": [0.0]},
        {"degraded_rates": [0.5, 0.75]},
        {"degraded_steps": [pb.FewerSteps(steps=0, chunk_ms=10.0)]},
        {"degraded_steps": [pb.FewerSteps(steps=2, chunk_ms=0.0)]},
        {"degraded_steps": [pb.FewerSteps(steps=2, chunk_ms=1e6)]},
    ],
)
def test_a_registration_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadArgumentError):
        wire.register_in(pb.Register(**{**REGISTER, **change}))


@pytest.mark.parametrize(
    ("request_", "event"),
    [
        (
            pb.EnrollRequest(
                heartbeat=pb.Heartbeat(
                    chunk_ms=90.0,
                    encode_ms=120.0,
                    session_bytes=5,
                    chunks=8,
                    late_chunks=1,
                    ends_in_us=2_000_000,
                    degraded_steps=[pb.FewerSteps(steps=2, chunk_ms=50.0)],
                    batch_gains=[pb.BatchGain(size=2, gain=1.5)],
                )
            ),
            ev.ActorBeat(A, 90.0, 120.0, 5, 8, 1, 2.0, steps_ms={2: 50.0}, gains={2: 1.5}),
        ),
        (pb.EnrollRequest(heartbeat=pb.Heartbeat()), ev.ActorBeat(A)),
        (
            pb.EnrollRequest(admitted=pb.Admitted(**WHOSE, refusal="full")),
            ev.AdmitAnswered(A, S, EPOCH, "full"),
        ),
        (
            pb.EnrollRequest(parked=pb.Parked(**WHOSE, host="host")),
            ev.ParkAnswered(A, S, EPOCH, "host"),
        ),
        (
            pb.EnrollRequest(parked=pb.Parked(**WHOSE, failure="no memory")),
            ev.ParkAnswered(A, S, EPOCH, "", "no memory"),
        ),
        (pb.EnrollRequest(restored=pb.Restored(**WHOSE)), ev.SessionRestored(A, S, EPOCH)),
        (pb.EnrollRequest(departed=pb.Departed(**WHOSE)), ev.SessionDeparted(A, S, EPOCH)),
        (pb.EnrollRequest(), None),
    ],
)
def test_what_an_actor_says(request_: pb.EnrollRequest, event: ev.Event | None) -> None:
    assert wire.heard_in(A, request_) == event


def test_an_actor_is_told_how_to_take_a_session() -> None:
    admit = ev.Admit(
        A, S, EPOCH, PRINCIPAL, "model", restore=True, computing=True, quality=Quality(0.75, 2)
    )
    assert wire.order_out(Order(admit, "00-trace-01")).admit == pb.Admit(
        **WHOSE,
        principal=pb.Principal(tenant="tenant", scopes=["session"]),
        model="model",
        traceparent="00-trace-01",
        restore=True,
        computing=True,
        rate_share=0.75,
        steps=2,
    )


@pytest.mark.parametrize(
    ("word", "told"),
    [
        (
            ev.Evict(A, S, EPOCH, "over"),
            pb.EnrollResponse(evict=pb.Evict(**WHOSE, reason="over")),
        ),
        (
            ev.Evict(A, S, EPOCH, "moved", goes_on=True),
            pb.EnrollResponse(evict=pb.Evict(**WHOSE, reason="moved", goes_on=True)),
        ),
        (
            ev.Park(A, S, EPOCH, store=True),
            pb.EnrollResponse(park=pb.Park(**WHOSE, store=True)),
        ),
        (
            ev.Pace(A, S, EPOCH, Quality(0.5, 2)),
            pb.EnrollResponse(pace=pb.Pace(**WHOSE, rate_share=0.5, steps=2)),
        ),
        (
            ev.AwaitsRoom(A, S, EPOCH, awaits=True),
            pb.EnrollResponse(awaits_room=pb.AwaitsRoom(**WHOSE, awaits=True)),
        ),
        (ev.Retire(A), pb.EnrollResponse(retire=pb.Retire())),
    ],
)
def test_what_an_actor_is_told(word: Any, told: pb.EnrollResponse) -> None:
    assert wire.order_out(Order(word)) == told


@pytest.mark.parametrize(
    ("news", "told"),
    [
        (
            ev.Ended(S, "done"),
            pb.PresenceResponse(ended=pb.SessionOver(session_id="s", reason="done")),
        ),
        (
            ev.ParkedTold(S, EPOCH, "host", restoring=True),
            pb.PresenceResponse(parked=pb.SessionParked(**WHOSE, host="host", restoring=True)),
        ),
        (
            Move(GRANT),
            pb.PresenceResponse(moves=pb.SessionMoves(lease=wire.lease_out(GRANT))),
        ),
    ],
)
def test_what_a_gateway_is_told(news: Any, told: pb.PresenceResponse) -> None:
    assert wire.news_out(news) == told


def test_a_booking_tells_the_rate_to_run_at() -> None:
    booked = ev.BookAnswered(S, EPOCH, booked=True, quality=Quality(0.75, 2))
    assert wire.book_out(booked) == pb.BookResponse(booked=True, rate_share=0.75, steps=2)
    refused = ev.BookAnswered(S, EPOCH, booked=False, retry_after=1.5)
    assert wire.book_out(refused) == pb.BookResponse(retry_after_us=1_500_000)


def test_the_progress_of_a_drain() -> None:
    progress = ev.DrainProgress(A, 3, 1, cancelled=True)
    assert wire.drain_out(progress) == pb.DrainResponse(remaining=3, without_room=1, cancelled=True)


def session_view(state: LeaseState, *, detached: bool = False) -> SessionView:
    return SessionView(
        session=S,
        tenant="tenant",
        state=state,
        detached=detached,
        actor=A,
        computing=True,
        age=1.5,
        quality=Quality(0.75, 2),
    )


@pytest.mark.parametrize(
    ("view", "state"),
    [
        (session_view(LeaseState.PARKED, detached=True), pool_pb2.LEASE_STATE_PARKED),
        (session_view(LeaseState.MOVING), pool_pb2.LEASE_STATE_MOVING),
        (session_view(LeaseState.DRAINING), pool_pb2.LEASE_STATE_DRAINING),
        (session_view(LeaseState.LOST), pool_pb2.LEASE_STATE_LOST),
        (session_view(LeaseState.ACTIVE), pool_pb2.LEASE_STATE_ACTIVE),
        (session_view(LeaseState.ACTIVE, detached=True), pool_pb2.LEASE_STATE_DETACHED),
    ],
)
def test_operators_see_where_a_session_stands(view: SessionView, state: int) -> None:
    [entry] = wire.pool_out(PoolView(sessions=(view,))).sessions
    assert entry.state == state
    assert (entry.rate_share, entry.steps) == (0.75, 2)
    assert entry.age.ToMilliseconds() == 1500


def test_operators_see_the_ledgers_and_the_signals() -> None:
    actor = ActorView(
        actor=A,
        models=("model", "alias"),
        address="a:1",
        healthy=True,
        sessions=2,
        resident_slots=3,
        computing=1,
        booked_ms_per_s=100.0,
        ceiling_ms_per_s=850.0,
        host="host",
        resident_bytes=9,
        booked_bytes=6,
        booked_encode_ms_per_s=150.0,
        encode_ceiling_ms_per_s=1700.0,
        draining=True,
    )
    pool = wire.pool_out(PoolView(actors=(actor,), signals=Signals(2.5, 1, 1.25, 0.01, 5)))
    assert pool.actors[0] == pool_pb2.Actor(
        actor_id="a",
        model="model",
        names=["model", "alias"],
        address="a:1",
        healthy=True,
        sessions=2,
        resident_slots=3,
        computing=1,
        booked_ms_per_s=100.0,
        ceiling_ms_per_s=850.0,
        host="host",
        resident_bytes=9,
        booked_bytes=6,
        booked_encode_ms_per_s=150.0,
        encode_ceiling_ms_per_s=1700.0,
        draining=True,
    )
    assert pool.signals == pool_pb2.PoolSignals(
        queue_age_s=2.5, queued=1, predicted_utilisation=1.25, miss_rate=0.01, actors_wanted=5
    )
