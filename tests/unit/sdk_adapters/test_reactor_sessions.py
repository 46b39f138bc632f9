"""What is watched over: silence, half-open calls, ended sessions, limits."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from scheduler.core.errors import LimitError, UnknownSessionError
from scheduler.core.ids import Principal
from sdk_adapters.reactor import sessions
from sdk_adapters.reactor.sessions import Call, Link, Room, Sessions
from tests.fakes.hub import FakeHub
from tests.fakes.peers import FakeDataChannel, FakePeers
from tests.fakes.services import fake_services

pytestmark = pytest.mark.unit

CALLER = Principal("local", frozenset({"session"}))
JS = {"sdk_type": "js", "sdk_version": "2.9.0"}


class Watch:
    """Sessions under a clock of our own."""

    def __init__(self, hub: FakeHub) -> None:
        self.hub = hub
        self.peers = FakePeers()
        self.now = 1000.0
        self.sessions = Sessions(fake_services(hub, peers=self.peers), now=lambda: self.now)

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.sessions.look()

    async def called(self) -> tuple[Room, Link, Call]:
        room = await self.sessions.create(CALLER, "painter")
        link = room.link(room.register())
        self.sessions.offer(room, link, "offer", {"0": "main_video"}, JS)
        assert await self.sessions.answer(link, _stays) == "answer to offer"
        assert link.call is not None
        return room, link, link.call


def _stays() -> bool:
    """A client that does not hang up."""
    return False


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    made = Watch(FakeHub())
    yield made
    await made.sessions.stop()


async def test_a_call_that_never_connects_is_ended(watch: Watch) -> None:
    _, link, call = await watch.called()
    watch.later(sessions.HALF_OPEN_S)
    assert not call.over
    watch.later(1)
    assert call.over
    assert watch.hub.session.open_connections == []
    with pytest.raises(UnknownSessionError):
        await watch.sessions.answer(link, _stays)


async def test_a_silent_client_loses_its_connection_and_keeps_its_session(watch: Watch) -> None:
    room, _, call = await watch.called()
    data = FakeDataChannel("data")
    call.conversation.opened(data)
    watch.later(15)
    data.receive('{"scope":"runtime","data":{"type":"ping","data":{}}}')
    watch.later(sessions.SILENCE_S)
    assert not call.over
    watch.later(1)
    assert call.over
    assert not room.ended


async def test_an_ended_session_is_left_to_the_hub(watch: Watch) -> None:
    room, _, call = await watch.called()
    watch.hub.session.end("over")
    assert call.over
    watch.later(1)
    again = await watch.sessions.find(CALLER, room.session.session_id)
    assert again is not room
    assert again.ended
    del watch.hub.sessions[room.session.session_id]
    watch.later(1)
    with pytest.raises(UnknownSessionError):
        await watch.sessions.find(CALLER, room.session.session_id)


async def test_others_do_not_find_a_session_that_is_in_use_here(watch: Watch) -> None:
    room = await watch.sessions.create(CALLER, "painter")
    with pytest.raises(UnknownSessionError):
        await watch.sessions.find(Principal("other", frozenset()), room.session.session_id)


async def test_registered_connections_are_limited_but_idle_ones_make_room(watch: Watch) -> None:
    room = await watch.sessions.create(CALLER, "painter")
    numbers = [room.register() for _ in range(sessions.MAX_LINKS + 10)]
    assert len(set(numbers)) == len(numbers)
    assert len(room.links) <= sessions.MAX_LINKS + 1
    with pytest.raises(UnknownSessionError):
        room.link(numbers[0])
    for number in list(room.links):
        watch.sessions.offer(room, room.link(number), "offer", {"0": "main_video"}, JS)
    with pytest.raises(LimitError):
        room.register()


async def test_stopping_hangs_up_on_everybody(watch: Watch) -> None:
    _, _, call = await watch.called()
    await watch.sessions.stop()
    assert call.over
    assert watch.peers.peers[0].closed
    assert watch.hub.session.open_connections == []


async def test_hanging_up_twice_is_no_error(watch: Watch) -> None:
    _, _, call = await watch.called()
    watch.sessions.hang_up(call, "test")
    watch.sessions.hang_up(call, "test")
    assert watch.hub.session.open_connections == []
