"""Ledgers, degraded rates, several models, balance and what an autoscaler is told."""

from __future__ import annotations

import dataclasses

import pytest

from scheduler.core import pool_events as ev
from scheduler.core.ids import ActorId, SessionId
from scheduler.core.lease import LeaseState
from scheduler.core.placement import LeastLoaded, Pack
from scheduler.core.pool_view import Signals
from scheduler.core.quality import FULL, Quality
from tests.unit.scheduler.pool_driver import CHEAP, STAYING, PoolDriver, full, held

pytestmark = pytest.mark.unit

A, B = ActorId("a"), ActorId("b")


def make(**rules: object) -> PoolDriver:
    return PoolDriver(dataclasses.replace(STAYING, **rules))  # type: ignore[arg-type]


# Ledgers


def test_memory_bounds_an_actor_as_slots_do() -> None:
    driver = make()
    driver.actor("a", slots=8, chunk_ms=CHEAP, resident_bytes=250, session_bytes=100)
    driver.place("s0")
    driver.place("s1")
    driver.ask("s2")
    assert driver.session("s2").state is LeaseState.QUEUED
    assert driver.view().booked_bytes == 200


def test_measured_memory_counts() -> None:
    driver = make()
    driver.actor("a", slots=8, chunk_ms=CHEAP, resident_bytes=250, session_bytes=100)
    driver.place("s0")
    driver.tell(ev.ActorBeat(A, session_bytes=200))
    driver.ask("s1")
    assert driver.session("s1").state is LeaseState.QUEUED
    driver.tell(ev.ActorBeat(A, session_bytes=100))
    assert driver.admitted().session == "s1"


def test_a_lone_session_fits_into_any_memory() -> None:
    driver = make()
    driver.actor("a", resident_bytes=50, session_bytes=100)
    driver.place("s0")
    driver.ask("s1")
    assert driver.session("s1").state is LeaseState.QUEUED


def test_actors_of_one_host_share_its_encoding() -> None:
    driver = make()
    for name in ("a", "b"):
        driver.actor(
            name, host="h", chunk_ms=CHEAP, encode_capacity_ms=1000.0, encode_ms=400.0, slots=8
        )
    driver.running("s0")
    second = driver.running("s1")
    driver.ask("s2")
    assert driver.session("s2").state is LeaseState.QUEUED
    assert driver.view("a").encode_ceiling_ms_per_s == 850.0
    driver.unbook("s1", second)
    assert driver.admitted().session == "s2"


def test_compute_that_waits_for_encoding_is_granted_when_a_neighbour_stops() -> None:
    driver = make(rebalance=False)
    for name in ("a", "b"):
        driver.actor(name, host="h", chunk_ms=CHEAP, encode_capacity_ms=1000.0, encode_ms=800.0)
    first = driver.place("s0")
    driver.connect("s0")
    driver.wait(40.0)
    second = driver.running("s1")
    assert driver.book("s0", first) == []
    driver.unbook("s1", second)
    assert [answer.session for answer in driver.of(ev.BookAnswered)] == ["s0"]


def test_other_hosts_are_not_bound_by_it() -> None:
    driver = make()
    driver.actor("a", host="h1", encode_capacity_ms=1000.0, encode_ms=800.0)
    driver.actor("b", host="h2", encode_capacity_ms=1000.0, encode_ms=800.0)
    driver.running("s0")
    driver.running("s1")
    assert {driver.session(s).actor for s in ("s0", "s1")} == {"a", "b"}


# Degrade before reject


def test_sessions_wait_rather_than_degrade_unless_told_otherwise() -> None:
    driver = make()
    driver.actor("a", chunk_ms=500.0, rates=(0.75, 0.5))
    driver.running("s0")
    driver.ask("s1")
    assert driver.session("s1").state is LeaseState.QUEUED


def test_a_session_is_admitted_at_the_highest_rate_that_fits() -> None:
    driver = make(degrade=True)
    driver.actor("a", chunk_ms=500.0, rates=(0.75, 0.5))
    driver.running("s0")
    driver.ask("s1")
    assert driver.admitted().quality.rate == 0.5
    driver.answer(driver.admitted())
    assert driver.session("s1").quality.rate == 0.5
    assert driver.view().booked_ms_per_s == 750.0


