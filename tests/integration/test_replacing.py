"""A hub and actors over real gRPC: actors die, sessions move, are parked and copied."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from gateway import moving, seeking
from gateway.front_door.routing import WHOLE
from gateway.hub import GatewayHub
from gateway.links import ActorLinks
from gateway.placement import PlacementClient, SchedulerAwayError
from gateway.session import GatewaySession
from sana_gateway.v1 import command_pb2, media_pb2, session_pb2
from sana_gateway_internal.v1 import placement_pb2, stream_pb2
from scheduler.core.ids import Principal
from tests.fakes.gateway_parts import Ear, FakePlacement, lease
from tests.fakes.stream_actor import Played, StreamActor

pytestmark = pytest.mark.integration

ME = Principal("me", frozenset({"session"}))
Numbers = list[int]


class Site:
    """A gateway, three actors, and a scheduler that the test plays."""

    def __init__(self, folder: Path) -> None:
        self.actors = {name: StreamActor(name, folder) for name in ("one", "two", "three")}
        self.placement = FakePlacement()
        self.links = ActorLinks("g1")
        self.hub = GatewayHub(
            cast(PlacementClient, self.placement),
            self.links,
            max_connections=4,
            on_ended=lambda _: None,
            on_copied=_copied,
            new_session_id=WHOLE.new_session_id,
        )
        self.ear = Ear()
        self.asked = 0

    @property
    def news(self) -> Any:
        """Hears what the scheduler tells."""
        return self.placement.news

    async def place(self, name: str, epoch: int, **how: Any) -> Played:
        """Grants the place that was asked for last."""
        self.asked += 1
        asked = await self.placement.until_asked(self.asked)
        played = self.actors[name].admit(asked.session_id, epoch, **how)
        asked.grant(self.actors[name].address, epoch)
        return played

    async def playing(self) -> tuple[GatewaySession, Played]:
        """A session at the first actor, watched, in the middle of its run."""
        creating = asyncio.create_task(self.hub.create(ME, "painter"))
        played = await self.place("one", 1)
        session = await creating
        await session.wait_ready()
        connection, _ = session.connect(self.ear)
        connection.subscribe([media_pb2.CODEC_VP8], self.ear)
        await self.seen(30)
        return session, played

    def moves(self, session: GatewaySession, name: str, epoch: int) -> Played:
        """The scheduler has found another actor for a session."""
        played = self.actors[name].admit(session.session_id, epoch, restore=True)
        self.news.moves(lease(session.session_id, self.actors[name].address, ME, epoch=epoch))
        return played

    async def seen(self, count: int) -> None:
        """Waits until viewers were given so many frames."""
        await self.ear.changes.until(lambda: len(self.ear.frames) >= count, 30.0)

    def by(self, name: str) -> Numbers:
        """Returns the numbers of the frames that an actor made and viewers were given."""
        return [each.frame for each in self.ear.frames if each.data == name.encode()]

    def check(self) -> None:
        """Every frame was given once, in order, and nothing ended."""
        numbers = [each.frame for each in self.ear.frames]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        stamps = [each.timestamp_us for each in self.ear.frames]
        assert stamps == sorted(set(stamps))
        assert "ended" not in self.ear.kinds

    async def until(self, name: str, condition: Callable[[], Any]) -> Any:
        """Waits for something at an actor."""
        return await self.actors[name].changes.until(condition, 30.0)


def _has(ear: Ear, frames: int) -> bool:
    return len(ear.frames) >= frames


async def _copied(*_: Any) -> None:
    """There are no uploads here."""


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(seeking, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(moving, "ANSWER_S", 60.0)
    made = Site(tmp_path)
    for actor in made.actors.values():
        await actor.start()
    running = asyncio.create_task(made.hub.run())
    await made.placement.changes.until(lambda: made.placement.news)
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await made.hub.stop("the test is over")
    await made.links.close()
    for actor in made.actors.values():
        await actor.kill()


async def test_a_stream_goes_on_at_the_next_frame_after_its_actor_died(site: Site) -> None:
    session, _ = await site.playing()
    connection, _ = session.connect(Ear())
    await site.actors["one"].kill()
    command = command_pb2.Command(command_id="c1", pause=command_pb2.Pause())
    connection.command(command)
    two = await site.place("two", 2, restore=True)
    assert site.placement.asked[-1].near_host == "one"
    await site.seen(len(site.ear.frames) + 60)
    site.check()
    first = site.by("two")[0]
    assert two.opens[0].restore.next_frame == first
    assert next(each for each in site.ear.frames if each.frame == first).keyframe
    assert two.commands == ["c1"]
    revisions = [each.revision for each in site.ear.messages]
    assert revisions == sorted(set(revisions)), "and so do the messages"
    assert session.describe().status == session_pb2.SESSION_STATUS_READY


async def test_an_actor_that_ends_in_order_costs_no_frame_either(site: Site) -> None:
    session, _ = await site.playing()
    one = site.actors["one"]
    del one.sessions[session.session_id]
    one._tell(session.session_id, refused=stream_pb2.Refused(reason="the actor ends"))
    two = await site.place("two", 2, restore=True)
    await site.seen(len(site.ear.frames) + 60)
    site.check()
    assert two.opens[0].restore.next_frame == site.by("two")[0]
    assert session.describe().status == session_pb2.SESSION_STATUS_READY


async def test_actor_after_actor_may_die_and_the_scheduler_be_away(site: Site) -> None:
    await site.playing()
    for epoch, (dead, alive) in enumerate((("one", "two"), ("two", "three")), start=2):
        await site.actors[dead].kill()
        site.asked += 1
        (await site.placement.until_asked(site.asked)).fail(SchedulerAwayError("restarting"))
        await site.place(alive, epoch, restore=True)
        await site.seen(len(site.ear.frames) + 40)
    site.check()
    assert all(site.by(name) for name in site.actors)


async def test_a_session_moves_without_a_frame_missing_or_shown_twice(site: Site) -> None:
    session, one = await site.playing()
    two = site.moves(session, "two", 2)
    await site.until("one", lambda: one.left)
    await site.seen(len(site.ear.frames) + 60)
    site.check()
    assert site.by("one") == list(range(one.made)), "who has made a frame shows it"
    assert site.by("two")[0] == one.made
    assert [each.standby for each in two.opens] == [True, False]
    assert two.opens[-1].restore.handed_over
    chunks = sorted({*one.commits, *two.commits})
    assert chunks == list(range(len(chunks)))
    assert not set(one.commits) & set(two.commits)
    assert len(site.placement.asked) == 1


async def test_sessions_move_back_and_forth(site: Site) -> None:
    session, _ = await site.playing()
    for epoch in range(2, 8):
        source, target = ("one", "two") if epoch % 2 == 0 else ("two", "one")
        old = site.actors[source].sessions[session.session_id]
        old.left = False
        site.moves(session, target, epoch)
        await site.until(source, partial(getattr, old, "left"))
    await site.seen(len(site.ear.frames) + 30)
    site.check()


async def test_an_actor_that_dies_before_it_hands_over_is_replaced_by_the_one_at_hand(
    site: Site,
) -> None:
    session, one = await site.playing()
    site.actors["one"].silent = True
    two = site.moves(session, "two", 2)
    await site.until("two", lambda: two.opens)
    await site.actors["one"].kill()
    await site.seen(len(site.ear.frames) + 60)
    site.check()
    assert site.by("two")
    assert len(site.placement.asked) == 1, "a place was there already"
    assert not one.left


async def test_a_new_actor_that_dies_while_it_stands_by_is_not_missed(site: Site) -> None:
    session, one = await site.playing()
    site.actors["one"].silent = True
    two = site.moves(session, "two", 2)
    await site.until("two", lambda: two.opens)
    await site.actors["two"].kill()
    await site.seen(len(site.ear.frames) + 60)
    site.check()
    assert not one.left
    assert site.by("two") == []


async def test_a_new_actor_that_dies_after_the_hand_over_is_a_death_like_any_other(
    site: Site,
) -> None:
    session, one = await site.playing()
    two = site.moves(session, "two", 2)
    await site.until("two", lambda: len(two.opens) == 2)
    await site.actors["two"].kill()
    three = await site.place("three", 3, restore=True)
    await site.until("one", lambda: one.left)
    await site.seen(len(site.ear.frames) + 60)
    site.check()
    assert site.by("three")
    assert not three.opens[0].restore.handed_over


async def test_a_new_actor_that_does_not_take_what_was_handed_over_is_one_that_died(
    site: Site,
) -> None:
    session, _ = await site.playing()
    site.actors["two"].refuses_restored = True
    site.moves(session, "two", 2)
    await site.place("three", 3, restore=True)
    await site.seen(len(site.ear.frames) + 60)
    site.check()
    assert site.by("three")


async def test_a_parked_session_comes_back_with_a_command(site: Site) -> None:
    session, one = await site.playing()
    connection, _ = session.connect(Ear())
    del site.actors["one"].sessions[session.session_id]
    site.news.parked(
        placement_pb2.SessionParked(session_id=session.session_id, epoch=1, host="one")
    )
    assert session.describe().status == session_pb2.SESSION_STATUS_READY
    connection.command(command_pb2.Command(command_id="c1", resume=command_pb2.Resume()))
    two = await site.place("two", 2, restore=True)
    await site.seen(len(site.ear.frames) + 30)
    site.check()
    assert two.commands == ["c1"]
    assert one.commands == []


async def test_copies_go_on_from_where_the_session_was(site: Site) -> None:
    session, _ = await site.playing()
    forking = asyncio.create_task(site.hub.fork(ME, session.session_id, 2))
    first = await site.place("two", 1, restore=True)
    second = await site.place("three", 1, restore=True)
    copies = await forking
    assert [each.session_id for each in copies] == [first.session_id, second.session_id]
    for copy, played in zip(copies, (first, second), strict=True):
        await copy.wait_ready()
        ear = Ear()
        connection, _ = copy.connect(ear)
        connection.subscribe([media_pb2.CODEC_VP8], ear)
        await ear.changes.until(partial(_has, ear, 20), 30.0)
        begin = played.opens[0].restore.snapshot.run_seed
        assert begin > 0
        numbers = [each.frame for each in ear.frames]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert numbers[0] >= begin
        assert played.opens[0].restore.snapshot.revision == 0, "nobody has heard of it yet"
    await site.seen(len(site.ear.frames) + 20)
    site.check()
