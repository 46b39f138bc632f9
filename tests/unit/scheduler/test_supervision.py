"""Supervision: as many actors as there is room for, and lost ones replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import pytest

from scheduler.core.ids import ActorId
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
    """A supervisor at work on a fake backend."""

    def __init__(self, launcher: FakeLauncher, rules: SupervisionRules = RULES) -> None:
        self.launcher = launcher
        self.died: asyncio.Queue[ActorId] = asyncio.Queue()
        self.supervisor = Supervisor(launcher, self.died.put_nowait, rules)
        self.run = asyncio.create_task(self.supervisor.run())

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
    watched.launcher.room = 3
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

        async def adopt(self) -> Sequence[tuple[ActorId, FakeActor]]:
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
    watched.launcher.room = 1
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

        async def capacity(self) -> int:
            self.surveys += 1
            if self.surveys > 1:
                raise OSError("away")
            return self.room

        async def kill(self, handle: FakeActor, *, grace: float = 0.0) -> None:
            await super().kill(handle, grace=grace)
            raise OSError("away")

    watched = Watched(Failing())
    lost = await watched.next()
    watched.supervisor.replace(lost.actor)
    await watched.next()
    await watched.stop()
