"""What the pool tells those who follow it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.core import pool_events as ev
from scheduler.core.errors import NoCapacityError
from scheduler.core.happenings import Happened, Kind
from scheduler.core.ids import ActorId, Epoch, SessionId
from scheduler.core.quality import Quality
from tests.unit.scheduler.pool_driver import PRINCIPAL, STAYING, PoolDriver

pytestmark = pytest.mark.unit

PARKING = replace(STAYING, park_after=5.0)


class Followed(PoolDriver):
    """A pool that somebody follows."""

    def __init__(self, rules: ev.PoolRules | None = None) -> None:
        super().__init__(rules)
        self.told: list[Happened] = []
        self.pool.listen(self.told.append)

    def kinds(self, session: str = "s") -> list[str]:
        """Takes out what happened to a session."""
        own = [each.kind.value for each in self.told if each.session == session]
        self.told.clear()
        return own

    def last(self) -> Happened:
        return self.told[-1]


@pytest.fixture
def pool() -> Followed:
    followed = Followed()
    followed.actor("a")
    return followed


def test_a_session_that_has_room_is_assigned_and_placed(pool: Followed) -> None:
    pool.place("s")
    last = pool.last()
    assert (last.session, last.actor, last.owner, last.model) == ("s", "a", PRINCIPAL, "model")
    assert pool.kinds() == ["session_assigned", "session_placed"]


def test_one_without_room_is_queued_until_somebody_leaves() -> None:
    pool = Followed()
    pool.actor("a", slots=1)
    pool.place("first")
    pool.ask("s")
    assert pool.kinds() == ["session_queued"]
    pool.release("first")
    assert pool.kinds() == ["session_assigned"]


def test_one_that_is_refused_is_no_event_of_the_pool() -> None:
    pool = Followed(replace(STAYING, queue_limit=0))
    pool.actor("a", slots=1)
    pool.place("first")
    with pytest.raises(NoCapacityError):
        pool.ask("s")
    assert pool.kinds() == []


def test_an_actor_that_does_not_take_it_is_named(pool: Followed) -> None:
    pool.ask("s")
    pool.told.clear()
    pool.answer(pool.admitted(), "no memory")
    assert (pool.told[0].kind, pool.told[0].left) == (Kind.SESSION_QUEUED, "a")
    assert "no memory" not in pool.told[0].reason


def test_the_end_says_why_and_where(pool: Followed) -> None:
    pool.place("s")
    pool.release("s", "ended by an operator")
    last = pool.last()
    assert (last.kind, last.reason, last.left) == (
        Kind.SESSION_RELEASED,
        "ended by an operator",
        "a",
    )


def test_a_session_whose_actor_dies_is_lost_and_restored_elsewhere(pool: Followed) -> None:
    pool.place("s")
    pool.actor("b")
    pool.told.clear()
    pool.die("a")
    lost = pool.told[0]
    assert (lost.kind, lost.left) == (Kind.SESSION_LOST, "a")
    pool.answer(pool.admitted())
    assert pool.last().actor == "b"
    assert pool.kinds() == ["session_lost", "session_assigned", "session_restored"]


def test_compute_that_is_booked_and_given_back_is_told(pool: Followed) -> None:
    epoch = pool.place("s")
    pool.told.clear()
    pool.book("s", epoch)
    assert pool.last().quality == Quality(1.0)
    assert pool.kinds() == ["session_computing"]
    pool.unbook("s", epoch)
    assert pool.kinds() == ["session_idle"]
    pool.unbook("s", epoch)
    assert pool.kinds() == []


def test_compute_that_is_not_to_be_had_is_told_after_the_wait() -> None:
    pool = Followed(replace(STAYING, start_wait=1.0))
    pool.actor("a", chunk_ms=800.0)
    epoch = pool.place("s")
    pool.unbook("s", epoch)
    pool.running("other")
    pool.book("s", epoch)
    pool.told.clear()
    pool.wait(2.0)
    assert pool.kinds() == ["compute_refused"]


def test_a_parked_session_says_why_it_was_parked() -> None:
    pool = Followed(PARKING)
    pool.actor("a")
    epoch = pool.place("s")
    pool.connect("s")
    pool.book("s", epoch)
    pool.unbook("s", epoch)
    pool.wait(6.0)
    pool.tell(ev.ParkAnswered(ActorId("a"), SessionId("s"), epoch, "host"))
    last = pool.last()
    assert (last.kind, last.reason, last.left) == (Kind.SESSION_PARKED, "nothing to do", "a")


def test_a_drain_is_told_of_actor_and_sessions(pool: Followed) -> None:
    epoch = pool.place("s")
    pool.connect("s")
    pool.actor("b")
    pool.told.clear()
    pool.tell(ev.DrainAsked(ActorId("a")))
    (moving,) = (each for each in pool.told if each.session == "s")
    assert (moving.kind, moving.left, moving.actor) == (Kind.SESSION_MOVING, "a", "b")
    admit = pool.admitted()
    pool.answer(admit)
    pool.tell(ev.SessionRestored(admit.actor, admit.session, admit.epoch))
    pool.tell(ev.SessionDeparted(ActorId("a"), SessionId("s"), epoch))
    kinds = [each.kind for each in pool.told]
    assert kinds == [
        Kind.ACTOR_DRAINING,
        Kind.SESSION_MOVING,
        Kind.SESSION_MOVED,
        Kind.ACTOR_RETIRED,
    ]


def test_a_drain_without_room_is_told_and_taken_back(pool: Followed) -> None:
    pool.place("s")
    pool.connect("s")
    pool.told.clear()
    pool.tell(ev.DrainAsked(ActorId("a")))
    pool.tell(ev.DrainCancelled(ActorId("a")))
    assert [each.kind for each in pool.told] == [
        Kind.ACTOR_DRAINING,
        Kind.SESSION_AWAITS_ROOM,
        Kind.ACTOR_KEPT,
    ]


def test_a_session_that_is_found_at_an_actor_is_placed(pool: Followed) -> None:
    held = ev.Held(SessionId("s"), Epoch(7), computing=False, principal=PRINCIPAL, model="model")
    pool.actor("b", held=(held,))
    assert pool.last().actor == "b"
    assert pool.kinds() == ["session_placed"]


def test_nothing_is_kept_where_nobody_listens() -> None:
    pool = PoolDriver()
    pool.actor("a")
    pool.place("s")
    assert pool.effects