def test_a_free_actor_is_better_than_a_lower_rate() -> None:
    driver = make(degrade=True)
    driver.actor("a", chunk_ms=500.0, rates=(0.5,))
    driver.running("s0")
    driver.actor("b", chunk_ms=500.0, rates=(0.5,))
    driver.ask("s1")
    assert (driver.admitted().actor, driver.admitted().quality.rate) == ("b", 1.0)


def test_booking_again_gives_the_full_rate_back() -> None:
    driver = make(degrade=True)
    driver.actor("a", chunk_ms=500.0, rates=(0.5,))
    driver.running("s0")
    driver.ask("s1")
    epoch = driver.admitted().epoch
    driver.answer(driver.admitted())
    driver.connect("s1")
    assert [answer.quality.rate for answer in booked(driver, "s1", epoch)] == [0.5]
    driver.release("s0")
    assert [answer.quality.rate for answer in booked(driver, "s1", epoch)] == [1.0]
    assert driver.session("s1").quality.rate == 1.0


def booked(driver: PoolDriver, session: str, epoch: int) -> list[ev.BookAnswered]:
    driver.book(session, epoch)
    return driver.of(ev.BookAnswered)


def test_a_resume_may_degrade_too() -> None:
    driver = make(degrade=True)
    driver.actor("a", chunk_ms=500.0, rates=(0.5,))
    epoch = driver.place("s0")
    driver.connect("s0")
    driver.wait(40.0)
    driver.running("s1")
    assert [answer.quality.rate for answer in booked(driver, "s0", epoch)] == [0.5]


def test_a_lost_session_may_go_on_at_a_lower_rate() -> None:
    driver = make(degrade=True)
    driver.actor("a", chunk_ms=500.0, rates=(0.5,))
    driver.running("s0")
    driver.actor("b", chunk_ms=500.0, rates=(0.5,))
    driver.running("s1")
    driver.die(str(driver.session("s0").actor))
    admit = driver.admitted()
    assert (admit.computing, admit.quality.rate) == (True, 0.5)


def crowded() -> PoolDriver:
    """An actor with one session at the full rate and one, `s1`, at half of it."""
    driver = make(degrade=True)
    driver.actor("a", chunk_ms=500.0, rates=(0.5,))
    driver.running("s0")
    driver.running("s1")
    assert driver.session("s1").quality.rate == 0.5
    return driver


def test_a_degraded_session_gets_the_full_rate_when_there_has_been_room_for_a_while() -> None:
    driver = crowded()
    driver.release("s0")
    driver.wait(4.0)
    assert driver.of(ev.Pace) == []
    driver.wait(4.0)
    [pace] = driver.of(ev.Pace)
    assert (pace.session, pace.actor, pace.quality.rate) == ("s1", "a", 1.0)
    assert driver.session("s1").quality.rate == 1.0
    assert driver.view().booked_ms_per_s == 500.0


def test_room_that_does_not_last_changes_nothing() -> None:
    driver = crowded()
    driver.release("s0")
    driver.wait(4.0)
    driver.running("s2")
    driver.wait(30.0)
    assert driver.of(ev.Pace) == []
    assert driver.session("s1").quality.rate == 0.5


def test_who_waits_for_a_place_goes_before_who_is_degraded() -> None:
    driver = make(degrade=True)
    driver.actor("a", chunk_ms=400.0, rates=(0.5,), slots=2)
    driver.running("s0")
    driver.running("s1")
    driver.ask("s2")
    assert driver.session("s2").state is LeaseState.QUEUED
    driver.wait(60.0)
    assert driver.of(ev.Pace) == []


def test_a_degraded_session_moves_to_where_there_is_room_for_its_full_rate() -> None:
    driver = crowded()
    driver.actor("b", chunk_ms=500.0, rates=(0.5,))
    driver.wait(13.0)
    admit = driver.admitted()
    assert (admit.session, admit.actor, admit.quality.rate) == ("s1", "b", 1.0)


def test_a_scheduler_that_restarted_learns_who_is_degraded() -> None:
    driver = make(degrade=True)
    told = dataclasses.replace(held("s0", 1, computing=True), quality=Quality(0.5))
    driver.actor("a", chunk_ms=500.0, rates=(0.5,), held=(told,))
    assert driver.session("s0").quality.rate == 0.5
    assert driver.view().booked_ms_per_s == 250.0


