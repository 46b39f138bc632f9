"""The actors in the order of the policy, kept up to date piece by piece."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from scheduler.core import pool_events as ev
from scheduler.core.fleet import Fleet
from scheduler.core.ids import ActorId, SessionId
from scheduler.core.placement import ActorLoad, Pack, PlacementPolicy, Spread

pytestmark = pytest.mark.unit


def actor(name: str, *models: str, slots: int = 4, host: str = "") -> ev.ActorRegistered:
    return ev.ActorRegistered(
        ActorId(name), models or ("m",), f"unix:/{name}", slots, 200.0, 1000.0, host=host
    )


def fleet(policy: PlacementPolicy | None = None) -> Fleet:
    return Fleet(ev.PoolRules(), policy or Pack())


def take(subject: Fleet, name: str, session: str = "s") -> None:
    record = subject.actors[ActorId(name)]
    record.resident.sessions[SessionId(session)] = None
    record.compute.restore(SessionId(session))
    subject.touch(record)


def first(subject: Fleet, model: str = "m", near: str = "") -> str | None:
    shelf = subject.shelf(model)
    chosen = subject.choose(shelf, shelf.full, (), near)
    return None if chosen is None else chosen.actor


def test_what_changes_on_an_actor_changes_its_place() -> None:
    subject = fleet()
    subject.add(actor("a"))
    subject.add(actor("b"))
    assert first(subject) == "a"
    take(subject, "b")
    assert first(subject) == "b"
    for number in range(3):
        take(subject, "b", f"t{number}")
    assert first(subject) == "a"
    assert subject.shelf("m").free == 4


def test_a_policy_without_a_rank_is_shown_all() -> None:
    class Last:
        def choose(self, candidates: Sequence[ActorLoad]) -> ActorId:
            return candidates[-1].actor_id

    subject = fleet(Last())
    for name in "abc":
        subject.add(actor(name))
    assert first(subject) == "c"
    assert not subject.balances
    assert fleet(Spread()).balances


def test_a_host_is_preferred_where_it_has_room() -> None:
    subject = fleet()
    subject.add(actor("a", host="h1"))
    subject.add(actor("b", host="h2", slots=1))
    assert first(subject, near="h2") == "b"
    assert first(subject, near="h3") == "a"
    take(subject, "b")
    assert first(subject, near="h2") == "a"


def test_a_name_is_stood_in_for_until_it_is_served_itself() -> None:
    subject = fleet()
    subject.add(actor("a", "x", "m"))
    assert first(subject) == "a"
    own = subject.add(actor("b", "m"))
    assert list(subject.serving("m")) == ["b"]
    subject.remove(own)
    assert first(subject) == "a"
    assert subject.serving("nothing") == ()


def test_names_that_the_same_actors_serve_share_one_order() -> None:
    subject = fleet()
    subject.add(actor("a", "x", "alias"))
    subject.add(actor("b", "x", "alias"))
    assert subject.shelf("x") is subject.shelf("alias")
    other = subject.add(actor("c", "z", "alias"))
    assert set(subject.serving("alias")) == {"a", "b", "c"}
    assert set(subject.serving("x")) == {"a", "b"}
    take(subject, "c")
    assert (first(subject, "alias"), first(subject, "x")) == ("c", "a")
    subject.remove(other)
    assert subject.shelf("x") is subject.shelf("alias")
    assert subject.shelf("z").standings == {}


def test_an_actor_that_comes_back_with_other_names_serves_those() -> None:
    subject = fleet()
    subject.add(actor("a", "x"))
    subject.add(actor("a", "y"))
    assert first(subject, "x") is None
    assert first(subject, "y") == "a"
    assert list(subject.own_models) == ["y"]


def test_new_room_is_told_and_less_room_is_not() -> None:
    subject = fleet()
    subject.add(actor("a"))
    subject.improved = False
    take(subject, "a")
    subject.mend()
    assert not subject.improved
    record = subject.actors[ActorId("a")]
    record.compute.release(SessionId("s"))
    del record.resident.sessions[SessionId("s")]
    subject.touch(record)
    subject.mend()
    assert subject.improved


def test_tallies_are_the_sums_of_their_actors() -> None:
    subject = fleet()
    subject.add(actor("a"))
    subject.add(actor("b"))
    take(subject, "a")
    take(subject, "b")
    take(subject, "b", "t")
    tally = subject.tally("m")
    assert (tally.actors, tally.booked, tally.ceiling, tally.held) == (2, 600.0, 1700.0, 3)
    subject.remove(subject.actors[ActorId("b")])
    assert subject.tally("m").booked == pytest.approx(200.0)
    subject.remove(subject.actors[ActorId("a")])
    assert subject.tally("m").actors == 0


def test_an_actor_over_its_ceiling_is_known() -> None:
    subject = fleet()
    record = subject.add(actor("a"))
    for number in range(5):
        take(subject, "a", f"s{number}")
    assert subject.overloaded == [record]
    record.compute.release(SessionId("s0"))
    subject.touch(record)
    assert subject.overloaded == []
