"""Supervision: as many actors as there is room for, and lost ones replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
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
        self.sheds: asyncio.Queue[None] = asyncio.Queue()
        self.wanted = 0
        self.supervisor = Supervisor(launcher, self, rules)
        self.run = asyncio.create_task(self.supervisor.run())

    def actor_died(self, actor: ActorId) -> None:
        self.died.put_nowait(actor)

    def actors_wanted(self) -> int:
        return self.wanted

    def shed(self) -> None:
        self.sheds.put_nowait(None)

    def leave(self, actor: ActorId, grace: float | None = None) -> None:
        self.left.put_nowait((actor, grace))

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
async def test_a_drain_that_is_cancelled_sheds_the_successor_without_another_one() -> None:
    watched = Watched(FakeLauncher(surge=1))
    first = await watched.next()
    watched.supervisor.emptying(first.actor)
    successor = await watched.next()
    watched.supervisor.kept(first.actor)
    await watched.sheds.get()
    watched.supervisor.emptying(successor.actor)
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
async def test_actors_of_a_host_that_is_to_go_are_told_of_once() -> None:
    watched = Watched(FakeLauncher())
    actor = await watched.next()
    watched.launcher.going[actor.actor] = 60.0
    assert await watched.left.get() == (actor.actor, 60.0)
    watched.launcher.actors = 0
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
    watched.launcher.actors = 1
    await watched.sheds.get()
    watched.supervisor.emptying(second.actor)
    watched.supervisor.retire(second.actor)
    assert await watched.launcher.kills.get() is second
    while not watched.sheds.empty():
        watched.sheds.get_nowait()
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
    watched.wanted = 9
    while watched.launcher.wishes[-1] != 3:
        await watched.launcher.surveyed(1)
    # The nodes come.
    watched.launcher.actors = 3
    others = [await watched.next() for _ in range(2)]
    watched.wanted = 0
    await watched.sheds.get()
    victim = others[0]
    watched.supervisor.emptying(victim.actor)
    while not watched.sheds.empty():
        watched.sheds.get_nowait()
    await watched.launcher.surveyed(3)
    assert watched.sheds.empty(), "one at a time"
    watched.supervisor.retire(victim.actor)
    assert await watched.launcher.kills.get() is victim
    await watched.sheds.get()
    assert watched.launcher.wishes == [1, 3, 1]
    assert not first.killed
    assert watched.launcher.launched.empty()
    await watched.stop()
