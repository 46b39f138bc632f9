"""The connection machine."""

from __future__ import annotations

import pytest

from gateway.connection import TRANSITIONS, Event, Status, after
from scheduler.core.errors import InvariantError

pytestmark = pytest.mark.unit


def test_a_connection_goes_from_disconnected_to_ready_in_the_clients_words() -> None:
    status = Status.DISCONNECTED
    seen = []
    for event in (Event.CONNECT, Event.ACCEPTED, Event.OPENED):
        status = after(status, event)
        seen.append(status.value)
    assert seen == ["connecting", "waiting", "ready"]


def test_a_lost_actor_sends_it_back_to_waiting() -> None:
    assert after(Status.READY, Event.LOST) is Status.WAITING
    assert after(Status.WAITING, Event.OPENED) is Status.READY


@pytest.mark.parametrize("status", list(Status))
def test_every_status_can_be_closed(status: Status) -> None:
    assert after(status, Event.CLOSED) is Status.DISCONNECTED


def test_every_status_is_reached_and_left() -> None:
    assert set(TRANSITIONS.values()) == set(Status)
    assert {at for at, _ in TRANSITIONS} == set(Status)


def test_what_cannot_happen_is_an_error_of_ours() -> None:
    with pytest.raises(InvariantError, match="disconnected"):
        after(Status.DISCONNECTED, Event.OPENED)
