"""Messages of a session as the public contract shows them."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import get_args

import pytest

from sana_gateway.v1 import message_pb2
from scheduler import wire
from scheduler.core import messages
from scheduler.core.messages import Continuity, Message, SessionMoved
from tests.unit.scheduler.session_driver import SessionDriver

pytestmark = pytest.mark.unit


def test_every_message_has_its_place_in_the_contract() -> None:
    places = {
        field.name for field in message_pb2.Message.DESCRIPTOR.oneofs_by_name["payload"].fields
    }
    kinds = {
        "".join(f"_{each.lower()}" if each.isupper() else each for each in kind.__name__)[1:]
        for kind in get_args(messages.Payload)
    }
    assert kinds == places


@pytest.mark.parametrize("continuity", Continuity)
def test_a_move_says_how_the_session_goes_on(continuity: Continuity) -> None:
    said = wire.message_out(Message(7, SessionMoved(continuity, "its worker was lost")))
    assert said.revision == 7
    assert said.session_moved.reason == "its worker was lost"
    name = message_pb2.Continuity.Name(said.session_moved.continuity)
    assert name == f"CONTINUITY_{continuity.name}"


def test_a_state_shows_every_field() -> None:
    state = replace(SessionDriver().session.state(), awaiting_room=True, degraded_frame_rate=16.0)
    shown = wire.state_out(state)
    assert (shown.awaiting_room, shown.degraded_frame_rate) == (True, 16.0)
    assert {each.name for each in fields(state)} == set(shown.DESCRIPTOR.fields_by_name)
