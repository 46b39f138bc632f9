"""Prompts are judged before they go on: in order, within a time, and without being told of."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from unittest.mock import Mock

import pytest
from prometheus_client.registry import REGISTRY
from structlog.testing import capture_logs

from gateway.client_connection import MAX_UNANSWERED, ClientConnection
from gateway.links import ActorLink
from gateway.moderation import ALLOWED, NOT_ALLOWED, Question, Verdict
from gateway.moderation.asking import LONGEST_REASON, UNANSWERED, Moderation, Policy
from gateway.pacing import Pacing
from gateway.session import GatewaySession
from sana_gateway.v1 import command_pb2, message_pb2
from scheduler.core.errors import LimitError
from scheduler.core.ids import Principal
from tests.fakes.changes import Changes
from tests.fakes.gateway_parts import Ear, FakeLink, lease

pytestmark = pytest.mark.unit

ME = Principal("acme", frozenset({"session"}))
WORD = "marmalade"


class Judge:
    """Judges when the test says so; words that it knows are refused."""

    def __init__(self, *refused: str) -> None:
        self.refused = refused
        self.questions: list[Question] = []
        self.cancelled = 0
        self.open = asyncio.Event()
        self.open.set()
        self.changes = Changes()

    async def check(self, question: Question) -> Verdict:
        self.questions.append(question)
        self.changes.happened()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            self.changes.happened()
            raise
        if any(word in question.prompt for word in self.refused):
            return Verdict(allowed=False, reason=f"no {question.prompt}\n\x1b[31mplease")
        return ALLOWED


class Broken:
    """Fails as often as it is told to."""

    def __init__(self, times: int) -> None:
        self.left = times

    async def check(self, question: Question) -> Verdict:
        if self.left:
            self.left -= 1
            raise ValueError(question.prompt)
        return ALLOWED


class Bench:
    """A session with a moderator, one connection and an actor."""

    def __init__(
        self, moderator: Any, *, timeout_s: float = 60.0, on_failure: Policy = "refuse"
    ) -> None:
        self.link, self.ear = FakeLink(), Ear()
        self.session = GatewaySession(
            "s1",
            "painter",
            ME,
            Mock(),
            max_connections=4,
            pacing=Pacing(),
            moderation=Moderation(moderator, timeout_s=timeout_s, on_failure=on_failure),
        )
        self.session.join(lease("s1", self.link.address, ME), cast(ActorLink, self.link))
        self.link.open("s1", 1)
        self.connection = self.connect()

    def connect(self) -> ClientConnection:
        return self.session.connect(Ear())[0]

    def say(self, *prompts: str | None, on: ClientConnection | None = None) -> None:
        """Sends prompts, and a pause for each None."""
        for number, prompt in enumerate(prompts):
            command = command_pb2.Command(command_id=f"c{number}")
            if prompt is None:
                command.pause.SetInParent()
            else:
                command.set_prompt.prompt = prompt
            (on or self.connection).command(command)

    @property
    def passed(self) -> list[str]:
        """What has gone on to the actor: prompts, `pause`, and refusals as `!reason`."""
        said = []
        for each in self.link.of("command"):
            if each.HasField("invalid"):
                said.append(f"!{each.invalid.reason}")
            else:
                said.append(each.command.set_prompt.prompt or "pause")
        return said

    async def until(self, count: int) -> list[str]:
        await self.link.changes.until(lambda: len(self.passed) >= count)
        return self.passed


async def test_a_prompt_that_is_allowed_goes_on_and_the_moderator_knows_whose_it_is() -> None:
    judge = Judge()
    bench = Bench(judge)
    bench.say("a fox")
    assert await bench.until(1) == ["a fox"]
    assert judge.questions == [Question("a fox", "acme", "s1", "painter")]


async def test_a_refused_prompt_is_answered_by_the_session_in_its_turn() -> None:
    bench = Bench(Judge(WORD))
    bench.say(f"{WORD} on toast")
    await bench.until(1)
    (command,) = bench.link.of("command")
    assert command.invalid.command_id == "c0"
    assert command.invalid.name == "set_prompt"
    assert command.invalid.code == message_pb2.REJECT_REASON_NOT_ALLOWED
    assert command.invalid.reason == f"no {WORD} on toast [31mplease", "one line, printable"


async def test_commands_wait_for_the_prompt_before_them_and_keep_their_order() -> None:
    judge = Judge(WORD)
    judge.open.clear()
    bench = Bench(judge)
    bench.say("a fox", None, WORD, None, "a hare")
    await judge.changes.until(lambda: judge.questions)
    assert bench.passed == []
    judge.open.set()
    passed = await bench.until(5)
    assert [each[:5] for each in passed] == ["a fox", "pause", "!no m", "pause", "a har"]


async def test_commands_without_a_prompt_before_them_do_not_wait() -> None:
    judge = Judge()
    judge.open.clear()
    bench = Bench(judge)
    bench.say(None)
    assert bench.passed == ["pause"]
    bench.say("a fox")
    bench.say(None, on=bench.connect())
    assert bench.passed == ["pause", "pause"], "another connection's prompt holds up nobody"


@pytest.mark.parametrize(("policy", "passed"), [("refuse", f"!{UNANSWERED}"), ("allow", "a fox")])
async def test_a_moderator_that_hangs_is_not_waited_for(policy: Policy, passed: str) -> None:
    judge = Judge()
    judge.open.clear()
    bench = Bench(judge, timeout_s=0.01, on_failure=policy)
    with capture_logs() as log:
        bench.say("a fox", None)
        assert await bench.until(2) == [passed, "pause"]
    assert judge.cancelled == 1
    assert [each["event"] for each in log] == ["moderation.unanswered"]


@pytest.mark.parametrize(("policy", "passed"), [("refuse", f"!{UNANSWERED}"), ("allow", WORD)])
async def test_a_moderator_that_fails_is_told_of_once_and_without_the_prompt(
    policy: Policy, passed: str
) -> None:
    bench = Bench(Broken(3), on_failure=policy)
    with capture_logs() as log:
        bench.say(*[WORD] * 4)
        assert await bench.until(4) == [*[passed] * 3, WORD]
    assert [each["event"] for each in log] == ["moderation.unanswered", "moderation.answers_again"]
    assert WORD not in str(log)
    assert log[0]["error"] == "ValueError"


async def test_who_leaves_is_not_judged_any_more() -> None:
    judge = Judge()
    judge.open.clear()
    bench = Bench(judge)
    bench.say("a fox", "a hare")
    await judge.changes.until(lambda: judge.questions)
    bench.connection.close()
    await judge.changes.until(lambda: judge.cancelled)
    judge.open.set()
    await asyncio.sleep(0)
    assert len(judge.questions) == 1
    assert bench.passed == []


async def test_what_waits_counts_among_the_unanswered_commands() -> None:
    judge = Judge()
    judge.open.clear()
    bench = Bench(judge)
    for number in range(MAX_UNANSWERED):
        bench.connection.command(
            command_pb2.Command(
                command_id=f"c{number}", set_prompt=command_pb2.SetPrompt(prompt="a fox")
            )
        )
    with pytest.raises(LimitError):
        bench.say("one more")


async def test_a_reason_is_cut_and_never_empty() -> None:
    class Talker:
        said = "x" * 5000

        async def check(self, question: Question) -> Verdict:
            return Verdict(allowed=False, reason=self.said)

    moderation = Moderation(talker := Talker())
    question = Question("a", "b", "c", "d")
    assert await moderation.refusal(question) == "x" * LONGEST_REASON
    talker.said = " \n\x00"
    assert await moderation.refusal(question) == NOT_ALLOWED


async def test_outcomes_are_counted() -> None:
    def count(outcome: str) -> float:
        labels = {"outcome": outcome}
        return REGISTRY.get_sample_value("sana_gateway_moderation_checks_total", labels) or 0.0

    outcomes = ("allowed", "refused", "unanswered_refuse")
    before = [count(each) for each in outcomes]
    question = Question(WORD, "b", "c", "d")
    for moderator in (Judge(), Judge(WORD), Broken(1)):
        await Moderation(moderator).refusal(question)
    assert [count(each) for each in outcomes] == [each + 1 for each in before]


def test_a_question_does_not_show_its_prompt() -> None:
    assert WORD not in repr(Question(WORD, "b", "c", "d"))
    assert WORD not in repr(Verdict(allowed=False, reason=WORD))