def test_fewer_steps_are_given_up_where_that_makes_room() -> None:
    driver = make(degrade=True)
    driver.actor("a", chunk_ms=500.0, steps={2: 300.0, 1: 150.0})
    driver.running("s0")
    driver.ask("s1")
    assert driver.admitted().quality == Quality(1.0, 2)
    driver.answer(driver.admitted())
    assert driver.session("s1").quality == Quality(1.0, 2)
    assert driver.view().booked_ms_per_s == 800.0


def test_a_rate_and_fewer_steps_may_be_given_up_together() -> None:
    driver = make(degrade=True)
    driver.actor("a", chunk_ms=600.0, rates=(2 / 3,), steps={2: 360.0})
    driver.running("s0")
    driver.running("s1")
    assert driver.session("s1").quality == Quality(2 / 3, 2), "240 of the 250 that are left"


def test_steps_too_are_given_back_when_there_has_been_room_for_a_while() -> None:
    driver = make(degrade=True)
    driver.actor("a", chunk_ms=500.0, steps={2: 300.0})
    driver.running("s0")
    driver.running("s1")
    driver.release("s0")
    driver.wait(4.0)
    assert driver.of(ev.Pace) == []
    driver.wait(4.0)
    [pace] = driver.of(ev.Pace)
    assert (pace.session, pace.quality) == ("s1", FULL)
    assert driver.view().booked_ms_per_s == 500.0


def test_what_fewer_steps_take_is_measured_too() -> None:
    driver = make(degrade=True, cost_smoothing=1.0)
    driver.actor("a", chunk_ms=500.0, steps={2: 300.0})
    driver.running("s0")
    driver.running("s1")
    driver.tell(ev.ActorBeat(A, steps_ms={2: 340.0}))
    assert driver.view().booked_ms_per_s == pytest.approx(840.0)


def test_batches_are_counted() -> None:
    driver = make()
    driver.actor("a")
    assert driver.pool.signals(driver.now).batch_fill == 0.0
    driver.tell(ev.ActorBeat(A, windows=6, batches=4))
    driver.tell(ev.ActorBeat(A, windows=4, batches=1))
    assert driver.pool.signals(driver.now).batch_fill == 2.0


# Several models


def models(**rules: object) -> PoolDriver:
    driver = make(models=("x", "y"), **rules)
    for name in ("a", "b", "c"):
        driver.actor(name, models=("x",))
    return driver


def test_what_is_made_on_demand_is_told_only_where_there_may_be_no_actor() -> None:
    for on_demand, told in ((True, ("x", "y")), (False, ())):
        driver = make(models=("x", "y"), on_demand=on_demand)
        assert driver.pool.describe(driver.now).on_demand == told


def test_a_model_without_an_actor_waits_for_one() -> None:
    driver = models()
    driver.ask("s", model="y")
    assert driver.session("s").state is LeaseState.QUEUED
    assert driver.pool.signals(driver.now).wanted_by_model == {"x": 1, "y": 1}


def test_an_idle_actor_is_given_to_a_model_that_lacks_one() -> None:
    driver = models()
    driver.ask("s", model="y")
    driver.wait(59.0)
    assert driver.of(ev.Repurpose) == []
    driver.wait(3.0)
    [given] = driver.of(ev.Repurpose)
    assert given.model == "y"
    assert given.actor not in [view.actor for view in driver.pool.describe(driver.now).actors]
    driver.wait(200.0)
    assert driver.of(ev.Repurpose) == [], "one at a time"
    driver.actor("new", models=("y",))
    assert driver.admitted().session == "s"


def test_busy_actors_are_not_given_away() -> None:
    driver = models()
    for number in range(3):
        driver.tell(ev.ActorBeat(A))
        driver.ask(f"x{number}", model="x")
        driver.answer(driver.admitted())
        driver.connect(f"x{number}")
    driver.tell(ev.DrainAsked(B))
    driver.ask("s", model="y")
    driver.wait(120.0)
    assert driver.of(ev.Repurpose) == []


def test_a_spare_stays_warm() -> None:
    driver = models(warm_spares={"x": 3})
    driver.ask("s", model="y")
    driver.wait(120.0)
    assert driver.of(ev.Repurpose) == []


