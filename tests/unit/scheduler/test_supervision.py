"""Supervision: as many actors as there is room for, and lost ones replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import pytest

from scheduler.backends.launcher import Found, Room
from scheduler.core.ids import ActorId
from scheduler.scaling import ScalingRules
from scheduler.supervision import SupervisionRules, Supervisor
from tests.fakes.launcher import FakeActor, FakeLauncher

pytestmark = pytest.mark.unit

RULES = SupervisionRules(
    enroll_timeout=60.0,
    adopt_timeout=0.02,
    first_pause=0.001,
    longest_pause=0.01,
    survey_every=0.01,
)


class Watched:
    """A supervisor at work on a fake backend, and the driver that it talks to."""

    def __init__(self, launcher: FakeLauncher, rules: SupervisionRules = RULES) -> None:
        self.launcher = launcher
        self.died: asyncio.Queue[ActorId] = asyncio.Queue()
        self.left: asyncio.Queue[tuple[ActorId, float | None]] = asyncio.Queue()
        self.unheard: set[ActorId] = set()
        """Actors that have not registered, so that they cannot be drained."""
        self.sheds: asyncio.Queue[ActorId] = asyncio.Queue()
        self.keeps: asyncio.Queue[ActorId] = asyncio.Queue()
        self.demand: dict[str, int] = {}
        self.uses: dict[ActorId, tuple[int, int]] = {}
        self.supervisor = Supervisor(launcher, self, rules)
        self.run = asyncio.create_task(self.supervisor.run())

    def actor_died(self, actor: ActorId) -> None:
        self.died.put_nowait(actor)

    def wanted(self) -> Mapping[str, int]:
        return self.demand

    def use(self) -> Mapping[ActorId, tuple[int, int]]:
        return self.uses

    def shed(self, actor: ActorId) -> None:
        self.sheds.put_nowait(actor)

    def keep(self, actor: ActorId) -> None:
        self.keeps.put_nowait(actor)

    def leave(self, actor: ActorId, grace: float | None = None) -> bool:
        self.left.put_nowait((actor, grace))
        return actor not in self.unheard

    async def next(self) -> FakeActor:
        """Returns the next actor that is launched, once it has enrolled."""
        actor = await self.launcher.launched.get()
        self.supervisor.enrolled(actor.actor)
        return actor

    async def stop(self) -> None:
        self.run.cancel()
        with suppress(asyncio.CancelledError):
            await self.run


@pytest.fixture
async def limit() -> AsyncIterator[None]:
    async with asyncio.timeout(20):
        yield


pytest_limit = pytest.mark.usefixtures("limit")


@pytest_limit
async def test_actors_are_launched_for_all_room_and_as_more_appears() -> None:
    watched = Watched(FakeLauncher(room=2))
    first = {(await watched.next()).actor for _ in range(2)}
    watched.launcher.actors = 3
    third = await watched.next()
    assert len(first | {third.actor}) == 3
    await watched.stop()


@pytest_limit
async def test_a_lost_actor_is_ended_without_grace_and_replaced() -> None:
    watched = Watched(FakeLauncher())
    lost = await watched.next()
    watched.supervisor.replace(lost.actor)
    assert await watched.launcher.kills.get() is lost
    assert lost.grace == 0.0
    assert (await watched.next()).actor != lost.actor
    await watched.stop()


@pytest_limit
async def test_an_actor_whose_process_ended_is_reported_and_replaced() -> None:
    watched = Watched(FakeLauncher())
    dead = await watched.next()
    dead.ended.set()
    assert await watched.died.get() == dead.actor
    assert (await watched.next()).actor != dead.actor
    await watched.stop()


@pytest_limit
async def test_an_actor_that_never_enrols_is_ended_and_replaced() -> None:
    rules = SupervisionRules(enroll_timeout=0.02, first_pause=0.001)
    watched = Watched(FakeLauncher(), rules)
    mute = await watched.launcher.launched.get()
    assert await watched.launcher.kills.get() is mute
    await watched.next()
    await watched.stop()


@pytest_limit
async def test_failing_launches_are_tried_again() -> None:
    launcher = FakeLauncher()
    launcher.failures = 5
    watched = Watched(launcher)
    await watched.next()
    assert launcher.failures == 0
    await watched.stop()


@pytest_limit
async def test_running_actors_are_taken_over_instead_of_launching_more() -> None:
    found = FakeActor(ActorId("found"))
    watched = Watched(FakeLauncher(room=2, running=[found]))
    watched.supervisor.enrolled(found.actor)
    await watched.next()
    # Long past the time in which a found actor must enrol.
    await watched.launcher.surveyed(10)
    assert watched.launcher.launched.empty()
    assert not found.killed
    await watched.stop()


@pytest_limit
async def test_a_found_actor_that_does_not_enrol_is_replaced() -> None:
    found = FakeActor(ActorId("found"))
    watched = Watched(FakeLauncher(running=[found]))
    assert await watched.launcher.kills.get() is found
    await watched.next()
    await watched.stop()


@pytest_limit
async def test_a_backend_that_cannot_be_reached_yet_is_asked_again_for_running_actors() -> None:
    class Late(FakeLauncher):
        refusals = 3

        async def adopt(self) -> Sequence[Found[FakeActor]]:
            if self.refusals:
                self.refusals -= 1
                raise ConnectionError("not yet")
            return await super().adopt()

    found = FakeActor(ActorId("found"))
    watched = Watched(Late(room=2, running=[found]))
    watched.supervisor.enrolled(found.actor)
    launched = await watched.next()
    await watched.launcher.surveyed(3)
    assert watched.launcher.launched.empty()
    found.ended.set()
    assert await watched.died.get() == found.actor
    assert (await watched.next()).actor != launched.actor
    await watched.stop()


@pytest_limit
async def test_a_place_whose_room_is_gone_is_given_up() -> None:
    watched = Watched(FakeLauncher(room=2))
    actors = [await watched.next() for _ in range(2)]
    watched.launcher.actors = 1
    await watched.launcher.surveyed(3)
    actors[0].ended.set()
    assert await watched.launcher.kills.get() is actors[0]
    await watched.launcher.surveyed(3)
    assert watched.launcher.launched.empty()
    await watched.stop()


@pytest_limit
async def test_stopping_ends_all_actors_with_grace_and_stops_replacing() -> None:
    watched = Watched(FakeLauncher(room=2))
    actors = [await watched.next() for _ in range(2)]
    await watched.stop()
    assert not any(actor.killed for actor in actors)
    await watched.supervisor.stop_actors()
    assert [actor.grace for actor in actors] == [RULES.stop_grace] * 2
    assert watched.launcher.launched.empty()


@pytest_limit
async def test_a_backend_that_fails_to_end_or_count_does_not_end_supervision() -> None:
    class Failing(FakeLauncher):
        surveys = 0

        async def room(self) -> Room:
            self.surveys += 1
            if self.surveys > 1:
                raise OSError("away")
            return Room(self.actors)

        async def kill(self, handle: FakeActor, *, grace: float = 0.0) -> None:
            await super().kill(handle, grace=grace)
            raise OSError("away")

    watched = Watched(Failing())
    lost = await watched.next()
    watched.supervisor.replace(lost.actor)
    await watched.next()
    await watched.stop()


@pytest_limit
async def test_a_drained_actor_ends_in_order_and_is_replaced_at_once() -> None:
    rules = replace(RULES, first_pause=60.0)
    watched = Watched(FakeLauncher(), rules)
    drained = await watched.next()
    watched.supervisor.emptying(drained.actor)
    assert watched.launcher.launched.empty()
    watched.supervisor.retire(drained.actor)
    assert await watched.launcher.kills.get() is drained
    assert drained.grace == RULES.stop_grace
    assert (await watched.next()).actor != drained.actor
    assert watched.died.empty()
    await watched.stop()


@pytest_limit
async def test_where_there_is_room_the_successor_comes_before_the_drained_one_goes() -> None:
    watched = Watched(FakeLauncher(surge=1))
    drained = await watched.next()
    watched.supervisor.emptying(drained.actor)
    watched.supervisor.emptying(drained.actor)
    successor = await watched.next()
    assert not drained.killed
    watched.supervisor.retire(drained.actor)
    assert await watched.launcher.kills.get() is drained
    await watched.launcher.surveyed(3)
    assert watched.launcher.launched.empty()
    assert not successor.killed
    # The room for one more is free again.
    watched.supervisor.emptying(successor.actor)
    await watched.next()
    await watched.stop()


@pytest_limit
async def test_only_as_many_successors_come_early_as_there_is_room_for() -> None:
    watched = Watched(FakeLauncher(room=2, surge=1))
    actors = [await watched.next() for _ in range(2)]
    for actor in actors:
        watched.supervisor.emptying(actor.actor)
    await watched.next()
    await watched.launcher.surveyed(3)
    assert watched.launcher.launched.empty()
    await watched.stop()


@pytest_limit
async def test_a_drain_that_is_cancelled_sheds_the_successor_and_not_the_same_again() -> None:
    watched = Watched(FakeLauncher(surge=1), replace(RULES, surplus_after=0.0))
    first = await watched.next()
    watched.supervisor.emptying(first.actor)
    successor = await watched.next()
    # The successor is busier than the one that was nearly empty.
    watched.uses = {first.actor: (0, 0), successor.actor: (3, 3)}
    watched.supervisor.kept(first.actor)
    assert await watched.sheds.get() == successor.actor
    watched.supervisor.retire(successor.actor)
    assert await watched.launcher.kills.get() is successor
    await watched.launcher.surveyed(3)
    assert watched.launcher.launched.empty()
    assert not first.killed
    await watched.stop()


@pytest_limit
async def test_the_successor_of_an_actor_that_dies_while_it_is_drained_takes_its_place() -> None:
    watched = Watched(FakeLauncher(surge=1))
    first = await watched.next()
    watched.supervisor.emptying(first.actor)
    await watched.next()
    first.ended.set()
    assert await watched.died.get() == first.actor
    assert await watched.launcher.kills.get() is first
    await watched.launcher.surveyed(3)
    assert watched.launcher.launched.empty()
    await watched.stop()


@pytest_limit
async def test_an_actor_that_was_given_up_and_is_back_is_ended_as_its_place_is_taken() -> None:
    watched = Watched(FakeLauncher())
    lost = await watched.next()
    watched.supervisor.replace(lost.actor)
    assert await watched.launcher.kills.get() is lost
    await watched.next()
    watched.launcher.running = [lost]
    watched.supervisor.enrolled(lost.actor)
    assert await watched.launcher.kills.get() is lost
    await watched.stop()


@pytest_limit
async def test_an_actor_that_was_given_up_and_is_back_with_its_host_goes_on() -> None:
    watched = Watched(FakeLauncher(room=2))
    lost, _ = [await watched.next() for _ in range(2)]
    watched.launcher.actors = 1
    await watched.launcher.surveyed(3)
    watched.supervisor.replace(lost.actor)
    assert await watched.launcher.kills.get() is lost
    await watched.launcher.surveyed(3)
    watched.launcher.actors, watched.launcher.running = 2, [lost]
    watched.supervisor.enrolled(lost.actor)
    await watched.launcher.surveyed(3)
    assert watched.launcher.launched.empty()
    assert watched.launcher.kills.empty()
    lost.ended.set()
    assert await watched.died.get() == lost.actor
    await watched.stop()


@pytest_limit
async def test_models_are_launched_as_wished_and_the_rest_is_of_the_first() -> None:
    rules = replace(RULES, wishes={"a": 1, "b": 2})
    watched = Watched(FakeLauncher(room=5, models=("a", "b")), rules)
    models = [(await watched.next()).model for _ in range(5)]
    assert sorted(models) == ["a", "a", "a", "b", "b"]
    await watched.stop()


@pytest_limit
async def test_found_actors_count_for_their_model() -> None:
    found = FakeActor(ActorId("found"), "b")
    rules = replace(RULES, wishes={"a": 1, "b": 1})
    watched = Watched(FakeLauncher(room=2, running=[found], models=("a", "b")), rules)
    watched.supervisor.enrolled(found.actor)
    assert (await watched.next()).model == "a"
    await watched.stop()


@pytest_limit
async def test_a_repurposed_actor_ends_in_order_and_another_model_takes_its_place() -> None:
    watched = Watched(FakeLauncher(models=("a", "b")))
    idle = await watched.next()
    watched.supervisor.repurpose(idle.actor, "b")
    assert await watched.launcher.kills.get() is idle
    assert idle.grace == RULES.stop_grace
    other = await watched.next()
    assert (idle.model, other.model) == ("a", "b")
    # It stays what it became.
    other.ended.set()
    assert (await watched.next()).model == "b"
    await watched.stop()


@pytest_limit
async def test_a_successor_that_has_not_registered_ends_when_the_drain_is_cancelled() -> None:
    watched = Watched(FakeLauncher(surge=1), replace(RULES, surplus_after=0.0))
    first = await watched.next()
    watched.supervisor.emptying(first.actor)
    successor = await watched.launcher.launched.get()
    watched.supervisor.kept(first.actor)
    assert await watched.launcher.kills.get() is successor
    await watched.launcher.surveyed(3)
    assert watched.sheds.empty()
    assert not first.killed
    await watched.stop()


@pytest_limit
async def test_a_launch_that_waits_for_a_host_that_died_costs_no_other_actor_its_place() -> None:
    watched = Watched(FakeLauncher(room=3), replace(RULES, surplus_after=0.0))
    actors = [await watched.next() for _ in range(3)]
    actors[0].ended.set()
    pending = await watched.launcher.launched.get()
    # The backend notices later that the host is gone, and with it the room.
    watched.launcher.actors = 2
    assert await watched.launcher.kills.get() is actors[0]
    assert await watched.launcher.kills.get() is pending
    await watched.launcher.surveyed(5)
    assert watched.sheds.empty()
    assert watched.launcher.launched.empty()
    assert not any(actor.killed for actor in actors[1:])
    await watched.stop()


@pytest_limit
async def test_an_actor_that_is_shed_is_taken_back_when_it_is_not_one_too_many_any_more() -> None:
    watched = Watched(FakeLauncher(room=3), replace(RULES, surplus_after=0.0))
    actors = [await watched.next() for _ in range(3)]
    watched.uses = {actor.actor: (n, n) for n, actor in enumerate(actors)}
    watched.launcher.actors = 2
    assert await watched.sheds.get() == actors[0].actor
    watched.launcher.actors = 3
    assert await watched.keeps.get() == actors[0].actor
    await watched.launcher.surveyed(3)
    assert watched.sheds.empty()
    assert watched.launcher.launched.empty()
    await watched.stop()


@pytest_limit
async def test_an_actor_that_was_found_and_has_not_registered_yet_is_not_given_up() -> None:
    found = [FakeActor(ActorId(name)) for name in ("a", "b")]
    rules = replace(RULES, adopt_timeout=60.0, surplus_after=0.0)
    watched = Watched(FakeLauncher(room=1, running=found), rules)
    await watched.launcher.surveyed(4)
    assert watched.launcher.kills.empty()
    for each in found:
        watched.supervisor.enrolled(each.actor)
    await watched.sheds.get()
    await watched.stop()


@pytest_limit
async def test_the_first_of_what_is_free_goes_to_the_model_that_the_demand_lacks() -> None:
    watched = Watched(FakeLauncher(room=1, models=("a", "b")))
    assert (await watched.next()).model == "a"
    watched.demand = {"a": 1, "b": 1, "unknown": 9}
    watched.launcher.actors = 3
    assert [(await watched.next()).model for _ in range(2)] == ["a", "b"]
    await watched.stop()


@pytest_limit
async def test_a_growing_cluster_gets_the_models_that_are_asked_for() -> None:
    scaling = ScalingRules(least=1, most=4, shrink_after=0.05)
    launcher = FakeLauncher(room=4, models=("a", "b"))
    watched = Watched(launcher, replace(RULES, scaling=scaling))
    first = await watched.next()
    watched.demand = {"a": 1, "b": 2}
    assert [(await watched.next()).model for _ in range(2)] == ["b", "b"]
    watched.demand = {"b": 1}
    shed = {await watched.sheds.get() for _ in range(2)}
    assert first.actor in shed
    assert len(shed) == 2
    await watched.stop()


@pytest_limit
async def test_a_scheduler_that_restarted_sheds_nobody_before_the_demand_is_known() -> None:
    found = [FakeActor(ActorId(name)) for name in ("a", "b", "c")]
    scaling = ScalingRules(least=1, most=9, shrink_after=3600.0)
    launcher = FakeLauncher(room=3, running=found)
    watched = Watched(launcher, replace(RULES, scaling=scaling, adopt_timeout=60.0))
    for each in found:
        watched.supervisor.enrolled(each.actor)
    await watched.launcher.surveyed(5)
    assert watched.sheds.empty()
    await watched.stop()


@pytest_limit
async def test_word_that_a_host_goes_is_repeated_until_it_is_taken() -> None:
    watched = Watched(FakeLauncher())
    actor = await watched.launcher.launched.get()
    watched.unheard.add(actor.actor)
    watched.launcher.going[actor.actor] = 60.0
    for _ in range(3):
        assert await watched.left.get() == (actor.actor, 60.0)
    watched.unheard.clear()
    await watched.launcher.surveyed(2)
    while not watched.left.empty():
        watched.left.get_nowait()
    await watched.launcher.surveyed(3)
    assert watched.left.empty()
    # One that presents itself anew may have been forgotten.
    watched.supervisor.enrolled(actor.actor)
    assert await watched.left.get() == (actor.actor, 60.0)
    await watched.stop()


@pytest_limit
async def test_actors_that_come_by_themselves_are_looked_for_a_few_times_only() -> None:
    class Counting(FakeLauncher):
        searches = 0

        async def adopt(self) -> Sequence[Found[FakeActor]]:
            self.searches += 1
            return await super().adopt()

    launcher = Counting()
    watched = Watched(launcher)
    await watched.next()
    watched.supervisor.enrolled(ActorId("stranger"))
    await launcher.surveyed(12)
    searches = launcher.searches
    assert searches < 8
    await launcher.surveyed(4)
    assert launcher.searches == searches
    await watched.stop()


@pytest_limit
async def test_actors_of_a_host_that_is_to_go_are_told_of_once() -> None:
    watched = Watched(FakeLauncher())
    actor = await watched.next()
    watched.launcher.going[actor.actor], watched.launcher.actors = 60.0, 0
    assert await watched.left.get() == (actor.actor, 60.0)
    await watched.launcher.surveyed(3)
    assert watched.left.empty()
    watched.supervisor.retire(actor.actor)
    assert await watched.launcher.kills.get() is actor
    await watched.launcher.surveyed(3)
    assert watched.launcher.launched.empty()
    await watched.stop()


@pytest_limit
async def test_room_that_has_gone_leaves_one_actor_too_many_which_is_drained() -> None:
    watched = Watched(FakeLauncher(room=2), replace(RULES, surplus_after=0.05))
    first, second = [await watched.next() for _ in range(2)]
    watched.uses = {first.actor: (1, 1)}
    watched.launcher.actors = 1
    assert await watched.sheds.get() == second.actor
    watched.supervisor.retire(second.actor)
    assert await watched.launcher.kills.get() is second
    await watched.launcher.surveyed(8)
    assert watched.sheds.empty()
    assert watched.launcher.launched.empty()
    assert not first.killed
    await watched.stop()


@pytest_limit
async def test_a_backend_that_sees_no_room_at_all_is_not_believed() -> None:
    watched = Watched(FakeLauncher(), replace(RULES, surplus_after=0.0))
    await watched.next()
    watched.launcher.actors = 0
    await watched.launcher.surveyed(4)
    assert watched.sheds.empty()
    await watched.stop()


@pytest_limit
async def test_a_cluster_that_can_grow_follows_the_demand() -> None:
    scaling = ScalingRules(least=1, most=3, shrink_after=0.05)
    watched = Watched(FakeLauncher(room=1), replace(RULES, scaling=scaling))
    first = await watched.next()
    watched.demand = {"model": 9}
    while watched.launcher.wishes[-1] != 3:
        await watched.launcher.surveyed(1)
    # The nodes come.
    watched.launcher.actors = 3
    others = [await watched.next() for _ in range(2)]
    watched.uses = {first.actor: (1, 1)}
    watched.demand = {}
    shed = {await watched.sheds.get() for _ in range(2)}
    assert shed == {other.actor for other in others}
    for actor in shed:
        watched.supervisor.retire(actor)
    assert {await watched.launcher.kills.get() for _ in range(2)} == set(others)
    await watched.launcher.surveyed(3)
    assert watched.sheds.empty()
    assert watched.launcher.wishes == [1, 3, 1]
    assert not first.killed
    assert watched.launcher.launched.empty()
    await watched.stop()
