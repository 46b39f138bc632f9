"""The lease machine."""

from __future__ import annotations

import pytest

from scheduler.core.errors import InvariantError
from scheduler.core.ids import GatewayId, Principal, SessionId
from scheduler.core.lease import TRANSITIONS, Lease, LeaseState, Step

pytestmark = pytest.mark.unit


def lease(state: LeaseState) -> Lease:
    return Lease(SessionId("s"), "m", Principal("t", frozenset()), GatewayId("g"), 0.0, state=state)


@pytest.mark.parametrize("state", LeaseState)
@pytest.mark.parametrize("step", Step)
def test_a_step_does_what_the_table_says_and_nothing_else(state: LeaseState, step: Step) -> None:
    subject = lease(state)
    after = TRANSITIONS[state].get(step)
    if after is None:
        with pytest.raises(InvariantError):
            subject.step(step)
        assert subject.state is state
    else:
        subject.step(step)
        assert subject.state is after


def test_every_state_is_reached_from_queued() -> None:
    reached, border = {LeaseState.QUEUED}, [LeaseState.QUEUED]
    while border:
        for after in TRANSITIONS[border.pop()].values():
            if after not in reached:
                reached.add(after)
                border.append(after)
    assert reached == set(LeaseState)


def test_every_state_but_the_last_leads_to_released() -> None:
    for state in set(LeaseState) - {LeaseState.RELEASED}:
        assert TRANSITIONS[state][Step.RELEASE] is LeaseState.RELEASED
    assert TRANSITIONS[LeaseState.RELEASED] == {}


def test_a_placed_session_is_never_sent_back_to_the_queue() -> None:
    assert [
        state for state, steps in TRANSITIONS.items() if LeaseState.QUEUED in steps.values()
    ] == [LeaseState.ASSIGNED]
