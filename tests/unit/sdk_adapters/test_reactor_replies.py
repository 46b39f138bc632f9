"""Which message answers which request."""

from __future__ import annotations

import pytest

from scheduler.core.errors import LimitError
from sdk_adapters.reactor.replies import MAX_PENDING, Replies

pytestmark = pytest.mark.unit


@pytest.fixture
def replies() -> Replies:
    return Replies()


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("set_prompt", "prompt_accepted"),
        ("set_video", "video_accepted"),
        ("reset", "generation_reset"),
    ],
)
def test_a_reply_answers_its_command_before_or_after_the_ack(
    replies: Replies, command: str, reply: str
) -> None:
    for early in (True, False):
        replies.expect("c", "data_1", command)
        if early:
            assert replies.message("c", reply) == "data_1"
            assert replies.ack("c", accepted=True) is None
        else:
            assert replies.ack("c", accepted=True) is None
            assert replies.awaits("c")
            assert replies.message("c", reply) == "data_1"
        assert not replies.awaits("c")


@pytest.mark.parametrize("command", ["start", "resume", "pause", "set_mode", "set_seed", "what"])
def test_commands_without_reply_are_acked_when_accepted(replies: Replies, command: str) -> None:
    replies.expect("c", "data_1", command)
    assert replies.message("c", "state") == ""
    assert replies.ack("c", accepted=True) == "data_1"
    assert replies.ack("c", accepted=True) is None


def test_generation_started_is_a_notification_even_before_the_ack(replies: Replies) -> None:
    replies.expect("c", "data_1", "start")
    assert replies.message("c", "generation_started") == ""
    assert replies.ack("c", accepted=True) == "data_1"


@pytest.mark.parametrize("command", ["start", "set_prompt", "set_video", "no_such_command"])
def test_a_refusal_answers_at_once(replies: Replies, command: str) -> None:
    replies.expect("c", "data_1", command)
    assert replies.message("c", "command_error") == "data_1"
    assert replies.ack("c", accepted=False) is None
    assert not replies.awaits("c")


def test_a_refusal_after_the_ack_is_a_notification(replies: Replies) -> None:
    replies.expect("c", "data_1", "start")
    assert replies.ack("c", accepted=True) == "data_1"
    assert replies.message("c", "command_error") == ""


def test_a_refusal_may_follow_its_ack(replies: Replies) -> None:
    replies.expect("c", "data_1", "start")
    assert replies.ack("c", accepted=False) is None
    assert replies.message("c", "command_error") == "data_1"


def test_the_same_message_answers_only_one_of_two_requests(replies: Replies) -> None:
    replies.expect("c1", "data_1", "set_prompt")
    replies.expect("c2", "data_2", "set_prompt")
    assert replies.message("c2", "prompt_accepted") == "data_2"
    assert replies.message("c1", "prompt_accepted") == "data_1"
    assert replies.message("c1", "prompt_accepted") == ""


def test_messages_of_nobodys_command_are_notifications(replies: Replies) -> None:
    assert replies.message("", "prompt_accepted") == ""
    assert replies.ack("c", accepted=True) is None


def test_an_accepted_command_whose_reply_is_late_is_acked(replies: Replies) -> None:
    replies.expect("c", "data_1", "set_video")
    replies.ack("c", accepted=True)
    assert replies.overdue("c") == "data_1"
    assert replies.overdue("c") is None
    assert replies.message("c", "video_accepted") == ""


def test_after_its_time_an_ack_is_answer_enough(replies: Replies) -> None:
    replies.expect("c", "data_1", "set_video")
    assert replies.overdue("c") is None
    assert replies.message("c", "video_accepted") == ""
    assert replies.ack("c", accepted=True) == "data_1"


def test_a_refused_command_is_never_acked(replies: Replies) -> None:
    replies.expect("c", "data_1", "set_video")
    replies.ack("c", accepted=False)
    assert replies.overdue("c") is None
    assert replies.message("c", "command_error") == "data_1"


def test_open_requests_are_limited(replies: Replies) -> None:
    for number in range(MAX_PENDING):
        replies.expect(f"c{number}", "data", "set_video")
    with pytest.raises(LimitError):
        replies.expect("one more", "data", "set_video")
    replies.forget("c0")
    replies.expect("one more", "data", "set_video")