def test_a_short_need_gives_nothing_away() -> None:
    driver = models()
    driver.ask("s", model="y")
    driver.wait(50.0)
    driver.release("s")
    driver.wait(5.0)
    driver.ask("t", model="y")
    driver.wait(50.0)
    assert driver.of(ev.Repurpose) == []


def test_giving_away_can_be_switched_off() -> None:
    driver = models(repurpose_after=None)
    driver.ask("s", model="y")
    driver.wait(600.0)
    assert driver.of(ev.Repurpose) == []


# Balance


def uneven(policy: type[LeastLoaded | Pack]) -> PoolDriver:
    driver = PoolDriver(STAYING, policy())
    driver.actor("a")
    for number in range(4):
        driver.running(f"s{number}")
    driver.actor("b")
    return driver


def test_a_loaded_actor_is_relieved_after_a_while_and_only_so_far() -> None:
    driver = uneven(LeastLoaded)
    driver.wait(10.0)
    assert driver.of(ev.Admit) == []
    moved = []
    for _ in range(60):
        driver.wait(1.0)
        for admit in driver.of(ev.Admit):
            moved.append(admit.actor)
            driver.answer(admit)
            driver.tell(ev.SessionRestored(admit.actor, admit.session, admit.epoch))
            driver.tell(
                ev.SessionDeparted(A, admit.session, driver.pool.lease(admit.session).epoch)
            )
    assert moved == ["b", "b"]
    assert (driver.view("a").computing, driver.view("b").computing) == (2, 2)


def test_only_one_session_moves_at_a_time() -> None:
    driver = uneven(LeastLoaded)
    driver.wait(12.0)
    [admit] = driver.of(ev.Admit)
    driver.answer(admit)
    driver.wait(14.0)
    assert driver.of(ev.Admit) == []


def test_a_policy_that_packs_is_not_balanced() -> None:
    driver = uneven(Pack)
    driver.wait(60.0)
    assert driver.of(ev.Admit) == []


def test_but_an_actor_over_its_ceiling_is_relieved() -> None:
    driver = uneven(Pack)
    for _ in range(30):
        driver.tell(ev.ActorBeat(A, 400.0))
    driver.wait(12.0)
    assert [admit.actor for admit in driver.of(ev.Admit)] == ["b"]


def test_balance_can_be_switched_off() -> None:
    driver = make(rebalance=False)
    driver.pool = type(driver.pool)(driver.pool.rules, LeastLoaded())
    driver.actor("a")
    for number in range(4):
        driver.running(f"s{number}")
    driver.actor("b")
    driver.wait(60.0)
    assert driver.of(ev.Admit) == []


# Signals


def test_signals_tell_of_the_queue_and_the_load() -> None:
    driver = make()
    driver.actor("a")
    for number in range(4):
        driver.running(f"s{number}")
    driver.ask("q0")
    driver.wait(3.0)
    driver.ask("q1")
    signals = driver.pool.describe(driver.now).signals
    assert (signals.queue_age, signals.queued) == (3.0, 2)
    assert signals.predicted_utilisation == pytest.approx(1200.0 / 850.0)
    assert signals.actors_wanted == 2


def test_signals_keep_the_reserve_free() -> None:
    driver = make()
    for number in range(5):
        driver.actor(f"a{number}", slots=4, chunk_ms=200.0)
    for number in range(16):
        driver.running(f"s{number}")
    assert driver.pool.signals(driver.now).actors_wanted == 5


def test_an_idle_pool_wants_its_spares() -> None:
    driver = make(warm_spares={"model": 2})
    for name in ("a", "b", "c"):
        driver.actor(name)
    assert driver.pool.signals(driver.now).actors_wanted == 2


def test_chunks_that_come_late_count_for_a_minute() -> None:
    driver = make()
    driver.actor("a")
    driver.tell(ev.ActorBeat(A, chunks=8, late_chunks=2))
    driver.tell(ev.ActorBeat(A, chunks=2))
    assert driver.pool.signals(driver.now).miss_rate == 0.2
    driver.wait(61.0)
    assert driver.pool.signals(driver.now).miss_rate == 0.0


def test_an_empty_pool_has_quiet_signals() -> None:
    assert make().pool.signals(0.0) == Signals()


def test_what_waits_for_compute_counts_as_demand() -> None:
    driver = make()
    full(driver)
    assert driver.pool.signals(driver.now).queued == 0
    assert driver.session(SessionId("s0")).quality.rate == 1.0
