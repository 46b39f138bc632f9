"""Names of streams: whose they are, what they stand for, when they are forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import cast

import pytest

from gateway.auth import Access
from gateway.ingress import IngressServices
from scheduler.core.errors import ForbiddenError, UnknownSessionError
from scheduler.core.ids import Grant, Holder, Principal
from sdk_adapters.whip import names, streams
from sdk_adapters.whip.streams import Streams
from tests.fakes.hub import FakeHub
from tests.fakes.session import FakeSession

pytestmark = pytest.mark.unit

SCOPES = frozenset({"session"})
SERVER = Principal("acme", SCOPES, (Holder("key:web"),))
"""Shows a token that is not narrowed."""


def narrowed(user: str, *bound: str) -> Principal:
    """Returns a caller whose token reaches what it made, and what it is bound to."""
    grant = Grant(sessions=frozenset(bound), own=f"token:{user}")
    return Principal("acme", SCOPES, (Holder("key:web"), Holder(f"token:{user}")), grant)


def guest(*bound: str) -> Principal:
    """Returns a caller whose token creates nothing."""
    return Principal("acme", SCOPES, (Holder("key:web"),), Grant(sessions=frozenset(bound)))


class GrantingHub(FakeHub):
    """Asks what the gateway's hub asks, and may be slow to find."""

    def __init__(self) -> None:
        super().__init__(("painter", "other"))
        self._access = Access(lambda: None)
        self.gates: list[asyncio.Event] = []
        """One for each of the next calls of `find`."""

    async def create(self, principal: Principal, model: str, request_id: str = "") -> FakeSession:
        self._access.may_create(principal, model)
        await asyncio.sleep(0)
        return await super().create(principal, model, request_id)

    async def find(self, principal: Principal, session_id: str) -> FakeSession:
        if self.gates:
            gate = self.gates.pop(0)
            self.changes.happened()
            await gate.wait()
        session = await super().find(principal, session_id)
        self._access.may_use(principal, session_id, session.principal, session.model)
        return session


@pytest.fixture
def hub() -> GrantingHub:
    return GrantingHub()


@pytest.fixture
async def made(hub: GrantingHub) -> AsyncIterator[Streams]:
    streams = Streams(cast(IngressServices, SimpleNamespace(hub=hub)))
    yield streams
    await streams.stop()


async def published(made: Streams, principal: Principal, name: str = "~studio") -> FakeSession:
    return cast(FakeSession, await made.publish(principal, "painter", name))


# Two who come at once


async def test_who_was_slow_to_learn_that_a_session_is_gone_finds_the_new_one(
    hub: GrantingHub, made: Streams
) -> None:
    old = await published(made, SERVER)
    del hub.sessions[old.session_id]
    first, second = asyncio.Event(), asyncio.Event()
    hub.gates = [first, second]
    fast = asyncio.create_task(published(made, SERVER))
    slow = asyncio.create_task(published(made, SERVER))
    await hub.until(lambda: not hub.gates)
    first.set()
    new = await fast
    second.set()
    assert await slow is new
    assert list(hub.sessions) == [new.session_id]
    assert await made.find(SERVER, "~studio") is new


async def test_a_player_waits_for_the_session_that_is_being_made(
    hub: GrantingHub, made: Streams
) -> None:
    publishing = asyncio.create_task(published(made, SERVER))
    await asyncio.sleep(0)
    assert not hub.sessions
    found = await made.find(SERVER, "~studio")
    assert await publishing is found


# Whose a name is


async def test_narrowed_tokens_have_names_of_their_own(made: Streams) -> None:
    one = await published(made, narrowed("one"))
    two = await published(made, narrowed("two"))
    assert one is not two
    for user, session in (("one", one), ("two", two)):
        assert await made.find(narrowed(user), "~studio") is session
        assert await published(made, narrowed(user)) is session
    with pytest.raises(UnknownSessionError):
        await made.find(narrowed("three"), "~studio")


async def test_who_is_not_narrowed_finds_the_names_of_all_and_its_own_first(made: Streams) -> None:
    one = await published(made, narrowed("one"))
    two = await published(made, narrowed("two"))
    assert await made.find(SERVER, "~studio") is one
    one.end("over")
    assert await made.find(SERVER, "~studio") is two
    other_key = Principal("acme", SCOPES, (Holder("key:other"),))
    own = await published(made, other_key)
    assert await made.find(SERVER, "~studio") is own
    assert await published(made, SERVER) is own
    with pytest.raises(UnknownSessionError):
        await made.find(Principal("other", SCOPES), "~studio")


async def test_nobody_publishes_into_what_another_named_so(made: Streams) -> None:
    users = await published(made, narrowed("one"))
    assert await published(made, SERVER) is not users


async def test_a_token_that_is_bound_to_a_session_finds_it_by_its_name(made: Streams) -> None:
    session = await published(made, SERVER)
    bound = session.session_id
    for caller in (guest(bound), narrowed("one", bound)):
        assert await made.find(caller, "~studio") is session
        assert await published(made, caller) is session
    with pytest.raises(UnknownSessionError):
        await made.find(guest("another"), "~studio")
    with pytest.raises(ForbiddenError):
        await published(made, guest("another"))


# When they are forgotten


async def test_names_of_ended_sessions_make_room_before_the_oldest(
    made: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "MAX_NAMES", 3)
    kept = [await published(made, SERVER, f"~{number}") for number in range(3)]
    kept[1].end("over")
    newest = await published(made, SERVER, "~3")
    assert await made.find(SERVER, "~0") is kept[0]
    assert await made.find(SERVER, "~3") is newest
    await published(made, SERVER, "~4")
    with pytest.raises(UnknownSessionError):
        await made.find(SERVER, "~0")
    assert await made.find(SERVER, "~2") is kept[2]
    assert kept[0].end_reason is None


async def test_a_tenant_takes_no_room_from_another(
    made: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "MAX_NAMES", 3)
    other = Principal("other", SCOPES)
    session = await published(made, other)
    for number in range(5):
        await published(made, SERVER, f"~{number}")
    assert await made.find(other, "~studio") is session


async def test_names_of_ended_sessions_are_forgotten(
    made: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_LOOKED_AT", 1)
    ended = await published(made, narrowed("one"))
    lives = await published(made, narrowed("two"))
    assert len(made.names) == 2
    ended.end("over")
    await made.sweep()
    assert len(made.names) == 1
    assert await made.find(SERVER, "~studio") is lives


def test_a_name_that_was_given_anew_is_not_forgotten_for_the_old_one() -> None:
    hub, known = FakeHub(), names.Names()
    old, new = (
        FakeSession(hub.changes, each, SERVER, "painter", ready=True) for each in ("s1", "s2")
    )
    key = names.own_key(SERVER, "~studio")
    known.give(key, old)
    looked_up = known.find(SERVER, "~studio", to_publish=True)
    assert looked_up is not None
    known.give(key, new)
    known.forget(looked_up)
    found = known.find(SERVER, "~studio", to_publish=True)
    assert found is not None
    assert found.session is new
    known.forget(found)
    assert len(known) == 0
