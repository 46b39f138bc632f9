"""The moves of sessions from actor to actor, as a table and in time."""

from __future__ import annotations

import pytest

from gateway.moving import (
    ANSWER_S,
    CHUNK_S,
    FEED_S,
    FOREIGN_S,
    HAND_OVER_S,
    LATE_S,
    TABLE,
    Act,
    Event,
    Move,
    Stage,
)

pytestmark = pytest.mark.unit


def at(stage: Stage) -> Move:
    """Returns a move that has come so far, by the way that moves go."""
    move = Move()
    way = [Event.TOLD, Event.PREPARED, Event.HANDED_OVER]
    for event in way[: list(Stage).index(stage)]:
        move.tell(event, 0.0)
    assert move.stage is stage
    return move


def test_a_move_without_a_mishap() -> None:
    move = Move()
    assert move.tell(Event.TOLD, 10.0) == (Act.STAND_BY,)
    move.prepare(10.0, live=False, running=False)
    assert (move.stage, move.wake_at) == (Stage.PREPARING, 10.0 + ANSWER_S)
    move.answered(10.1)
    assert move.wake(10.1) == (Act.HAND_OVER,)
    assert (move.stage, move.wake_at) == (Stage.HANDING_OVER, 10.1 + HAND_OVER_S)
    assert move.tell(Event.HANDED_OVER, 10.4) == (Act.GO_ON,)
    assert (move.stage, move.wake_at) == (Stage.OVERLAPPING, None)
    move.last_shown(11.0)
    assert move.wake(11.0) == ()
    assert move.wake(11.0 + LATE_S) == (Act.LEAVE_OLD,)
    assert (move.stage, move.wake_at) == (Stage.STAYING, None)


def test_an_actor_that_says_nothing_is_handed_the_session_all_the_same() -> None:
    move = at(Stage.PREPARING)
    move.prepare(0.0, live=False, running=False)
    assert move.wake(ANSWER_S) == (Act.HAND_OVER,)


def test_a_live_session_is_handed_over_when_the_new_actor_has_seen_enough() -> None:
    move = at(Stage.PREPARING)
    move.prepare(0.0, live=True, running=False)
    move.answered(0.1)
    assert move.wake(0.2) == ()
    move.fed(0.3)
    assert move.wake_at == pytest.approx(0.3 + FEED_S)


def test_who_has_not_the_camera_leaves_the_asking_to_who_has_it_for_a_while() -> None:
    move = at(Stage.PREPARING)
    move.prepare(0.0, live=True, running=False)
    assert move.wake_at == FOREIGN_S > FEED_S
    move.fed(FOREIGN_S - FEED_S / 2)
    assert move.wake_at == FOREIGN_S, "nor does a late keyframe make it longer"


def test_a_session_that_runs_is_handed_over_right_after_a_chunk() -> None:
    move = at(Stage.PREPARING)
    move.prepare(0.0, live=False, running=True)
    assert move.announced(0.1) == (), "the new actor is not ready"
    move.answered(0.2)
    assert move.wake(0.2) == ()
    move.fed(0.3)
    move.answered(0.3)
    assert move.wake_at == pytest.approx(0.2 + CHUNK_S)
    assert move.announced(0.9) == (Act.HAND_OVER,)
    assert move.announced(1.0) == ()


def test_a_chunk_that_does_not_come_is_not_waited_for_for_ever() -> None:
    move = at(Stage.PREPARING)
    move.prepare(0.0, live=False, running=True)
    assert move.wake(ANSWER_S) == ()
    assert move.wake(ANSWER_S + CHUNK_S) == (Act.HAND_OVER,)


@pytest.mark.parametrize(
    ("stage", "event", "after", "acts"),
    [
        (Stage.STAYING, Event.OLD_LOST, Stage.STAYING, (Act.RESTORE,)),
        (Stage.PREPARING, Event.OLD_LOST, Stage.STAYING, (Act.TAKE_OVER,)),
        (Stage.HANDING_OVER, Event.OLD_LOST, Stage.STAYING, (Act.TAKE_OVER,)),
        (Stage.OVERLAPPING, Event.OLD_LOST, Stage.OVERLAPPING, ()),
        (Stage.PREPARING, Event.NEW_LOST, Stage.STAYING, (Act.LEAVE_NEW,)),
        (Stage.HANDING_OVER, Event.NEW_LOST, Stage.STAYING, (Act.LEAVE_NEW,)),
        (Stage.OVERLAPPING, Event.NEW_LOST, Stage.STAYING, (Act.LEAVE_OLD, Act.RESTORE)),
        (Stage.HANDING_OVER, Event.KEPT, Stage.STAYING, (Act.LEAVE_NEW,)),
        (Stage.STAYING, Event.HANDED_OVER, Stage.OVERLAPPING, (Act.SEEK,)),
        (Stage.PREPARING, Event.HANDED_OVER, Stage.OVERLAPPING, (Act.GO_ON,)),
        (Stage.PREPARING, Event.TOLD, Stage.PREPARING, (Act.STAND_BY,)),
        (Stage.HANDING_OVER, Event.TOLD, Stage.PREPARING, (Act.STAND_BY,)),
        (Stage.OVERLAPPING, Event.TOLD, Stage.OVERLAPPING, (Act.GO_ON,)),
    ],
)
def test_what_goes_wrong_on_the_way(
    stage: Stage, event: Event, after: Stage, acts: tuple[Act, ...]
) -> None:
    move = at(stage)
    assert move.tell(event, 1.0) == acts
    assert move.stage is after


def test_a_hand_over_that_is_not_answered_counts_as_a_death() -> None:
    move = at(Stage.HANDING_OVER)
    assert move.wake(HAND_OVER_S - 0.1) == ()
    assert move.wake(HAND_OVER_S) == (Act.TAKE_OVER,)


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("event", Event)
def test_what_is_not_in_the_table_changes_nothing(stage: Stage, event: Event) -> None:
    move = at(stage)
    if (stage, event) not in TABLE:
        known = move.wake_at
        assert move.tell(event, 5.0) == ()
        assert (move.stage, move.wake_at) == (stage, known)


@pytest.mark.parametrize("stage", Stage)
def test_from_every_stage_a_loss_of_both_actors_leads_to_another_place(stage: Stage) -> None:
    move = at(stage)
    acts: list[Act] = []
    # Of two actors the one that goes on counts last.
    for event in (Event.OLD_LOST, Event.NEW_LOST):
        acts += move.tell(event, 1.0)
    if Act.TAKE_OVER in acts:  # then the new one is the only one
        acts += move.tell(Event.OLD_LOST, 1.0)
    assert (move.stage, acts.count(Act.RESTORE)) == (Stage.STAYING, 1)


def test_there_is_no_time_without_a_stage_that_has_one() -> None:
    move = Move()
    move.answered(1.0)
    move.fed(1.0)
    move.last_shown(1.0)
    move.prepare(1.0, live=False, running=False)
    assert (move.wake_at, move.wake(99.0)) == (None, ())
