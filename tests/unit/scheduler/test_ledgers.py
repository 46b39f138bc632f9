"""The ledgers of places and of encoding; a lone session fits everywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.compute import ComputeLedger
from scheduler.core.ids import ActorId, Epoch, SessionId
from scheduler.core.ledgers import EncodeLedger, ResidentLedger
from scheduler.core.quality import FULL, Quality, degraded

pytestmark = pytest.mark.unit

A, B = ActorId("a"), ActorId("b")
S, T = SessionId("s"), SessionId("t")


def compute(
    encode: EncodeLedger | None = None, steps: dict[int, float] | None = None, **costs: float
) -> ComputeLedger:
    return ComputeLedger(
        costs.get("chunk_ms", 200.0),
        1000.0,
        ceiling=850.0,
        smoothing=0.5,
        actor=A,
        encode_ms=costs.get("encode_ms", 0.0),
        encode=encode,
        steps_ms=steps or {},
    )


def test_places_are_bounded_by_slots_and_by_bytes() -> None:
    assert ResidentLedger(4).capacity == 4
    assert ResidentLedger(4, 250, 100).capacity == 2
    assert ResidentLedger(4, 2500, 100).capacity == 4
    assert ResidentLedger(4, 0, 100).capacity == 4
    assert ResidentLedger(4, 50, 100).capacity == 1


def test_who_has_left_and_is_still_shown_holds_a_place() -> None:
    ledger = ResidentLedger(2, 250, 100)
    ledger.sessions[SessionId("s")] = None
    ledger.leaving[SessionId("t")] = Epoch(1)
    assert (ledger.taken, ledger.free, ledger.booked_bytes) == (2, 0, 200)


def test_a_host_counts_what_all_its_actors_encode() -> None:
    host = EncodeLedger(0.85)
    host.join(A, 1000.0)
    host.join(B, 1200.0)
    assert host.ceiling == 850.0
    host.book(A, S, 500.0)
    host.book(B, T, 300.0)
    assert (host.booked, host.fits(50.0), host.fits(51.0)) == (800.0, True, False)
    host.book(A, S, 100.0)
    assert host.booked == 400.0
    host.leave(B)
    assert host.booked == 100.0
    assert host.actors == (A,)


def test_a_host_that_says_nothing_is_not_counted() -> None:
    host = EncodeLedger(0.85)
    host.join(A, 0.0)
    host.book(A, S, 9000.0)
    assert host.fits(9000.0)


def test_a_session_that_moves_within_its_host_is_encoded_once() -> None:
    host = EncodeLedger(0.85)
    host.join(A, 1000.0)
    host.join(B, 1000.0)
    host.book(A, S, 500.0)
    host.book(A, T, 300.0)
    assert not host.fits(500.0)
    assert host.fits(500.0, S)
    host.book(B, S, 520.0)
    assert (host.booked, host.booked_for(S)) == (820.0, 520.0)
    host.book(A, S, 0.0)
    assert host.booked == 820.0
    host.book(B, S, 0.0)
    assert (host.booked, host.booked_for(S)) == (300.0, 0.0)


def test_a_session_that_needs_more_where_it_goes_must_find_room_for_that() -> None:
    host = EncodeLedger(0.85)
    host.join(A, 1000.0)
    host.book(A, S, 400.0)
    host.book(A, T, 400.0)
    assert (host.fits(450.0, S), host.fits(451.0, S)) == (True, False)


def test_what_is_booked_at_an_actor_goes_with_it() -> None:
    host = EncodeLedger(0.85)
    for actor in (A, B):
        host.join(actor, 1000.0)
        host.book(actor, S, 200.0)
    host.book(B, T, 100.0)
    host.leave(B)
    assert (host.booked, host.booked_for(T)) == (200.0, 0.0)


def test_a_lone_session_may_encode_more_than_its_host_can() -> None:
    host = EncodeLedger(0.85)
    host.join(A, 1000.0)
    assert host.fits(5000.0)


def test_a_lower_rate_costs_its_share_of_both() -> None:
    host = EncodeLedger(0.85)
    host.join(A, 1000.0)
    ledger = compute(host, chunk_ms=400.0, encode_ms=300.0)
    assert ledger.book(SessionId("s0")) == FULL
    assert ledger.book(SessionId("s1")) == FULL
    assert not ledger.room()
    ledger.release(SessionId("s1"))
    assert ledger.book(SessionId("s1"), (Quality(0.75),)) == FULL
    lower = (Quality(0.75), Quality(0.125))
    assert ledger.book(SessionId("s2"), lower) == Quality(0.125)
    assert (ledger.booked, host.booked) == (850.0, 637.5)


def test_fewer_steps_cost_less_compute_and_as_much_encoding() -> None:
    host = EncodeLedger(0.85)
    host.join(A, 1000.0)
    ledger = compute(host, {2: 100.0}, chunk_ms=400.0, encode_ms=250.0)
    lower = (Quality(1.0, 2),)
    ledger.restore(SessionId("s0"))
    for number, cost in ((1, 500.0), (2, 600.0)):
        session = SessionId(f"s{number}")
        ledger.restore(session, *lower)
        assert ledger.booked == cost
    assert ledger.booked_encode == host.booked == 750.0, "the same frames are encoded"
    assert not ledger.book(SessionId("s3"), lower), "they cannot be"
    ledger.release(SessionId("s2"))
    assert ledger.book(SessionId("s3"), lower) == lower[0], "800 more are too much, 100 are not"


def test_a_lone_session_keeps_up_where_fewer_steps_do() -> None:
    assert not compute(chunk_ms=1200.0).keeps_up()
    ledger = compute(None, {2: 900.0}, chunk_ms=1200.0)
    assert ledger.book(S, (Quality(1.0, 2),)) == Quality(1.0, 2)


def test_fewer_steps_are_measured_by_themselves() -> None:
    ledger = compute(None, {2: 100.0})
    ledger.restore(S, Quality(1.0, 2))
    ledger.restore(T)
    assert ledger.booked == 300.0
    ledger.measure(0.0, 0.0, {2: 200.0, 7: 1.0})
    assert (ledger.booked, ledger.costs) == (350.0, (200.0, 0.0, 850.0, 150.0))
    ledger.measure(400.0)
    assert ledger.booked == 450.0


def test_more_may_be_booked_where_short_batches_gain() -> None:
    ledger = compute(chunk_ms=110.0)
    ledger.measure(0.0, gains={2: 1.3, 4: 1.1})
    for number in range(9):
        assert ledger.book(SessionId(f"s{number}")) == FULL, "seven fit one by one"
    assert not ledger.room(), "ten do not keep up where no batch is made"
    ledger.measure(0.0, gains={2: 1.2})
    assert (ledger.ceiling, ledger.booked) == (850.0, 990.0), "what is booked stays booked"


@pytest.mark.parametrize(
    "gains", [{}, {2: 1.24}, {2: 1.5}, {4: 3.0}], ids=["none", "little", "long", "longer"]
)
def test_batches_that_are_not_worth_their_length_count_for_nothing(
    gains: dict[int, float],
) -> None:
    ledger = compute(chunk_ms=240.0)
    ledger.measure(0.0, gains=gains)
    assert ledger.ceiling == 850.0


@given(
    st.floats(1, 2000),
    st.dictionaries(st.integers(2, 16), st.floats(0.1, 16)),
    st.lists(st.sampled_from(range(30)), max_size=60),
)
def test_nobody_depends_on_finding_company(
    chunk_ms: float, gains: dict[int, float], sessions: list[int]
) -> None:
    ledger = compute(chunk_ms=chunk_ms)
    ledger.measure(0.0, gains=gains)
    most = max([1.0, *(gain for gain in gains.values() if gain >= 1.25)])
    for number in sessions:
        session = SessionId(str(number))
        if ledger.holds(session):
            ledger.release(session)
        else:
            ledger.book(session)
        alone = ledger.computing <= 1
        assert alone or ledger.booked <= min(1000.0, 850.0 * most) + 1e-3


def test_what_is_given_up_first_is_what_saves_least() -> None:
    assert degraded((0.75,), {2: 50.0}, 100.0) == (
        Quality(0.75),
        Quality(1.0, 2),
        Quality(0.75, 2),
    )
    assert degraded((0.5,), {2: 50.0}, 100.0)[0] == Quality(1.0, 2), "more frames are better"
    assert degraded((), {}, 100.0) == ()


def test_measurements_refine_what_was_declared() -> None:
    host = EncodeLedger(0.85)
    host.join(A, 1000.0)
    ledger = compute(host, encode_ms=100.0)
    ledger.book(SessionId("s"))
    ledger.measure(400.0, 300.0)
    assert (ledger.booked, host.booked) == (300.0, 200.0)
    ledger.measure(0.0, 0.0)
    assert (ledger.booked, host.booked) == (300.0, 200.0)


def test_an_empty_ledger_is_exactly_empty() -> None:
    ledger = compute(chunk_ms=1.0)
    sessions = [SessionId(f"s{number}") for number in range(30)]
    for session in sessions:
        ledger.restore(session, Quality(0.1))
    for session in sessions:
        ledger.release(session)
    assert (ledger.booked, ledger.computing) == (0.0, 0)
