"""Who is connected to what, and since when nobody is."""

from __future__ import annotations

import pytest

from scheduler.core.ids import GatewayId, SessionId
from scheduler.core.presence import Presence

pytestmark = pytest.mark.unit

G, H = GatewayId("g"), GatewayId("h")
S, T = SessionId("s"), SessionId("t")


@pytest.fixture
def presence() -> Presence:
    return Presence(30.0)


def test_only_the_first_and_the_last_connection_are_news(presence: Presence) -> None:
    assert presence.report(G, {S: 1}, 0.0, complete=False) == [S]
    assert presence.report(H, {S: 2}, 0.0, complete=False) == []
    assert presence.report(G, {S: 0}, 1.0, complete=False) == []
    assert presence.lose(H, 2.0) == [S]
    assert presence.deserted_since(S) == 2.0
    assert presence.deserted(31.9) == []
    assert presence.deserted(32.0) == [S]
    assert presence.deserted(99.0) == [], "once"


def test_a_complete_report_names_all_there_is(presence: Presence) -> None:
    presence.report(G, {S: 1, T: 1}, 0.0, complete=True)
    assert presence.report(G, {T: 1}, 1.0, complete=True) == [S]
    assert presence.is_connected(T)
    assert presence.any_gateway(T) == G
    assert presence.any_gateway(S) == ""


def test_watching_begins_the_window_once(presence: Presence) -> None:
    presence.watch(S, 0.0)
    presence.watch(S, 20.0)
    assert not presence.was_connected(S)
    assert presence.next_deadline() == 30.0
    presence.unwatch(S)
    assert presence.next_deadline() is None
    presence.watch(S, 20.0)
    assert presence.next_deadline() == 50.0


def test_what_was_connected_once_stays_so(presence: Presence) -> None:
    presence.report(G, {S: 1}, 0.0, complete=False)
    presence.unwatch(S)
    presence.watch(S, 1.0)
    presence.report(G, {S: 0}, 2.0, complete=False)
    assert presence.was_connected(S)


def test_what_is_forgotten_leaves_nothing(presence: Presence) -> None:
    presence.report(G, {S: 1}, 0.0, complete=False)
    presence.forget(S)
    assert not presence.is_connected(S)
    assert presence.lose(G, 1.0) == []
    assert presence.next_deadline() is None
